"""Archives in several files: which belong together, and reading them as one."""

import io
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from us43d.fetch.place import damaged, refusal

__all__ = ["Parts", "Set", "alike", "completed", "is_part", "opened", "sets"]

_SPAN = re.compile(r"(?P<stem>.+)\.z(?P<number>\d{2,3})(?:\.zip)?", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<stem>.+\.\w+)\.(?P<number>\d{3})", re.IGNORECASE)
_VOLUME = re.compile(r"(?P<stem>.+)\.part(?P<number>\d+)\.rar", re.IGNORECASE)
_OLD_VOLUME = re.compile(r"(?P<stem>.+)\.r(?P<number>\d{2})", re.IGNORECASE)


class Set(NamedTuple):
    """The files of one archive in order.

    kind "spanned": a zip in disks; "headless": the disks of one whose last is inside a zip of its own beside them;
    "volumes": RAR; "split": bytes cut through; "single": one file.
    """

    kind: str
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        return (self.files[-1] if self.kind == "spanned" else self.files[0]).name


class Parts(io.RawIOBase):
    """Several files read as one. starts: where each begins, and at last the size of all. on_read: told each count."""

    def __init__(self, files: Sequence[Path], on_read: Callable[[int], None] | None = None) -> None:
        self.starts = [0]
        for file in files:
            self.starts.append(self.starts[-1] + file.stat().st_size)
        self._files, self._on_read = files, on_read
        self._at, self._which = 0, -1
        self._open: io.FileIO | None = None

    @property
    def size(self) -> int:
        return self.starts[-1]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError("a position before the file")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        if self._at >= self.size:
            return 0
        which = bisect_right(self.starts, self._at) - 1
        if which != self._which or self._open is None:
            if self._open is not None:
                self._open.close()
            self._open, self._which = io.FileIO(self._files[which]), which
        self._open.seek(self._at - self.starts[which])
        count = self._open.readinto(buffer) or 0
        self._at += count
        if self._on_read is not None:
            self._on_read(count)
        return count

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        super().close()


def opened(files: Sequence[Path], on_read: Callable[[int], None] | None = None) -> io.BufferedReader:
    """Return the files as one stream with a buffer."""
    return io.BufferedReader(Parts(files, on_read), 1 << 17)


def is_part(path: Path) -> bool:
    """Return whether the name is that of a part of a spanned zip, but not of its last one."""
    return _SPAN.fullmatch(path.name) is not None


def alike(path: Path, other: Path) -> bool:
    """Return whether two files beside each other may be parts of one archive, by the begin of their names."""
    return path.name.split(".")[0].lower() == other.name.split(".")[0].lower()


def sets(archives: Iterable[Path], disks: Callable[[Path], int | None]) -> list[Set]:
    """Put together the files that are one archive, in the order of their first names.

    disks: how many parts come before a file that is the last of a spanned zip; None for any other file.
    Raises ArchiveError where a part is missing.
    """
    left = sorted(set(archives))
    collected: list[Set] = []
    for kind, pattern, first in (("spanned", _SPAN, 1), ("split", _NUMBERED, 1), ("volumes", _VOLUME, 1)):
        for (folder, stem), parts in _grouped(left, pattern).items():
            files, last = _complete(stem, parts, first), None
            if kind == "spanned":
                if disks(files[0]) == 0:  # each is a whole zip around one part
                    continue
                last = _last(folder, stem, files, left, disks)
                collected.append(Set("spanned", (*files, last)) if last else Set("headless", tuple(files)))
            else:
                collected.append(Set(kind, tuple(files)))
            left = [path for path in left if path not in (*files, last)]
    for (folder, stem), parts in _grouped(left, _OLD_VOLUME).items():
        main = next((p for p in left if p.parent == folder and p.name.lower() == f"{stem}.rar"), None)
        if main is None:
            raise refusal(f"{stem}.r{min(parts):02}", f"{stem}.rar, the first part of the archive, is missing")
        files = [main, *_complete(stem, parts, 0)]
        collected.append(Set("volumes", tuple(files)))
        left = [path for path in left if path not in files]
    for path in left:
        if count := disks(path):
            raise refusal(path.name, f"it is the last of a zip in {count + 1} parts, and the others are missing")
        collected.append(Set("single", (path,)))
    return sorted(collected, key=lambda archive_set: archive_set.files[0])


def completed(archives: Iterable[Path], disks: Callable[[Path], int | None]) -> list[Path]:
    """Return files together with the other parts of their archives that lie beside them, as `sets` finds these."""
    chosen = set(archives)
    beside = set[Path]()
    for one in chosen:
        with suppress(OSError):  # a folder that may be entered, but not listed
            beside.update(path for path in one.parent.iterdir() if alike(path, one) and path.is_file())
    whole = (archive.files for archive in sets(chosen | beside, disks))
    return sorted({path for files in whole if chosen & set(files) for path in files})


def _grouped(paths: Iterable[Path], pattern: re.Pattern[str]) -> dict[tuple[Path, str], dict[int, Path]]:
    groups: dict[tuple[Path, str], dict[int, Path]] = {}
    for path in paths:
        if match := pattern.fullmatch(path.name):
            groups.setdefault((path.parent, match["stem"].lower()), {})[int(match["number"])] = path
    return groups


def _complete(stem: str, parts: dict[int, Path], first: int) -> list[Path]:
    for number in range(first, max(parts) + 1):
        if number not in parts:
            beside = parts[min(parts)].name
            raise refusal(beside, f"part {number} of {stem} is missing; {len(parts)} others are here")
    return [parts[number] for number in sorted(parts)]


def _last(
    folder: Path, stem: str, parts: list[Path], left: list[Path], disks: Callable[[Path], int | None]
) -> Path | None:
    """Return the last part of a spanned zip, whatever it was renamed to. None: a zip beside it may hold it."""
    beside = [
        path
        for path in left
        if path.parent == folder and path.name.lower().startswith(f"{stem}.") and path not in parts
    ]
    for path in beside:
        count = disks(path)
        if count == len(parts):
            return path
        if count == 0:
            return None
        if count:
            raise refusal(path.name, f"it is the last of a zip in {count + 1} parts, but {len(parts)} parts are here")
    if beside:
        raise damaged(beside[0].name, f"it is not the last part of the spanned zip {parts[0].name}, or is truncated")
    raise refusal(parts[0].name, f"it is part of a spanned zip whose last part, {stem}.zip, is missing")
