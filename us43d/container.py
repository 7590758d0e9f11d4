"""The length that a video container states, so that a truncated file is noticed whatever its decoder makes of it."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["is_fragmented", "stated_length"]

#: Bytes at the start in which the ASF header is searched for its file properties.
_HEADER = 1 << 16
#: Bytes by which the size in an AVI header may exceed the file, as the last entry of its index.
_INDEX_ENTRY = 16
#: The size of an AVI whose writer did not know it.
_STREAMED = 0xFFFFFFFF
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_PACK, _END = b"\0\0\1\xba", 0xB9
_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
#: Types of the first box of an MP4 or MOV file.
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free")


def stated_length(path: Path) -> int | None:
    """Return the number of bytes that an AVI, MP4, Matroska, ASF or MPEG file needs to be complete, by its own headers.

    An MPEG program stream states the length of each packet alone: a cut between two packets is not noticed.

    Returns:
        None where the file does not state it, as elementary streams and live recordings. Raises OSError.
    """
    with path.open("rb") as file:
        start = file.read(_HEADER)
        if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
            size = int.from_bytes(start[4:8], "little")
            return None if size >= _STREAMED - 8 else size + 8 - _INDEX_ENTRY
        if start[4:8] in _BOXES:
            return max((end for _, end in _boxes(file)), default=0)
        if start[:4] == _EBML:
            return _segment_end(start)
        if start[:4] == _PACK:
            return _packets(file)
        return _asf(start) if start[:16] == _ASF else None


def is_fragmented(path: Path) -> bool:
    """Return whether an MP4 consists of fragments, whose frames its header does not count. Raises OSError."""
    with path.open("rb") as file:
        if file.read(8)[4:] not in _BOXES:
            return False
        return any(name == b"moof" for name, _ in _boxes(file))


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield (type, end) of the boxes of an MP4 or MOV file (ISO/IEC 14496-12, 4.2) that begin within the file."""
    at = 0
    length = file.seek(0, 2)
    while at + 8 <= length:
        file.seek(at)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if size < 8:  # 0: to the end of the file; others are invalid
            return
        at += size
        yield head[4:8], at


def _packets(file: BinaryIO) -> int | None:
    """The end of the last packet of an MPEG program stream (ISO/IEC 13818-1, 2.5.3); None where one has no length."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(14)
        if head[:3] != _PACK[:3] or len(head) < 6:  # the end, or bytes that belong to no packet
            return at or None
        length = int.from_bytes(head[4:6], "big")
        if head[3] == _END:
            at += 4
        elif head[3] == _PACK[3]:  # of MPEG-2 with up to 7 bytes of stuffing, or of MPEG-1
            at += 14 + (head[-1] & 7) if head[4] >> 6 == 1 else 12
        elif head[3] > _PACK[3] and length:
            at += 6 + length
        else:
            return None


def _segment_end(start: bytes) -> int | None:
    """The end of a Matroska or WebM file's segment (RFC 8794, 5); None for one of unknown size."""
    header = _vint(start, 4)
    if header is None:
        return None
    at = 4 + header[1] + header[0]
    size = _vint(start, at + 4)
    if start[at : at + 4] != _SEGMENT or size is None:
        return None
    return at + 4 + size[1] + size[0]


def _vint(data: bytes, at: int) -> tuple[int, int] | None:
    """(value, length in bytes) of a variable-size integer; None if it is missing, or all ones: unknown."""
    if at >= len(data) or not data[at]:
        return None
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else (value, length)


def _asf(start: bytes) -> int | None:
    """The file size in the file properties object of an ASF file; None in a broadcast, which has none."""
    at = start.find(_ASF_PROPERTIES)
    if at < 0 or len(start) < at + 92:
        return None
    (size,), (flags,) = struct.unpack_from("<Q", start, at + 40), struct.unpack_from("<I", start, at + 88)
    return None if flags & 1 else int(size)
