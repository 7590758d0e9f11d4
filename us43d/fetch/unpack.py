"""Unpacking of untrusted archives, into a folder that the caller renames after success.

What an archive is, its first bytes say, not its name. Members are written one at a time by `us43d.fetch.place`, which
lets nothing out of the folder; a truncated, encrypted or hostile archive is an ArchiveError that names it, the member
and the reason.
"""

import fnmatch
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from us43d.atomic import link_or_copy
from us43d.fetch import foreign, tars, zips
from us43d.fetch.parts import Set, alike, is_part, sets
from us43d.fetch.place import Limits, Progress, Sink, Tree, damaged, refusal

__all__ = ["Limits", "Progress", "is_nested", "unpack"]


def unpack(
    archives: Sequence[Path],
    into: Path,
    *,
    nested: Sequence[str] = (),
    present: Sequence[str] = (),
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Unpack archives into the folder `into`, which exists and belongs to the caller; after an error it is incomplete.

    Files that belong to one archive (z01 … zip, part1.rar …, .001 …) are put together. A file that two archives hold
    must be the same in both. nested: patterns (fnmatch on the path below `into`, no regard to case) of archives inside
    them, which are unpacked where they lie and removed; where a pattern ends in "/", into a folder of the archive's own
    name, as archives may hold files of the same names. present: paths of files that are in `into` before, among which
    there may be such archives, too. Returns remarks on archives that were read all the same.
    Raises ArchiveError, and OSError where the disk fails.
    """
    packed = sum(path.stat().st_size for path in {*archives, *(into / name for name in present)})
    tree = Tree(into, limits, packed, progress)
    tree.fresh += present
    for archive in sets(archives, zips.disks_before):
        if archive.kind == "headless":  # their last part comes out of another archive, and is found by `nested`
            for file in archive.files:
                link_or_copy(file, into / file.name)
        else:
            _one(archive, tree, "", archive.name)
    for depth in range(limits.depth + 1):
        fresh, tree.fresh = tree.fresh, []
        names = sorted(name for name in fresh if is_nested(name, nested))
        if not names:
            break
        if depth == limits.depth:
            raise refusal(names[0], f"archives lie inside archives more than {limits.depth} levels deep")
        _inner(names, tree, [pattern for pattern in nested if pattern.endswith("/")])
    return tuple(tree.remarks)


def is_nested(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a path matches one of the patterns for archives inside archives, without regard to case."""
    matches = any(fnmatch.fnmatchcase(name.lower(), pattern.rstrip("/").lower()) for pattern in patterns)
    # macOS puts files beside others, of the same name but with other content.
    forked = name.rpartition("/")[2].startswith("._") or "__macosx/" in name.lower()
    return matches and not forked


def _inner(names: list[str], tree: Tree, apart: Sequence[str]) -> None:
    """Unpack archives of the tree, together with the other parts of theirs, where they lie.

    apart: patterns of those that are unpacked into a folder of their own name.
    """
    wanted = {tree.root / name for name in names}
    beside = {path for first in wanted for path in first.parent.iterdir() if path.is_file() and alike(path, first)}
    # Hosts wrap single files in zips of their own, parts of an archive among them, which no pattern names.
    whole = {path for path in beside if (path in wanted or is_part(path)) and zips.disks_before(path) == 0}
    chosen = [Set("single", (path,)) for path in sorted(whole)]
    if wanted - whole:
        chosen += [archive for archive in sets(beside - whole, zips.disks_before) if wanted & set(archive.files)]
    for number, archive in enumerate(chosen):
        # Moved aside, so that an archive may hold a file of its own name.
        aside = tree.root / f".us43d-inner-{number}"
        aside.mkdir()
        folder = archive.files[0].parent.relative_to(tree.root)
        place = folder / archive.name
        base = "" if folder == Path() else folder.as_posix()
        into = place.with_suffix("").as_posix() if is_nested(place.as_posix(), apart) else base
        for file in archive.files:
            tree.forget(file.relative_to(tree.root).as_posix())
            tree.expect(file.stat().st_size)
            file.rename(aside / file.name)
        moved = Set(archive.kind, tuple(aside / file.name for file in archive.files))
        _one(moved, tree, into, place.as_posix())
        shutil.rmtree(aside)


def _one(archive: Set, tree: Tree, base: str, name: str) -> None:
    sink = tree.sink(name, base)
    _reader(archive, name)(archive.files, sink)
    sink.close()


def _reader(archive: Set, name: str) -> Callable[[Sequence[Path], Sink], None]:
    """Return the format by the first bytes."""
    with archive.files[0].open("rb") as file:
        head = file.read(512)
    if archive.kind == "spanned" or head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"PK00PK\x03\x04")):
        return zips.unpack
    if head.startswith((b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00")):
        return foreign.unpack_rar
    if head.startswith(b"7z\xbc\xaf\x27\x1c"):
        return foreign.unpack_7z
    if head.startswith(tuple(tars.COMPRESSED)) or head[257:262] == b"ustar" or _old_tar(head):
        return tars.unpack
    if not head:
        raise damaged(name, "it is empty")
    if archive.kind == "single" and zips.disks_before(archive.files[0]) == 0:  # a prefix before the archive
        return zips.unpack
    if re.match(rb"\s*(<!doctype|<html|<\?xml)", head, re.IGNORECASE):
        raise damaged(name, "it is a web page, not an archive")
    raise damaged(name, f"it is not a zip, tar, RAR or 7z archive; it begins with {head[:8]!r}")


def _old_tar(head: bytes) -> bool:
    """Return a header from before POSIX, by its checksum."""
    field = head[148:156].strip(b"\0 ")
    if len(head) < 512 or not re.fullmatch(rb"[0-7]+", field):
        return False
    return int(field, 8) == sum(head[:148]) + 8 * 0x20 + sum(head[156:])
