"""MUP: the second entry of the US-43d table for the archive of MicroSeg; same facts, same reader."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

from .microseg import read, sample, slices


def read_as_published(raw: RawTree) -> Iterator[Sample]:
    """Yield rows flipped only; the mask cleared where a whole line of voxels along an axis is black."""
    for section in slices(raw):
        lit = lazy(in_lit_lines, section.image, section.frames, section.frame, section.mask)
        yield sample(section, lazy(_flipped, section.picture), lazy(_flipped, lit))


def in_lit_lines(image: Path, frames: int, frame: int, mask: Any) -> Any:
    lit = masks.nifti_frame(image, frame) != 0
    return mask & lit.any(axis=1, keepdims=True) & lit.any(axis=0, keepdims=True) & _ever_lit(image, frames)


@lru_cache(maxsize=2)
def _ever_lit(image: Path, frames: int) -> Any:
    """Return the pixels that are not black in every slice."""
    lit = masks.nifti_frame(image, 0) != 0
    for frame in range(1, frames):
        lit |= masks.nifti_frame(image, frame) != 0
    return lit


def _flipped(array: Any) -> Any:
    return array[::-1]


RECIPE = source(__name__, read, paper=read_as_published)
