"""Writing of archive members: the only code that writes files under names from outside.

Nothing is written outside the folder given, through a link, or over a file that is there; links are made last, and only
where they lead to something inside.
"""

import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from us43d.errors import ArchiveError, DamagedArchive
from us43d.rawtree import CONTROL

__all__ = ["CHUNK", "Limits", "Progress", "Sink", "Tree", "decoded", "damaged"]

#: Bytes handled at a time.
CHUNK = 1 << 20
#: (bytes of the archives gone through, bytes of the archives).
Progress = Callable[[int, int], None]
Kind = Literal["folder", "file", "link"]

_CHINESE = re.compile(rb"(?:[\x00-\x7f]|[\xa1-\xfe][\xa1-\xfe])*")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may unpack to, bounds that no source comes near.

    ratio: bytes unpacked for each byte of the archives. free: bytes it may always unpack to, whatever the ratio.
    total: bytes in all. members: files, folders and links in all, those of inner archives included. depth: levels of
    archives inside archives. folders: levels of folders above a member.
    """

    ratio: float = 200.0
    free: int = 1 << 30
    total: int = 1 << 41
    members: int = 2_000_000
    depth: int = 4
    folders: int = 100


def decoded(raw: bytes) -> str:
    """Return a name that does not say its encoding: UTF-8, else Chinese (GBK), else the cp437 of the ZIP specification.

    Chinese is taken where every byte above 127 is of a pair with both in A1–FE, which accented letters in cp437 are
    not. Raises nothing: cp437 has a character for every byte.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if _CHINESE.fullmatch(raw):
        with suppress(UnicodeDecodeError):
            return raw.decode("gbk")
    return raw.decode("cp437")


def damaged(archive: str, reason: str, member: str | None = None) -> ArchiveError:
    return refusal(archive, reason, member, kind=DamagedArchive)


def refusal(
    archive: str, reason: str, member: str | None = None, *, next: str = "", kind: type[ArchiveError] = ArchiveError
) -> ArchiveError:
    where = archive if member is None else f"{archive}, member {_shown(member)}"
    return kind(f"{where}: {reason}.", disk="Nothing was put under its final name.", next=next)


def _shown(name: str) -> str:
    """Return a name as it can be printed, shortened in the middle."""
    safe = repr(name)
    return safe if len(safe) <= 160 else f"{safe[:90]} … {safe[-60:]}"


class Tree:
    """The folder being filled, and what was put there."""

    def __init__(self, root: Path, limits: Limits, packed: int, progress: Progress | None) -> None:
        """packed: bytes of the archives."""
        self.root, self.limits = root, limits
        self.given = packed
        self.budget = min(limits.total, max(limits.free, int(limits.ratio * packed)))
        self.members = self.written = 0
        self.gone, self.packed, self.progress = 0, packed, progress
        self.fresh: list[str] = []
        self.remarks: list[str] = []
        self._names: dict[str, tuple[str, Kind, int]] = {}
        self._folders = {""}
        self._archives = 0

    def sink(self, archive: str, base: str = "") -> "Sink":
        """Return the sink of one archive: the folder `base` of the tree."""
        self._archives += 1
        return Sink(self, archive, base, self._archives)

    def advance(self, count: int) -> None:
        """Count bytes of the archives that were read."""
        self.gone = min(self.gone + count, self.packed)
        if self.progress is not None:
            self.progress(self.gone, self.packed)

    def expect(self, count: int) -> None:
        """Count bytes of an inner archive that will be read."""
        self.packed += count

    def forget(self, name: str) -> None:
        """Forget `name`, which was moved."""
        self._names.pop(_folded(name), None)

    def claim(self, name: str, kind: Kind, by: int) -> bool:
        """Note a path and the folders above it. False: another archive has put the same kind of thing there.

        Raises ValueError with the reason why it cannot be there.
        """
        above = posixpath.dirname(name)
        if above not in self._folders:
            self.claim(above, "folder", by)  # `Sink._path` bounds the depth
        folded = _folded(name)
        existing = self._names.get(folded)
        if existing is None:
            self._names[folded] = (name, kind, by)
        elif existing[0] != name:
            raise ValueError(f"its name differs from {_shown(existing[0])} only in upper and lower case or accents")
        elif existing[1] != kind:
            raise ValueError(f"a {existing[1]} has the same name")
        elif kind != "folder" and existing[2] == by:
            raise ValueError("the archive holds it twice")
        if kind == "folder":
            if name not in self._folders:
                (self.root / name).mkdir(exist_ok=True)
                self._folders.add(name)
            return True
        return existing is None

    def is_file(self, name: str, by: int) -> bool:
        return self._names.get(_folded(name)) == (name, "file", by)


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


class Sink:
    """What a format's reader tells about its members. Every method raises ArchiveError."""

    def __init__(self, tree: Tree, archive: str, base: str, number: int) -> None:
        self.archive = archive
        self.limits = tree.limits
        self.advance = tree.advance
        self._tree, self._base, self._number = tree, base, number
        self._links: list[tuple[str, str, str]] = []

    def refuse(self, reason: str, member: str | None = None, *, next: str = "") -> ArchiveError:
        return refusal(self.archive, reason, member, next=next)

    def damaged(self, reason: str, member: str | None = None) -> ArchiveError:
        return damaged(self.archive, reason, member)

    def remark(self, what: str) -> None:
        """Add a remark on an archive that is read nevertheless."""
        self._tree.remarks.append(f"{self.archive}: {what}")

    def too_many(self, count: int) -> ArchiveError:
        return self.refuse(f"it lists {count:,} members, more than the {self.limits.members:,} that are unpacked")

    def _counted(self) -> None:
        self._tree.members += 1
        if self._tree.members > self.limits.members:
            raise self.refuse(f"it has more than the {self.limits.members:,} members that are unpacked")

    def spend(self, count: int, member: str | None = None) -> None:
        """Count bytes that were, or would be, unpacked."""
        self._tree.written += count
        if self._tree.written > self._tree.budget:
            raise self.refuse(
                f"it unpacks to more than {self._tree.budget:,} bytes, the most for archives of "
                f"{self._tree.given:,} bytes",
                member,
                next="open the archive with another program; if its content is right, unpack it and use --from FOLDER",
            )

    def _path(self, member: str) -> str:
        """Return the member's path below the tree's root, "" for its own top folder."""
        name = member.replace("\\", "/")
        if name.startswith("/") or re.match(r"[A-Za-z]:", name):
            raise self.refuse("its name is an absolute path", member)
        # The desktop of macOS leaves it; it is ignored under either name.
        name = re.sub(r"(?<![^/])Icon\r\Z", "._Icon", name)
        parts = [segment for segment in name.split("/") if segment not in ("", ".")]
        if ".." in parts:
            raise self.refuse("its name leads out of the folder", member)
        if CONTROL.search(name):
            raise self.refuse("its name has control characters", member)
        if len(parts) > self.limits.folders:
            raise self.refuse(f"it lies in more than {self.limits.folders} folders", member)
        try:
            if any(len(segment.encode("utf-8")) > 255 for segment in parts) or len(name.encode("utf-8")) > 2048:
                raise self.refuse("its name is too long", member)
        except UnicodeEncodeError:
            raise self.refuse("its name is not text", member) from None
        return posixpath.join(self._base, *parts) if parts else ""

    def _claim(self, member: str, name: str, kind: Kind) -> bool:
        try:
            return self._tree.claim(name, kind, self._number)
        except ValueError as error:
            raise self.refuse(str(error), member) from None

    def check(self, member: str) -> None:
        """Refuse a name that cannot be used, before anything is unpacked."""
        self._path(member)

    def folder(self, member: str) -> None:
        self._counted()
        if name := self._path(member):
            self._claim(member, name, "folder")

    @contextmanager
    def file(self, member: str, size: int | None) -> Iterator[Callable[[bytes | bytearray], object]]:
        """Open a file; yields the function that writes its bytes. size: expected bytes, None if unknown."""
        self._counted()
        name = self._path(member)
        if not name:
            raise self.refuse("it has no name", member)
        if size is not None and self._tree.written + size > self._tree.budget:
            self.spend(size, member)
        target = self._tree.root / name
        tree, count = self._tree, 0
        new = self._claim(member, name, "file") and not target.exists()
        if new:
            tree.fresh.append(name)
        file: BinaryIO = target.open("xb" if new else "rb")

        def write(data: bytes | bytearray) -> None:
            nonlocal count
            count += len(data)
            self.spend(len(data), member)
            if new:
                file.write(data)
            elif file.read(len(data)) != data:
                raise self.refuse("it differs from the file of that name from another archive", member)

        with file:
            yield write
            if size is not None and count != size:
                raise self.damaged(f"it has {count:,} bytes where {size:,} are announced", member)
            if not new and file.read(1):
                raise self.refuse("it differs from the file of that name from another archive", member)

    def link(self, member: str, target: str) -> None:
        """Note a symbolic link, which is made at the end of the archive."""
        self._counted()
        name = self._path(member)
        lexical = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        if not target or len(target.encode("utf-8", "surrogateescape")) > 1024 or CONTROL.search(target):
            raise self.refuse(f"it is a link to {_shown(target)}, which is not a valid path", member)
        if not name or posixpath.isabs(target) or "\\" in target or lexical.split("/")[0] == "..":
            raise self.refuse(f"it is a link out of the folder, to {_shown(target)}", member)
        self._claim(member, name, "link")
        self._links.append((member, name, target))

    def hard_link(self, member: str, target: str) -> None:
        """Add a second name of a file that precedes it in the archive."""
        self._counted()
        name, to = self._path(member), self._path(target)
        if not name or not self._tree.is_file(to, self._number):
            raise self.refuse(f"it is a link to {_shown(target)}, which is not a file before it in the archive", member)
        if self._claim(member, name, "file"):
            self._tree.fresh.append(name)
            os.link(self._tree.root / to, self._tree.root / name, follow_symlinks=False)

    def close(self) -> None:
        """Make the links that were put off, and see that each leads to something inside."""
        root = self._tree.root
        for _, name, target in self._links:
            (root / name).symlink_to(target)
        inside = Path(os.path.realpath(root))
        try:
            for member, name, target in self._links:
                if not Path(os.path.realpath(root / name)).is_relative_to(inside):
                    raise self.refuse(f"it is a link out of the folder, to {_shown(target)}", member)
                try:
                    (root / name).stat()
                except FileNotFoundError:
                    pass
                except OSError as error:
                    raise self.refuse(f"it is a link in a circle, to {_shown(target)}", member) from error
        except ArchiveError:
            for _, name, _ in self._links:
                (root / name).unlink()
            raise
