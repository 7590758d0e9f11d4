"""Exit codes and messages of at most three lines: the problem, the state of the disk, the next command."""

import itertools
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from us43d.errors import StorageError, Us43dError

__all__ = ["Failure", "Interrupted", "as_comment", "debugging", "failure"]


class Interrupted(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C."""


class Failure(NamedTuple):
    """A failure as it is printed.

    Attributes:
        code: Exit code.
        kind: Name of the exception, for programs.
        what: The problem, with the value and the place.
        disk: The changes on disk.
        next: A command to run next; empty if unknown.
    """

    code: int
    kind: str
    what: str
    disk: str
    next: str

    def __str__(self) -> str:
        return "\n".join(line for line in (self.what, self.disk, f"Next: {self.next}" if self.next else "") if line)


#: Module that is missing → the extra that brings it.
_EXTRAS = {
    "torch": "train", "safetensors": "train", "faster_coco_eval": "train", "pydicom": "train", "scipy": "train",
    "kaggle": "hosts",
    "py7zr": "archives", "rarfile": "archives", "dask": "dask",
    "distributed": "dask", "fsspec": "export", "s3fs": "export", "datasets": "export", "highdicom": "export",
}  # fmt: skip


def _known(error: Us43dError, kept: str) -> Failure:
    return Failure(error.exit_code, type(error).__name__, error.what, error.disk, _spelled(error.next))


def as_comment(step: str) -> str:
    """Return a next step as a shell runs it: in the home of this run, its remark after three spaces as a comment."""
    remark = re.search(r"   (?:\((.*)\)|# (.*))$", step)
    line = step[: remark.start()] if remark else step
    if line.startswith("us43d ") and not {"--home", "--help"} & set(line.split()):
        line += _home()
    return f"{line}   # {remark[1] or remark[2]}" if remark else line


def _home() -> str:
    """Return the --home of the command line of this run, as words to append."""
    words = sys.argv[1:]
    chosen = [value for word, value in itertools.pairwise(words) if word == "--home"]
    chosen += [word.removeprefix("--home=") for word in words if word.startswith("--home=")]
    return f" --home {shlex.quote(chosen[-1])}" if chosen else ""


#: A next step that is the command of this run with changes; a remark may follow after three spaces.
_SAME = re.compile(
    r"the same(?: command)?(?: again)?(?: without (?P<less>.+?))?(?: with (?P<more>.+?))?(?: in place of (?P<old>.+?))?"
    r"(?P<remark>   \(.*\))?"
)


def _spelled(step: str) -> str:
    """Return a next step with "the same command …" replaced by the command line of this run, its remark as a comment.

    Args:
        step: A command, or "the same", "the same command again", "the same with WORDS", "the same without WORDS with
            WORDS", "the same with WORDS in place of WORDS", with words as a shell reads them. An option that the
            command line has already gets the new value.
    """
    match = _SAME.fullmatch(step)
    if match is None:
        return as_comment(step)
    words = sys.argv[1:]
    less, more, old = (shlex.split(match[name] or "") for name in ("less", "more", "old"))
    if old:
        at = 0
        for word, new in zip(old, more, strict=True):
            at = next((n for n in range(at, len(words)) if Path(words[n]) == Path(word)), len(words))
            words[at : at + 1] = [new]
            at += 1
    else:
        _take_out(words, less)
        _take_out(words, more)
        words += more
    return shlex.join(["us43d", *words]) + as_comment(match["remark"] or "")


def _take_out(words: list[str], changed: list[str]) -> None:
    """Remove the options in `changed` from a command line, with their values if they have values there."""
    for option, value in itertools.zip_longest(changed, changed[1:], fillvalue="--"):
        name, equals, _ = option.partition("=")
        valued = not equals and not value.startswith("--")
        for n, word in enumerate(words):
            if option.startswith("--") and (word == name or word.startswith(f"{name}=")):
                del words[n : n + 1 + (word == name and (valued or bool(equals)))]
                break


def _interrupted(error: KeyboardInterrupt, kept: str) -> Failure:
    what = "Stopped by a signal." if isinstance(error, Interrupted) else "Interrupted."
    return Failure(130, "Interrupted", what, kept, _spelled("the same command again"))


def _no_memory(error: MemoryError, kept: str) -> Failure:
    return Failure(1, "MemoryError", "Not enough free memory.", kept, "us43d doctor")


def _no_module(error: ModuleNotFoundError, kept: str) -> Failure | None:
    module = (error.name or "").partition(".")[0]
    if module not in _EXTRAS:
        return None
    extra = _EXTRAS[module]
    what = f"Missing package {module}. It is part of the extra {extra!r}."
    return Failure(1, "MissingExtra", what, "Nothing was changed on disk.", f"pip install 'us43d[{extra}]'")


def _storage(error: OSError, kept: str) -> Failure | None:
    from us43d.atomic import storage_errors  # has the table of what the system complains about

    try:
        with storage_errors(Path(error.filename or "The disk"), kept):
            raise error
    except StorageError as storage:
        return _known(storage, kept)
    except OSError:
        return None


#: Exception → its failure, the first that fits; one that answers None passes the exception on to the next.
_TABLE: tuple[tuple[type[BaseException], Callable[..., Failure | None]], ...] = (
    (Us43dError, _known),
    (KeyboardInterrupt, _interrupted),
    (MemoryError, _no_memory),
    (ModuleNotFoundError, _no_module),
    (OSError, _storage),
)


def failure(error: BaseException, kept: str) -> Failure:
    """Return the failure to print for an exception.

    Args:
        error: The exception.
        kept: What an interrupted run of this verb leaves on disk.
    """
    for kind, make in _TABLE:
        if isinstance(error, kind) and (known := make(error, kept)) is not None:
            return known
    message = f"{type(error).__name__}: {error}".strip().rstrip(":")
    command = shlex.join(["us43d", *sys.argv[1:]])
    return Failure(
        70,
        "Bug",
        f"This is a bug in us43d ({message}).",
        kept,
        f"US43D_DEBUG=1 {command}   # shows the traceback; please report it with the output of us43d doctor",
    )


def debugging() -> bool:
    """Return whether US43D_DEBUG asks for tracebacks."""
    return os.environ.get("US43D_DEBUG", "") not in ("", "0")
