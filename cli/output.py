"""Where a verb's words go: results to stdout, as a table or as JSON; progress and messages to stderr."""

import dataclasses
import datetime
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pydantic import BaseModel

from us43d.paths import Home

from .tables import Table, draw

if TYPE_CHECKING:
    from .progress import Bars

__all__ = ["Progress", "Session", "plain"]

Progress = Callable[[int, int | None], None]


def plain(value: Any) -> Any:
    """Convert a value to JSON types: models and dataclasses to objects, NaN and infinity to null."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json", exclude={"read", "read_paper"}))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path | datetime.date):
        return str(value)
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if hasattr(value, "tolist"):  # numpy
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _printable(text: str) -> str:
    """Text whose characters do not command a terminal: names and words of others reach it. Our own bold stays."""
    return re.sub(r"(?!\x1b\[[01](?:;31)?m)[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda m: f"\\x{ord(m[0]):02x}", text)


def _width() -> int:
    """Return the columns of the screen, or 120 in a file or pipe; COLUMNS overrides both."""
    return shutil.get_terminal_size((120, 24)).columns


def _coloured(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


class Session:
    """One run of one verb: where it works and how it speaks."""

    def __init__(self, home: Path | None, *, as_json: bool, quiet: bool) -> None:
        self.home = Home.find(home)
        self.as_json = as_json
        self.quiet = quiet
        self.answered = False
        self._bars: Bars | None = None

    @property
    def asks(self) -> bool:
        """Whether a person is there to be asked."""
        return sys.stdin.isatty() and sys.stderr.isatty() and not self.as_json

    def say(self, text: str) -> None:
        """Print a message on stderr, unless --quiet is given."""
        if not self.quiet:
            self._write(text)

    def warn(self, text: str) -> None:
        """Print a warning on stderr, also with --quiet."""
        self._write(text)

    def fail(self, text: str) -> None:
        """Print the message of a failure, its first line in red where the terminal has colours."""
        first, *rest = text.split("\n")
        self._write("\n".join([f"\x1b[1;31m{first}\x1b[0m" if _coloured(sys.stderr) else first, *rest]))

    def _write(self, text: str) -> None:
        text = _printable(text)
        if self._bars is not None and self._bars.running:
            self._bars.above(text)
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def answer(self, data: Any, *shown: str | Table) -> None:
        """Print the result of the verb on stdout: `data` with --json, else text and tables.

        A reader that closes the pipe early ends the output, not the work.
        """
        self.answered = True
        try:
            if self.as_json:
                sys.stdout.write(json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
            else:
                bold = _coloured(sys.stdout)
                for block in shown:
                    text = block if isinstance(block, str) else draw(block, _width(), bold=bold)
                    sys.stdout.write(f"{_printable(text)}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # Python flushes stdout once more at exit; give it a place where that succeeds.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    @contextmanager
    def progress(self, what: str, unit: str = "images") -> Iterator[Progress]:
        """Show a progress bar on stderr with rate and remaining time; yields the function that advances it.

        unit "B" counts bytes. Several may run at once, from several threads.
        """
        if self.quiet or not sys.stderr.isatty():
            yield lambda done, total: None
            return
        from .progress import Bars

        if self._bars is None:
            self._bars = Bars()
        with self._bars.bar(what, unit) as move:
            yield move
