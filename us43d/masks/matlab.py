"""Arrays of MATLAB files (versions 5 to 7, not the HDF5 of 7.3), one at a time, in the memory of that array.

SciPy's loadmat reads a whole file and allocates what it claims; OASBUD is one struct array of gigabytes. Here the file
is walked once, every claimed size checked against what holds it, and an array is read where it stands. Nothing
in such a file is executed: functions, objects and cells are passed over.

Format: MathWorks, MAT-File Format (version 5), https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

import math
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d.errors import UnreadableFile, listed
from us43d.limits import MAX_VOLUME, check_bytes
from us43d.masks.stacks import Stream, check_length

__all__ = ["mat_array", "mat_length", "mat_text"]

_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_STRUCT, _CHAR, _FIRST_NUMBER, _LAST_NUMBER = 2, 4, 6, 15  # classes
_COMPLEX = 0x800
_HEADER = 128
#: Entries of a struct array times its fields, and bytes of a name; OASBUD has 700 and 6.
_MOST_FIELDS, _MOST_NAME = 100_000, 4096


class _Place(NamedTuple):
    """Where a matrix stands: offset and length of its content in the stream that begins at `start` of the file."""

    start: int
    compressed: bool
    offset: int
    length: int


class _Head(NamedTuple):
    """kind: class of the matrix. flags: kind and other bits. shape: its axes. end: offset behind the head."""

    kind: int
    flags: int
    shape: tuple[int, ...]
    name: str
    end: int


class _Matlab:
    """An open file: `places` of its variables, and of the fields of its struct arrays as "data[0].rf1"."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams: dict[int, Stream] = {}
        self.places: dict[str, _Place] = {}
        self.lengths: dict[str, int] = {}
        head = Stream(path, 0, False).read(0, _HEADER)
        if len(head) < _HEADER or head[126:] not in (b"IM", b"MI"):
            kind = "a MATLAB 7.3 file, which is HDF5" if head[1:4] == b"HDF" else "not a MATLAB file of version 5 to 7"
            raise UnreadableFile(f"{path} is {kind}.")
        self.order = "<" if head[126:] == b"IM" else ">"
        try:
            for place in self._elements():
                self._walk(place)
        except (struct.error, ValueError) as error:
            raise UnreadableFile(f"{path} is a damaged MATLAB file: {error}.") from error

    def _bytes(self, place: _Place, offset: int, length: int) -> bytes:
        stream = self.streams.get(place.start)
        if stream is None:
            stream = self.streams[place.start] = Stream(self.path, place.start, place.compressed)
        data = stream.read(offset, length)
        if len(data) < length:
            raise UnreadableFile(f"{self.path} is cut short.")
        return data

    def _tag(self, place: _Place, offset: int) -> tuple[int, int, int, int]:
        """Return (type, length, offset of the data, offset of the next element) of the element at `offset`.

        Raises ValueError if it does not fit into `place`.
        """
        first, length = struct.unpack(self.order + "II", self._bytes(place, offset, 8))
        kind, data = first, offset + 8
        if first >> 16:  # up to 4 bytes are in the tag itself
            kind, length, data = first & 0xFFFF, first >> 16, offset + 4
        after = offset + 8 if first >> 16 else data + length + -length % 8
        if length > (4 if first >> 16 else length) or data + length > place.offset + place.length:
            raise ValueError("an element is longer than what holds it")
        return kind, length, data, after

    def _elements(self) -> Iterator[_Place]:
        """The matrices of the file; those that are compressed are inflated once to their end, for their checksum."""
        status, at = self.path.stat(), _HEADER
        whole = _Place(0, False, 0, status.st_size)
        while at < status.st_size:
            kind, length, data, after = self._tag(whole, at)
            place = _Place(0, False, data, length)
            if kind == _COMPRESSED:
                after = data + length  # not padded
                kind, length, inside, _ = self._tag(_Place(data, True, 0, MAX_VOLUME), 0)
                check_length(self.path, data, inside + length, True, status.st_mtime_ns)
                place = _Place(data, True, inside, length)
            if kind == _MATRIX:
                yield place
            at = after

    def head(self, place: _Place) -> _Head:
        """Return class, shape and name of the matrix at `place`. Raises ValueError if they are not readable."""
        _, length, data, at = self._tag(place, place.offset)
        if length != 8:
            raise ValueError("a matrix has no flags")
        (flags,) = struct.unpack(self.order + "I", self._bytes(place, data, 4))
        kind, length, data, at = self._tag(place, at)
        if kind != 5 or not 8 <= length <= 4 * 32:  # NumPy 1 has as many axes
            raise ValueError("a matrix has no shape")
        shape = struct.unpack(f"{self.order}{length // 4}i", self._bytes(place, data, length // 4 * 4))
        if min(shape) < 0:
            raise ValueError(f"a matrix has the shape {shape}")
        _, length, data, at = self._tag(place, at)
        if length > _MOST_NAME:
            raise ValueError("a matrix has too long a name")
        return _Head(flags & 0xFF, flags, shape, self._bytes(place, data, length).decode("latin-1"), at)

    def _walk(self, place: _Place) -> None:
        """Note the place of a variable, and the fields of a struct array, which are not entered further."""
        head = self.head(place)
        self.places[head.name] = place
        if head.kind != _STRUCT:
            return
        _, _, data, at = self._tag(place, head.end)
        (width,) = struct.unpack(self.order + "i", self._bytes(place, data, 4))
        _, length, data, at = self._tag(place, at)
        entries = self.lengths[head.name] = math.prod(head.shape)
        if not 0 < width <= _MOST_NAME or entries * (length // width) > _MOST_FIELDS:
            raise ValueError(f"the struct {head.name} has {entries:,} entries and fields in {length:,} bytes of names")
        names = self._bytes(place, data, length)
        fields = [names[n : n + width].partition(b"\0")[0].decode("latin-1") for n in range(0, length, width)]
        for entry in range(entries):
            for field in fields:
                kind, length, data, at = self._tag(place, at)
                if kind != _MATRIX:
                    raise ValueError(f"a field of the struct {head.name} is not a matrix")
                self.places[f"{head.name}[{entry}].{field}"] = place._replace(offset=data, length=length)

    def content(self, name: str) -> tuple[_Head, int, bytes]:
        """Return (head, type of the data, data) of a matrix of numbers or characters. Raises UnreadableFile."""
        if (place := self.places.get(name)) is None:
            names = listed(sorted(key for key in self.places if "." not in key)) or "no variable"
            raise UnreadableFile(f"{self.path} has nothing called {name}; it has {names}.")
        try:
            head = self.head(place)
            kind, length, data, _ = self._tag(place, head.end)
        except (struct.error, ValueError) as error:
            raise UnreadableFile(f"{self.path} is a damaged MATLAB file: {error}.") from error
        check_bytes(self.path, length)
        return head, kind, self._bytes(place, data, length)


_matlab = lru_cache(maxsize=2)(_Matlab)


def mat_length(path: Path, name: str) -> int:
    """Return the length of the struct array `name` of a MATLAB file. Raises UnreadableFile for another type."""
    file = _matlab(path)
    if name not in file.lengths:
        raise UnreadableFile(f"{path} has no struct array {name}; it has {listed(sorted(file.lengths)) or 'none'}.")
    return file.lengths[name]


@lru_cache(maxsize=2)
def mat_array(path: Path, name: str) -> NDArray[Any]:
    """Read numbers of a MATLAB file, in the type in which they are stored, read-only.

    Args:
        path: The file.
        name: A variable ("predicted"), or a field of an entry of a struct array, counted from 0 ("data[0].rf1").

    Returns:
        The array with MATLAB's axes.

    Raises:
        UnreadableFile: If the file is damaged or has no such array.
    """
    head, kind, data = _matlab(path).content(name)
    if not _FIRST_NUMBER <= head.kind <= _LAST_NUMBER or head.flags & _COMPLEX or kind not in _NUMBERS:
        raise UnreadableFile(f"{path}: {name} is not an array of real numbers.")
    dtype = np.dtype(_matlab(path).order + _NUMBERS[kind])
    if len(data) != math.prod(head.shape) * dtype.itemsize:
        raise UnreadableFile(f"{path}: {name} has the shape {head.shape} and {len(data):,} bytes of {dtype.name}.")
    array = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)
    return array.reshape(head.shape, order="F")


def mat_text(path: Path, name: str) -> str:
    """Return a line of characters of a MATLAB file, named as in `mat_array`. Raises UnreadableFile."""
    head, kind, data = _matlab(path).content(name)
    if head.kind != _CHAR or kind not in _TEXTS:
        raise UnreadableFile(f"{path}: {name} is not text.")
    ending = {"<": "-le", ">": "-be"}[_matlab(path).order] if "utf-16" in _TEXTS[kind] or "32" in _TEXTS[kind] else ""
    try:
        return data.decode(_TEXTS[kind] + ending)
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path}: {name} is not text: {error}.") from error
