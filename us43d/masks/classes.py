"""Label maps of several classes: which values or colours they hold, and one mask per class.

A class is identified by a whole number (a grey value, or an index of a palette) or by a colour. 0 and black are
background.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.errors import UnreadableFile, listed
from us43d.masks.convert import class_image
from us43d.masks.read import common_channel, content, lossy

__all__ = ["BACKGROUND", "joined", "key_text", "keys", "masks", "objects", "parse_key"]

#: The name of a class that is not annotated.
BACKGROUND = "background"
#: Keys of one file that a message names.
_NAMED = 8
#: Pixels of an object, at least in half of the objects of an image; and the largest number of objects.
_SMALL, _MOST = 16, 10_000
#: Colours are numbered behind all values of 32 bits, so that one array can hold either.
_COLOUR = 1 << 32
#: Keys of background: 0 and black.
_BLACK = (0, _COLOUR)
_HEX = re.compile(r"#([0-9a-fA-F]{6})")


def parse_key(text: str) -> int:
    """Read the key of a class: a whole number from 0, or a colour such as #ff0000. Raises ValueError."""
    if match := _HEX.fullmatch(text):
        return _COLOUR + int(match[1], 16)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{text!r} is neither a whole number nor a colour such as #ff0000")
    return int(text)


def key_text(key: int) -> str:
    """Write a key as `parse_key` reads it."""
    return str(key) if key < _COLOUR else f"#{key - _COLOUR:06x}"


def keys(path: Path, pixels: NDArray[Any] | None = None) -> list[int]:
    """List the keys that an image holds, without background, sorted; of a palette, the indices.

    pixels: Those of a frame of the file, where they were read before; likewise below.

    Raises:
        UnreadableFile: If the file cannot be read, or has values that are not whole numbers from 0.
    """
    return [int(key) for key in np.unique(_key_map(path, pixels, colours=False)) if key not in _BLACK]


def masks(
    path: Path, classes: Mapping[int, str], pixels: NDArray[Any] | None = None
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield (name, mask (h, w)) for each class, in the order in which the classes are named; empty masks as well.

    Args:
        path: The image.
        classes: Name by key; several keys may share a name. The name `BACKGROUND` is not yielded.

    Raises:
        UnreadableFile: As `keys` does, or if the image holds a key that is not among the classes.
    """
    key_map = _key_map(path, pixels, any(key >= _COLOUR for key in classes))
    strange = [int(key) for key in np.unique(key_map) if key not in (*_BLACK, *classes)]
    if strange:
        kind = lossy(content(path))
        hint = f" ({kind} changes values: save masks as PNG)" if kind else ""
        named = listed([key_text(key) for key in strange], _NAMED)
        raise UnreadableFile(f"{path} holds {named} besides the classes {', '.join(map(key_text, classes))}{hint}.")
    for name in dict.fromkeys(classes.values()):
        if name != BACKGROUND:
            yield name, np.isin(key_map, [key for key, other in classes.items() if other == name])


def objects(path: Path, pixels: NDArray[Any] | None = None) -> Iterator[NDArray[np.bool_]]:
    """Yield a mask (h, w) per value, index or colour of an instance label map, in their order; an empty one if none.

    Raises:
        UnreadableFile: As `keys` does; if most values are under 16 pixels, as those of grey edges are; if less than a
            quarter of the pixels have the values of those to the right and below, as in an image; or if there are
            more than 10,000 values.
    """
    key_map = _key_map(path, pixels, colours=False)
    counts = {int(k): int(n) for k, n in zip(*np.unique(key_map, return_counts=True), strict=True) if k not in _BLACK}
    small = sum(count < _SMALL for count in counts.values())
    corner = key_map[:-1, :-1]
    inner = ~np.isin(corner, _BLACK)
    flat = inner & (corner == key_map[1:, :-1]) & (corner == key_map[:-1, 1:])
    if 2 * small > len(counts) or 4 * np.count_nonzero(flat) < np.count_nonzero(inner):
        kind = lossy(content(path))
        hint = f" {kind[0].upper()}{kind[1:]} changes values: save masks as PNG." if kind else ""
        raise UnreadableFile(
            f"{path} holds {len(counts):,} values, too scattered for objects: those of grey edges or of an image.{hint}"
        )
    if len(counts) > _MOST:
        raise UnreadableFile(f"{path} holds {len(counts):,} values, more than the {_MOST:,} objects allowed.")
    for key in counts:
        yield key_map == key
    if not counts:
        yield np.zeros(key_map.shape, bool)


def joined(path: Path, classes: Mapping[int, str], pixels: NDArray[Any] | None = None) -> bool:
    """Return whether areas of two keys with one name touch, so that they are one component. Raises as `masks`."""
    key_map = _key_map(path, pixels, any(key >= _COLOUR for key in classes))
    order = {name: number for number, name in enumerate(dict.fromkeys(classes.values()), 1) if name != BACKGROUND}
    name_map = np.zeros(key_map.shape, np.int32)
    for key, name in classes.items():
        name_map[key_map == key] = order.get(name, 0)
    keys_and_names = zip(_beside(key_map), _beside(name_map), strict=True)
    return any(bool(((a != b) & (c == d) & (c > 0)).any()) for (a, b), (c, d) in keys_and_names)


def _beside(array: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Pair the pixels of (h, w) with their neighbours in four directions, once each."""
    return [(array[:, 1:], array[:, :-1]), (array[1:], array[:-1]),
            (array[1:, 1:], array[:-1, :-1]), (array[1:, :-1], array[:-1, 1:])]  # fmt: skip


def _key_map(path: Path, pixels: NDArray[Any] | None, colours: bool) -> NDArray[np.int64]:
    """The keys (h, w) of an image; alpha is ignored."""
    array = class_image(path, pixels, colours=colours)
    if array.ndim == 3:
        single = None if colours else common_channel(array)
        if single is None:
            return _packed(array, path)
        array = single
    if colours:
        return _packed(np.repeat(array[:, :, None], 3, axis=2), path)
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        raise UnreadableFile(f"{path} has values that are not whole numbers, so it is not a label map.")
    whole = array.astype(np.int64)
    if whole.min() < 0 or whole.max() >= _COLOUR:
        raise UnreadableFile(f"{path} has values below 0 or above 32 bits, so it is not a label map.")
    return whole


def _packed(array: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """Colours (h, w, 3) of 8 bits as keys."""
    if array.dtype != np.uint8:
        raise UnreadableFile(f"{path} has colours of the type {array.dtype}; a label map has colours of 8 bits.")
    wide = array.astype(np.int64)
    return np.asarray(_COLOUR + (wide[:, :, 0] << 16 | wide[:, :, 1] << 8 | wide[:, :, 2]))
