"""MetaImages (.mha) frame by frame, in the memory of one frame, whether their pixels are compressed or not.

The form is that of MetaIO: lines "Name = value", the last of them ElementDataFile = LOCAL, then the pixels, x fastest.
"""

import math
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.errors import UnreadableFile
from us43d.pictures.limits import MAX_VOLUME, check_bytes, check_size

__all__ = ["mha_frame", "mha_shape"]

_TYPES = {
    "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4", "MET_INT": "i4",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
#: More header lines, or longer ones, than any writer makes.
_LINES, _LINE = 200, 4096
_BLOCK = 1 << 20


class _MetaImage:
    """An open file. Compressed pixels are inflated once if frames are asked for in order; going back starts again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = path.open("rb")
            head = self._head()
        except OSError as error:
            raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error
        try:
            self.size = tuple(int(n) for n in head["DimSize"].split())
            spacing = head.get("ElementSpacing") or head.get("ElementSize") or " ".join("1" for _ in self.size)
            self.spacing = tuple(float(z) for z in spacing.split())
            self.dtype = np.dtype(_TYPES[head["ElementType"]])
        except (KeyError, ValueError, OverflowError) as error:
            raise UnreadableFile(f"{path} has no readable MetaImage header: {error}.") from error
        if head.get("BinaryDataByteOrderMSB", head.get("ElementByteOrderMSB", "False")) == "True":
            self.dtype = self.dtype.newbyteorder(">")
        if len(self.size) not in (2, 3) or min(self.size) < 1 or head.get("ElementNumberOfChannels", "1") != "1":
            raise UnreadableFile(f"{path} has the size {head['DimSize']}, which is no stack of grey pictures.")
        check_size(path, self.size[0], self.size[1], itemsize=self.dtype.itemsize)
        check_bytes(path, math.prod(self.size) * self.dtype.itemsize, MAX_VOLUME)
        self.frames = self.size[2] if len(self.size) == 3 else 1
        self.start, self.compressed = self.file.tell(), head.get("CompressedData") == "True"
        _whole(path, self.start, math.prod(self.size) * self.dtype.itemsize, self.compressed, path.stat().st_mtime_ns)
        self._rewind()

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()

    def _head(self) -> dict[str, str]:
        head: dict[str, str] = {}
        for _ in range(_LINES):
            name, equals, value = self.file.readline(_LINE).decode("latin-1").partition("=")
            head[name.strip()] = value.strip()
            if not equals or name.strip() == "ElementDataFile":
                break
        if head.get("ElementDataFile") != "LOCAL" or head.get("BinaryData", "True") != "True":
            raise UnreadableFile(f"{self.path} is no MetaImage with its pixels inside.")
        return head

    def _rewind(self) -> None:
        self.file.seek(self.start)
        self.next, self.inflater = 0, zlib.decompressobj(47)  # 47: zlib or gzip, whichever the header says

    def frame(self, index: int) -> NDArray[Any]:
        """(rows, columns) of frame `index`. Raises UnreadableFile if there is none or the file ends before it."""
        if not 0 <= index < self.frames:
            raise UnreadableFile(f"{self.path} has {self.frames} frames, no frame {index}.")
        length = math.prod(self.size[:2]) * self.dtype.itemsize
        try:
            if not self.compressed:
                self.file.seek(self.start + index * length)
                data = self.file.read(length)
            else:
                if index < self.next:
                    self._rewind()
                for _ in range(self.next, index + 1):
                    data = self._inflate(length)
                self.next = index + 1
        except (OSError, zlib.error) as error:
            self._rewind()
            raise UnreadableFile(f"{self.path} is damaged: frame {index} cannot be read ({error}).") from error
        if len(data) < length:
            self._rewind()
            raise UnreadableFile(f"{self.path} is cut short: frame {index} cannot be read.")
        array = np.frombuffer(data, self.dtype).reshape(self.size[1], self.size[0])
        return array.astype(self.dtype.newbyteorder("="), copy=False)

    def _inflate(self, length: int) -> bytes:
        """The next `length` bytes, fewer where the file ends."""
        parts = []
        while length:
            packed = self.inflater.unconsumed_tail or self.file.read(1 << 16)
            part = self.inflater.decompress(packed, length)
            if not packed and not part:
                break
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


@lru_cache(maxsize=4096)
def _whole(path: Path, start: int, expected: int, compressed: bool, mtime_ns: int) -> None:
    """Read the pixels of a file to their end once, so that a checksum that stands there counts.

    Raises UnreadableFile if they are damaged, or have another length than the header says.
    """
    count, inflater = 0, zlib.decompressobj(47)
    try:
        with path.open("rb") as file:
            if not compressed:
                count = file.seek(0, 2) - start
            else:
                file.seek(start)
                packed = file.read(_BLOCK)
                while packed and not inflater.eof and count <= expected:
                    count += len(inflater.decompress(packed, _BLOCK))
                    packed = inflater.unconsumed_tail or file.read(_BLOCK)
                while not inflater.eof and count <= expected and (rest := inflater.decompress(b"", _BLOCK)):
                    count += len(rest)
    except (OSError, zlib.error) as error:
        raise UnreadableFile(f"{path} is damaged: {error}.") from error
    if count < expected or (compressed and not inflater.eof and count == expected):
        raise UnreadableFile(f"{path} is cut short: {count:,} of {expected:,} bytes of pixels can be read.")
    if compressed and count > expected:
        raise UnreadableFile(f"{path} holds more pixels than the {expected:,} bytes that its header says.")


_mha = lru_cache(maxsize=4)(_MetaImage)


@lru_cache(maxsize=4096)
def mha_shape(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """(shape, spacing) of a MetaImage from its header: axes x, y, z/time; spacing in mm.

    Raises UnreadableFile for a header that points to another file for its pixels.
    """
    found = _mha(path)
    return found.size, found.spacing


def mha_frame(path: Path, frame: int) -> NDArray[Any]:
    """Frame `frame` of the last axis of a MetaImage as (rows = y, columns = x), read-only; two axes are frame 0."""
    return _mha(path).frame(frame)
