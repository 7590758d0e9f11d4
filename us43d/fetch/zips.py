"""Zip, read member by member: stored, deflated and rarer methods, zip64, spanned over several files.

Python's own zipfile reads the whole directory before one can look at its length, and no spanned archive.
Layout: PKWARE's APPNOTE 6.3.
"""

import bz2
import importlib
import lzma
import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from us43d.fetch.parts import opened
from us43d.fetch.place import CHUNK, Limits, Sink, Tree, decoded

__all__ = ["disks_before", "names", "unpack"]

_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_FULL = 0xFFFFFFFF
_TAIL = 22 + 0xFFFF + 20 + 56
#: Maximum of bytes before an archive or after its end, as servers and programs leave them there.
_MOST_AROUND = 1 << 20
_NAMES = {1: "Shrink", 6: "Implode", 93: "Zstandard", 95: "xz", 97: "WavPack", 98: "PPMd", 99: "AES"}


class _End(NamedTuple):
    """The end record. disk: number of the last disk, from 0. at: where the record begins, in the last file.

    stop: where it ends.
    """

    disk: int
    directory_disk: int
    entries: int
    size: int
    offset: int
    at: int
    zip64: bool
    stop: int


class _Entry(NamedTuple):
    name: str
    method: int
    flags: int
    crc: int
    packed: int
    size: int
    disk: int
    offset: int
    mode: int
    is_folder: bool


def disks_before(path: Path) -> int | None:
    """Return the number of disks before this one, if it is the last of a zip; None if it is not the end of a zip."""
    with opened([path]) as file:
        end = _find_end(file, path.stat().st_size)
    return None if end is None else end.disk


def _find_end(file: BinaryIO, size: int, *, behind: int = 0) -> _End | None:
    """Return the end record, behind which at most `behind` bytes may stand."""
    begin = max(0, size - _TAIL - behind)
    file.seek(begin)
    tail = file.read(size - begin)
    at = len(tail) - 21
    while (at := tail.rfind(_END, 0, at + 3)) >= 0:
        disk, directory_disk, _, count, length, offset, comment = struct.unpack("<4H2LH", tail[at + 4 : at + 22])
        if 0 <= len(tail) - (at + 22 + comment) <= behind:
            break
    else:
        return None
    locator = tail[at - 20 : at] if at >= 20 else b""
    if locator[:4] != _LOCATOR:
        return _End(disk, directory_disk, count, length, offset, begin + at, False, begin + at + 22 + comment)
    record = tail[max(0, at - 76) : at - 20]
    if len(record) < 56 or record[:4] != _END64:
        return None
    disk, directory_disk, _, count, length, offset = struct.unpack("<2L4Q", record[16:56])
    return _End(disk, directory_disk, count, length, offset, begin + at - 76, True, begin + at + 22 + comment)


def names(path: Path) -> Iterator[str]:
    """Return the entries in the directory of a zip in one file. Raises ArchiveError for another format or damage."""
    tree = Tree(path.parent, Limits(), 0, None)
    sink = tree.sink(path.name)
    with opened([path]) as file:
        end = _find_end(file, path.stat().st_size) or _find_end(file, path.stat().st_size, behind=_MOST_AROUND)
        if end is None or end.disk or end.size > end.at:
            raise sink.damaged("it is not a zip archive in one piece")
        if end.entries > sink.limits.members:
            raise sink.too_many(end.entries)
        for entry in _entries(file, end.at - end.size, end, sink):
            if not entry.is_folder:
                yield entry.name


def unpack(files: Sequence[Path], sink: Sink) -> None:
    """Unpack a zip that lies in these files. Raises ArchiveError."""
    with opened(files, sink.advance) as data, opened(files) as directory:
        starts = data.raw.starts  # type: ignore[attr-defined]
        end = _find_end(directory, starts[-1]) or _find_end(directory, starts[-1], behind=_MOST_AROUND)
        if end is None:
            raise sink.damaged("its end is missing; it is truncated")
        if end.disk not in (0, len(files) - 1):
            raise sink.refuse(f"it is the last of a zip in {end.disk + 1} parts, and {len(files)} are here")
        if end.entries > sink.limits.members:
            raise sink.too_many(end.entries)
        if end.disk and end.directory_disk > end.disk:
            raise sink.damaged("its end is damaged")
        begin = end.at - end.size
        stated = end.offset + (starts[end.directory_disk] if end.disk else 0)
        # Above 4 GiB the archiver of macOS writes offsets modulo 2³² instead of zip64.
        front = 0
        if begin < 0 or (begin != stated if end.zip64 else (begin - stated) % (1 << 32)):
            front = _in_front(directory, begin - stated, end)
            if not front:
                raise sink.damaged("its directory is not where its end says; it is truncated or damaged")
            sink.remark(f"{front:,} bytes before the archive were ignored")
        if behind := starts[-1] - end.stop:
            sink.remark(f"{behind:,} bytes after its end were ignored")
        count = wraps = before = 0
        for entry in _entries(directory, begin, end, sink):
            if not end.disk and not end.zip64 and end.at > _FULL:
                wraps += entry.offset + (wraps << 32) < before
                before = entry.offset + (wraps << 32)
            if end.disk and entry.disk > end.disk:
                raise sink.damaged("its directory names a part that does not exist", entry.name)
            at = front + entry.offset + (starts[entry.disk] if end.disk else wraps << 32)
            _one(data, at, begin, entry, sink)
            count += 1
        if (count - end.entries) % (1 << 16) if not end.zip64 else count != end.entries:
            raise sink.damaged(f"its directory lists {count:,} members and announces {end.entries:,}")


def _in_front(file: BinaryIO, count: int, end: _End) -> int:
    """Return the number of bytes before a zip, such as a program that unpacks it; 0 if they are something else.

    The archive that a damaged one holds as its last member would look alike, but for the members in front of it.
    """
    if end.disk or end.zip64 or not 0 < count <= _MOST_AROUND:
        return 0
    file.seek(0)
    return 0 if _LOCAL in file.read(count) else count


def _entries(file: BinaryIO, begin: int, end: _End, sink: Sink) -> Iterator[_Entry]:
    """Yield the directory, one entry at a time."""
    file.seek(begin)
    left = end.size
    while left > 0:
        head = file.read(46)
        if len(head) < 46 or head[:4] != _ENTRY:
            raise sink.damaged("its directory is damaged")
        (
            made_by,
            _,
            flags,
            method,
            _,
            _,
            crc,
            packed,
            size,
            n_name,
            n_extra,
            n_comment,
            disk,
            _,
            attributes,
            offset,
        ) = struct.unpack("<6H3L5H2L", head[4:])
        raw = file.read(n_name + n_extra + n_comment)
        left -= 46 + len(raw)
        if len(raw) < n_name + n_extra + n_comment or left < 0:
            raise sink.damaged("its directory is damaged")
        name, extra = raw[:n_name], _extras(raw[n_name : n_name + n_extra])
        if long := extra.get(1):
            wide = [size == _FULL, packed == _FULL, offset == _FULL]
            values = list(
                struct.unpack(f"<{min(sum(wide), len(long) // 8)}Q", long[: 8 * min(sum(wide), len(long) // 8)])
            )
            if len(values) < sum(wide):
                raise sink.damaged("its directory is damaged", decoded(name))
            size = values.pop(0) if wide[0] else size
            packed = values.pop(0) if wide[1] else packed
            offset = values.pop(0) if wide[2] else offset
            if disk == 0xFFFF:
                (disk,) = struct.unpack("<L", long[8 * sum(wide) :][:4].ljust(4, b"\0"))
        text = _name(name, flags, extra)
        mode = attributes >> 16 if made_by >> 8 in (3, 19) else 0  # Unix, macOS
        folder = text.endswith(("/", "\\")) or (bool(attributes & 0x10) and size == 0 and not mode)
        yield _Entry(text, method, flags, crc, packed, size, disk, offset, mode, folder)


def _extras(raw: bytes) -> dict[int, bytes]:
    fields = {}
    while len(raw) >= 4:
        kind, length = struct.unpack("<2H", raw[:4])
        fields[kind] = raw[4 : 4 + length]
        raw = raw[4 + length :]
    return fields


def _name(raw: bytes, flags: int, extra: dict[int, bytes]) -> str:
    """Return the name: in UTF-8 if the flag or Info-ZIP's field 0x7075 is set, else guessed."""
    unicode = extra.get(0x7075, b"")
    if len(unicode) > 5 and unicode[0] == 1 and int.from_bytes(unicode[1:5], "little") == zlib.crc32(raw):
        raw = unicode[5:]
    elif flags & 0x800:
        return raw.decode("utf-8", errors="surrogateescape")
    return decoded(raw)


def _one(file: BinaryIO, at: int, limit: int, entry: _Entry, sink: Sink) -> None:
    """Unpack one member whose local header stands at `at`; its data end before `limit`."""
    kind = stat.S_IFMT(entry.mode)
    if entry.is_folder:
        sink.folder(entry.name)
        return
    if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
        raise sink.refuse("it is a device or another special file", entry.name)
    if entry.flags & 0x41:
        raise sink.refuse(
            "it is encrypted", entry.name, next="ask its owners for the password, unpack it, use --from FOLDER"
        )
    file.seek(at)
    head = file.read(30)
    if len(head) < 30 or head[:4] != _LOCAL:
        raise sink.damaged("its header is not where the directory says", entry.name)
    start = at + 30 + sum(struct.unpack("<2H", head[26:30]))
    if start + entry.packed > limit:
        raise sink.damaged("its data reach into the directory", entry.name)
    file.seek(start)
    blocks = _decoder(entry, sink)(_taken(file, entry.packed, entry, sink))
    if kind == stat.S_IFLNK:
        if entry.size > 4096:
            raise sink.refuse("it is a link with an invalid target", entry.name)
        sink.link(entry.name, decoded(_checked(blocks, entry, sink)))
        return
    crc = 0
    with sink.file(entry.name, entry.size) as write:
        try:
            for block in blocks:
                crc = zlib.crc32(block, crc)
                write(block)
        except (zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
            raise sink.damaged(f"its data are damaged ({error})", entry.name) from error
    if crc != entry.crc:
        raise sink.damaged("its checksum is wrong", entry.name)


def _checked(blocks: Iterator[bytes], entry: _Entry, sink: Sink) -> bytes:
    """Return a short member in memory."""
    data = b""
    try:
        for block in blocks:
            data += block
            if len(data) > entry.size:
                break
    except (zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise sink.damaged(f"its data are damaged ({error})", entry.name) from error
    if zlib.crc32(data) != entry.crc or len(data) != entry.size:
        raise sink.damaged("its checksum is wrong", entry.name)
    return data


def _taken(file: BinaryIO, count: int, entry: _Entry, sink: Sink) -> Iterator[bytes]:
    while count > 0:
        block = file.read(min(count, CHUNK >> 2))
        if not block:
            raise sink.damaged("it is truncated", entry.name)
        count -= len(block)
        yield block


def _decoder(entry: _Entry, sink: Sink) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    if entry.method == 0:
        return lambda blocks: blocks
    if entry.method == 8:
        return _inflated
    if entry.method == 9:
        return lambda blocks: _inflated64(blocks, entry, sink)
    if entry.method == 12:
        return lambda blocks: _decompressed(blocks, bz2.BZ2Decompressor())
    if entry.method == 14:
        return _lzma
    name = _NAMES.get(entry.method, f"number {entry.method}")
    raise sink.refuse(
        f"it is compressed by a method that us43d does not read ({name})",
        entry.name,
        next="unpack it with 7-Zip and use --from FOLDER",
    )


def _inflated(blocks: Iterator[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj(-15)
    for block in blocks:
        while block and not inflate.eof:
            yield inflate.decompress(block, CHUNK)
            block = inflate.unconsumed_tail
    while not inflate.eof and (more := inflate.decompress(b"", CHUNK)):
        yield more
    if not inflate.eof:
        raise EOFError("they end early")


def _inflated64(blocks: Iterator[bytes], entry: _Entry, sink: Sink) -> Iterator[bytes]:
    try:
        inflate = importlib.import_module("inflate64").Inflater()
    except ImportError:
        raise sink.refuse(
            "it is compressed by Deflate64, as Windows does above 2 GB",
            entry.name,
            next="pip install 'us43d[archives]'",
        ) from None
    for block in blocks:
        for at in range(0, len(block), 1 << 12):  # it has no bound of its own on what one call gives
            yield inflate.inflate(block[at : at + (1 << 12)])


def _drained(blocks: Iterable[bytes], decoder: "bz2.BZ2Decompressor | lzma.LZMADecompressor") -> Iterator[bytes]:
    for block in blocks:
        if decoder.eof:
            break
        yield decoder.decompress(block, CHUNK)
        while not decoder.eof and not decoder.needs_input:
            yield decoder.decompress(b"", CHUNK)


def _decompressed(blocks: Iterator[bytes], decoder: "bz2.BZ2Decompressor | lzma.LZMADecompressor") -> Iterator[bytes]:
    try:
        yield from _drained(blocks, decoder)
    except OSError as error:  # what bz2 says of damaged data
        raise ValueError(str(error)) from error
    if not decoder.eof:
        raise EOFError("they end early")


def _lzma(blocks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for block in blocks:
        head += block
        if len(head) >= 9:
            break
    if len(head) < 9 or head[2:4] != b"\x05\x00" or head[4] >= 225:
        raise EOFError("they begin wrong")
    literal, rest = head[4] % 9, head[4] // 9
    options = {
        "id": lzma.FILTER_LZMA1,
        "lc": literal,
        "lp": rest % 5,
        "pb": rest // 5,
        "dict_size": min(max(int.from_bytes(head[5:9], "little"), 4096), 1 << 28),
    }
    yield from _drained(chain([head[9:]], blocks), lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[options]))
