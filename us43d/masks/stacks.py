"""Stacks of frames whose pixels stand one after the other in a file, read in the memory of one frame.

What MetaImage, NRRD and MATLAB files share once their header is read.
"""

import math
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.errors import UnreadableFile
from us43d.limits import MAX_VOLUME, check_bytes, check_size

__all__ = ["Stack", "Stream", "check_length"]

_BLOCK = 1 << 20
_ZLIB_OR_GZIP = 47  # window bits: whichever of the two the data begin with


class Stream:
    """The bytes of an open file from `start` on, inflated where they are compressed.

    Reading onwards inflates everything once; reading what lies before the last position starts again.
    """

    def __init__(self, path: Path, start: int, compressed: bool) -> None:
        self.path, self.start, self.compressed = path, start, compressed
        try:
            self.file = path.open("rb")
        except OSError as error:
            raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error
        self._rewind()

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()

    def _rewind(self) -> None:
        self.file.seek(self.start)
        self.position, self.inflater = 0, zlib.decompressobj(_ZLIB_OR_GZIP)

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer where the file ends. Raises UnreadableFile if it is damaged."""
        try:
            if not self.compressed:
                self.file.seek(self.start + offset)
                return self.file.read(length)
            if offset < self.position:
                self._rewind()
            while self.position < offset and self._inflate(min(_BLOCK, offset - self.position)):
                pass
            return self._inflate(length) if self.position == offset else b""
        except (OSError, zlib.error) as error:
            self._rewind()
            raise UnreadableFile(f"{self.path} is damaged: {error}.") from error

    def _inflate(self, length: int) -> bytes:
        """Return the next `length` bytes, fewer where the file ends."""
        blocks = []
        while length:
            packed = self.inflater.unconsumed_tail or self.file.read(1 << 16)
            block = self.inflater.decompress(packed, length)
            if not packed and not block:
                break
            blocks.append(block)
            length -= len(block)
            self.position += len(block)
        return b"".join(blocks)


@lru_cache(maxsize=4096)
def check_length(path: Path, start: int, expected: int, compressed: bool, mtime_ns: int) -> None:
    """Read a file to its end once, so that a checksum at the end is compared.

    Args:
        path: The file.
        start: Where its pixels begin, in bytes.
        expected: Bytes of pixels that its header claims.
        compressed: Whether the pixels are compressed with zlib or gzip.
        mtime_ns: Time of its last change, so that a file that was replaced is read again.

    Raises:
        UnreadableFile: If the pixels are damaged, or have another length.
    """
    count, inflater = 0, zlib.decompressobj(_ZLIB_OR_GZIP)
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
    except (OSError, zlib.error) as error:
        raise UnreadableFile(f"{path} is damaged: {error}.") from error
    if count < expected or (compressed and not inflater.eof and count == expected):
        raise UnreadableFile(f"{path} is cut short: {count:,} of {expected:,} bytes of pixels can be read.")
    if compressed and count > expected:
        raise UnreadableFile(f"{path} holds more pixels than the {expected:,} bytes that its header says.")


class Stack:
    """Frames of one size and type.

    Args:
        path: The file with the header, for messages.
        pixels: The file with the pixels.
        start: Where they begin in it, in bytes.
        size: (width, height) or (width, height, frames).
        dtype: Type of one value.
        channels: Values per pixel.
        compressed: Whether the pixels are compressed with zlib or gzip.

    Raises:
        UnreadableFile: If the size is invalid or above the limits, or the pixels are damaged or cut short.
    """

    def __init__(
        self, path: Path, pixels: Path, start: int, size: tuple[int, ...], dtype: "np.dtype[Any]", *,
        channels: int = 1, compressed: bool = False,
    ) -> None:  # fmt: skip
        if len(size) not in (2, 3) or min(size) < 1 or channels not in (1, 3):
            shown = " × ".join(map(str, size))
            raise UnreadableFile(f"{path} has the size {shown} in {channels} channels, not that of a stack of images.")
        self.path, self.size, self.dtype, self.channels = path, size, dtype, channels
        check_size(path, size[0], size[1], channels, dtype.itemsize)
        length = math.prod(size) * channels * dtype.itemsize
        check_bytes(path, length, MAX_VOLUME)
        self.stream = Stream(pixels, start, compressed)
        check_length(pixels, start, length, compressed, pixels.stat().st_mtime_ns)
        self.frames = size[2] if len(size) == 3 else 1

    def frame(self, index: int) -> NDArray[Any]:
        """Return frame `index`: (height, width), or (height, width, 3). Raises UnreadableFile if it cannot be read."""
        if not 0 <= index < self.frames:
            raise UnreadableFile(f"{self.path} has {self.frames} frames, no frame {index}.")
        length = math.prod(self.size[:2]) * self.channels * self.dtype.itemsize
        data = self.stream.read(index * length, length)
        if len(data) < length:
            raise UnreadableFile(f"{self.path} is cut short: frame {index} cannot be read.")
        array = np.frombuffer(data, self.dtype).astype(self.dtype.newbyteorder("="), copy=False)
        shape = (self.size[1], self.size[0])
        return array.reshape(shape if self.channels == 1 else (*shape, self.channels))
