"""NRRD volumes frame by frame, in the memory of one frame.

The form is that of teem: a line "NRRD000n", lines "name: value", an empty line, then the pixels, x fastest.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.errors import UnreadableFile
from us43d.masks.stacks import Stack

__all__ = ["nrrd_frame", "nrrd_size"]

#: The spellings of a type that the format allows.
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    "float": "f4",
    "double": "f8",
}
#: More header lines, or longer ones, than any writer makes.
_LINES, _LINE = 200, 4096


class _Nrrd(Stack):
    def __init__(self, path: Path) -> None:
        head, start = _header(path)
        try:
            size = tuple(int(n) for n in head["sizes"].split())
            dtype = np.dtype(_TYPES[head["type"].lower()])
        except (KeyError, ValueError, OverflowError) as error:
            raise UnreadableFile(f"{path} has no readable NRRD header: {error}.") from error
        encoding = head.get("encoding", "").lower()
        if encoding not in ("raw", "gzip", "gz"):
            raise UnreadableFile(f"{path} is an NRRD in the encoding {encoding!r}; raw and gzip are read.")
        if other := {"data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip"} & set(head):
            raise UnreadableFile(f"{path} is an NRRD with {sorted(other)[0]!r}, whose pixels are not read.")
        if head.get("endian", "little").lower() == "big":
            dtype = dtype.newbyteorder(">")
        super().__init__(path, path, start, size, dtype, compressed=encoding != "raw")


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Return (fields with their names in lower case, where the pixels begin in bytes). Raises UnreadableFile."""
    head: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            if not file.readline(_LINE).startswith(b"NRRD000"):
                raise UnreadableFile(f"{path} is not an NRRD file.")
            for _ in range(_LINES):
                line = file.readline(_LINE).decode("latin-1")
                if not line.strip():
                    return head, file.tell()
                name, colon, value = line.partition(":")
                if colon and not value.startswith("="):  # ":=" is a note of the writer; a remark's name begins with "#"
                    head[name.strip().lower()] = value.strip()
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error
    raise UnreadableFile(f"{path} has more than the {_LINES} header lines allowed.")


_nrrd = lru_cache(maxsize=4)(_Nrrd)


@lru_cache(maxsize=4096)
def nrrd_size(path: Path) -> tuple[int, int, int]:
    """Return (width, height, frames) of an NRRD volume, its axes in file order. Raises UnreadableFile."""
    stack = _nrrd(path)
    return stack.size[0], stack.size[1], stack.frames


def nrrd_frame(path: Path, frame: int) -> NDArray[Any]:
    """Read frame `frame` of the last axis of an NRRD file as (rows = second axis, columns = first axis); read-only."""
    return _nrrd(path).frame(frame)
