"""From an exception to an exit code and three lines: what is wrong, what became of the disk, what to do next."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from us43d.errors import StorageError, Us43dError

__all__ = ["EXIT_CODES", "Failure", "Interrupted", "debugging", "failure"]

#: Exit code → what it means; the same for every verb.
EXIT_CODES = {
    0: "done",
    1: "a known failure",
    2: "the command was not understood",
    3: "some of the sources failed",
    4: "a licence was not accepted, or files are missing that only a person can get",
    70: "a bug in us43d",
    130: "interrupted",
}


class Interrupted(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C."""


class Failure(NamedTuple):
    """What the user is told. kind: name of the exception, for programs."""

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
    return Failure(error.exit_code, type(error).__name__, error.what, error.disk, error.next)


def _interrupted(error: KeyboardInterrupt, kept: str) -> Failure:
    what = "Asked to stop." if isinstance(error, Interrupted) else "Interrupted."
    return Failure(130, "Interrupted", what, kept, "the same command again")


def _no_memory(error: MemoryError, kept: str) -> Failure:
    return Failure(1, "MemoryError", "The machine has too little free memory for this.", kept, "us43d doctor")


def _no_module(error: ModuleNotFoundError, kept: str) -> Failure | None:
    module = (error.name or "").partition(".")[0]
    if module not in _EXTRAS:
        return None
    extra = _EXTRAS[module]
    what = f"This needs the package {module}, which comes with the extra {extra!r}."
    return Failure(1, "MissingExtra", what, "Nothing was changed on disk.", f"pip install 'us43d[{extra}]'")


def _storage(error: OSError, kept: str) -> Failure | None:
    from us43d.atomic import storage_errors  # has the table of what the system complains about

    try:
        with storage_errors(Path(error.filename or "The disk"), kept):
            raise error
    except StorageError as found:
        return _known(found, kept)
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
    """The failure an exception stands for. kept: what an interrupted run of this verb leaves on disk."""
    for kind, make in _TABLE:
        if isinstance(error, kind) and (found := make(error, kept)) is not None:
            return found
    message = f"{type(error).__name__}: {error}".strip().rstrip(":")
    command = " ".join(["us43d", *sys.argv[1:]])
    return Failure(
        70,
        "Bug",
        f"This is a bug in us43d ({message}).",
        kept,
        f"US43D_DEBUG=1 {command}   shows the traceback; please report it with the output of us43d doctor",
    )


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("US43D_DEBUG", "") not in ("", "0")
