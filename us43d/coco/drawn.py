"""Masks in files of any kind that is read: an image, a stack, a volume, a DICOM file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d.contract import Remarked
from us43d.masks import convert
from us43d.pictures import still
from us43d.pictures.listing import Input
from us43d.pictures.media import open_media

__all__ = ["MaskFile", "Plane"]


class Plane(NamedTuple):
    """A mask of a file.

    Attributes:
        path: The file.
        pixels: The values of a frame; None for an image file, whose palette, colours and alpha tell what is drawn.
        orientation: The tag by which what is read from the file is turned.
    """

    path: Path
    pixels: NDArray[Any] | None = None
    orientation: int = 1

    def foreground(self) -> tuple[NDArray[np.bool_] | Remarked, str]:
        """As `us43d.masks.convert.foreground`."""
        return convert.foreground(self.path, self.pixels)

    def upright(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return what was read from the file as viewers show it."""
        return still.upright(array, self.orientation)


class MaskFile:
    """An opened file of masks.

    Attributes:
        path: The file.
        count: Number of masks; None if unknown before decoding.
        spacing: (x, y) mm per pixel; None if unknown.
        grid: As of `Media`.
    """

    def __init__(self, file: Input | Path) -> None:
        """Raises ImageError, or UnreadableFile, for a file that cannot be read."""
        self._media = open_media(file)
        self.path, self.count, self.spacing = self._media.path, self._media.count, self._media.spacing
        self.grid = self._media.grid

    @property
    def remarks(self) -> tuple[str, ...]:
        """How the file was read; complete once the masks were read."""
        return self._media.remarks

    def planes(self) -> Iterator[Plane]:
        """Yield the masks, in the order of the frames. Raises ImageError or UnreadableFile."""
        if self._media.kind == "image" and self.count == 1:
            yield Plane(self.path, orientation=self._media.orientation)
        else:
            yield from (Plane(self.path, frame) for frame in self._media.stored())
