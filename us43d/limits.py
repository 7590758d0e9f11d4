"""Limits on the size of images, checked before any decoder is called, and on the nesting and numbers of JSON.

A file of a few kilobytes can claim gigabytes of pixels. The size in a header is compared with these limits before
memory is allocated; they are far above any ultrasound image and below the memory of a small machine.

JSON in which an object has a key twice is refused: parsers keep the last value and lose the others.
"""

import io
import json
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from us43d.errors import UnreadableFile

__all__ = [
    "MAX_BYTES", "MAX_CORNER", "MAX_PIXELS", "MAX_VOLUME", "check_bytes", "check_size", "claimed_size",
    "parsed_json", "unreadable",
]  # fmt: skip

#: Pixels of one image, frame or slice.
MAX_PIXELS = 1 << 27
#: Decoded bytes of one image, frame or slice: enough for 8192 × 8192 in RGB.
MAX_BYTES = 1 << 28
#: Decoded bytes of a whole volume or sequence that is read as a stream, frame by frame.
MAX_VOLUME = 1 << 33
#: Largest coordinate of an outline, in pixels: beyond it, arithmetic would fail.
MAX_CORNER = 1e6
#: A whole number that Python does not convert.
_ENDLESS = re.compile("[0-9]{4301,}")
#: Texts of JSON, lists of numbers, and single characters that give it its structure.
_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")|\[[-+.0-9eE,\s]*\]|([{}\[\],:])', re.DOTALL)

#: Formats whose header Pillow reads before OpenCV decodes them. Other formats are refused.
_FORMATS = ("BMP", "DIB", "GIF", "PPM", "WEBP")
#: (position, bytes, name) of formats that people mistake for images that are read, in the order of the check.
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypavi", "an AVIF image"), (4, b"ftyphei", "a HEIC image"), (4, b"ftyphevc", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"), (4, b"ftypmsf1", "a HEIF image"), (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL ", "a JPEG XL image"), (0, b"II\xbc\x01", "a JPEG XR image"), (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"P7\n", "a PAM image"), (0, b"qoif", "a QOI image"), (0, b"SIMPLE  =", "a FITS image"),
    (0, b"\0\0\1\0", "an icon"), (344, b"ni1\0", "a NIfTI header without its pixels"),
    (0, b"\x5c\1\0\0\0\0", "an Analyze header"), (0, b"\0\0\1\x5c\0\0", "an Analyze header"),
    (0, b"#?RADIANCE", "a Radiance image"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"), (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"8BPS", "a Photoshop document"), (0, b"%PDF", "a PDF document"), (0, b"%!PS", "a PostScript document"),
    (0, b"PK\3\4", "a ZIP archive"), (0, b"\x1f\x8b", "a gzip file"), (0, b"\x89HDF", "an HDF5 file"),
    (0, b"MATLAB", "a MATLAB file"), (0, b"\x93NUMPY", "a NumPy array"), (0, b"<", "a text of HTML or XML"),
)  # fmt: skip
_VIDEOS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "an MP4 video"), (8, b"AVI ", "an AVI video"), (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (0, b"\0\0\1\xba", "an MPEG video"), (0, b"OggS", "an Ogg video"), (0, b"FLV", "a Flash video"),
    (0, b"\x47\x40", "an MPEG transport stream"),
)  # fmt: skip


def check_size(path: Path, width: int, height: int, channels: int = 1, itemsize: int = 1) -> None:
    """Check the size that a file claims for one image before it is decoded.

    Args:
        path: The file, for the message.
        width: Columns.
        height: Rows.
        channels: Values per pixel.
        itemsize: Bytes per value.

    Raises:
        UnreadableFile: The size is not positive, or above `MAX_PIXELS` or `MAX_BYTES`.
    """
    if width < 1 or height < 1 or channels < 1:
        raise UnreadableFile(f"{path} claims {width} × {height} pixels in {channels} channels.")
    if width * height > MAX_PIXELS:
        raise UnreadableFile(f"{path} claims {width} × {height} pixels, more than the {MAX_PIXELS:,} allowed.")
    check_bytes(path, width * height * channels * itemsize)


def check_bytes(path: Path, count: int, limit: int = MAX_BYTES) -> None:
    """Check how many bytes a file claims to decode to.

    Raises:
        UnreadableFile: `count` is above `limit`.
    """
    if count > limit:
        raise UnreadableFile(f"{path} claims {count:,} bytes of pixels, more than the {limit:,} allowed.")


def claimed_size(data: bytes, path: Path) -> tuple[int, int]:
    """Read the size that the header of a BMP, GIF, WebP or PNM file claims, and check it.

    The format is taken from the first bytes, not from the name.

    Args:
        data: The file's content.
        path: The file, for the message.

    Returns:
        (width, height) in pixels.

    Raises:
        UnreadableFile: The format is another one, the header is damaged, or the size is above the limits.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError as error:
        raise UnreadableFile(f"{path} claims more than the {MAX_PIXELS:,} pixels allowed.") from error
    except (OSError, EOFError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        raise UnreadableFile(unreadable(data, path)) from error
    check_size(path, width, height, 4)
    return width, height


def unreadable(data: bytes, path: Path) -> str:
    """Return the message for a file that is not an image of a known format."""
    if path.suffix.lower() == ".img":
        return f"{path} holds pixels without their header. Give the .hdr beside it."
    for at, magic, name in _OTHERS:
        if data[at : at + len(magic)] == magic:
            return f"{path} is {name}, which is not read here. Save it as PNG or TIFF."
    for at, magic, name in _VIDEOS:
        if data[at : at + len(magic)] == magic:
            return f"{path} is {name}, not an image. Give it the ending of its format, such as .mp4 or .avi."
    return f"{path} is not a readable image ({len(data):,} bytes, beginning {data[:8]!r})."


class _Repeated(Exception):
    """An object of JSON has a key twice."""


def parsed_json(text: str, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Parse JSON.

    Args:
        text: The content of the file.
        hook: Replaces each object, as in `json.loads`.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, has a key twice in an object, or holds a number of more
            than 4,300 digits.
    """

    def entry(pairs: list[tuple[str, Any]]) -> Any:
        read = dict(pairs)
        if len(read) < len(pairs):
            raise _Repeated
        return hook(read) if hook else read

    try:
        return json.loads(text, object_pairs_hook=entry)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except _Repeated as error:
        raise ValueError(_repeated(text)) from error
    except json.JSONDecodeError as error:
        if not text[: error.pos].strip() and error.msg == "Expecting value":
            raise ValueError(
                f"it is not JSON (it begins with {text.strip()[:20]!r})" if text else "it is empty"
            ) from error
        if error.msg != "Extra data":
            raise
        raise ValueError(f"another document begins in line {error.lineno:,}, as in JSON Lines") from error
    except ValueError as error:  # Python's own message advises programmers
        if (number := _ENDLESS.search(text)) is None:
            raise
        line = text.count("\n", 0, number.start()) + 1
        raise ValueError(f"it holds a number of {len(number[0]):,} digits in line {line:,}") from error


def _repeated(text: str) -> str:
    """Name the first key of JSON that an object has twice, and where."""
    keys: list[set[str] | None] = []  # of the objects that enclose a place; None for a list
    path: list[str | int | None] = []  # in each of them, the key, or the number of the entry; None before a key
    for token in _TOKEN.finditer(text):
        string, mark = token.groups()
        if mark in ("{", "["):
            keys.append(set() if mark == "{" else None)
            path.append(None if mark == "{" else 0)
        elif mark in ("}", "]"):
            keys.pop()
            path.pop()
        elif mark == "," and path:
            path[-1] = path[-1] + 1 if isinstance(path[-1], int) else None
        elif string and keys and (known := keys[-1]) is not None and path[-1] is None:
            key = json.loads(string)
            if key in known:
                steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path[:-1])
                where = "".join(steps).lstrip(".")[:200]
                line = text.count("\n", 0, token.start()) + 1
                return f"{where or 'it'} has the key {key[:60]!r} twice, again in line {line:,}"
            known.add(key)
            path[-1] = key
    raise AssertionError("no key is repeated")
