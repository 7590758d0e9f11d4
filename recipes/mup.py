"""MUP: the second entry of the US-43d table for the archive of MicroSeg; same facts, same reader."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import PaperProfile, RawTree, Recipe, Sample, lazy

from .microseg import RECIPE as MICROSEG
from .microseg import read, sample, slices


def read_as_published(raw: RawTree) -> Iterator[Sample]:
    """Rows flipped only; the mask cleared where a whole line of voxels along an axis is black."""
    for each in slices(raw):
        lit = lazy(in_lit_lines, each.image, each.frames, each.frame, each.mask)
        yield sample(each, lazy(_flipped, each.picture), lazy(_flipped, lit))


def in_lit_lines(image: Path, frames: int, frame: int, mask: Any) -> Any:
    lit = masks.nifti_frame(image, frame) != 0
    return mask & lit.any(axis=1, keepdims=True) & lit.any(axis=0, keepdims=True) & _ever_lit(image, frames)


@lru_cache(maxsize=2)
def _ever_lit(image: Path, frames: int) -> Any:
    """Pixels that are not black in every slice."""
    lit = masks.nifti_frame(image, 0) != 0
    for frame in range(1, frames):
        lit |= masks.nifti_frame(image, frame) != 0
    return lit


def _flipped(array: Any) -> Any:
    return array[::-1]


RECIPE = Recipe(
    name="MUP",
    slug="mup",
    row="MUP",
    aliases=("Micro-Ultrasound Prostate",),
    title="Micro-Ultrasound Prostate Segmentation Dataset (second entry of the same data as MicroSeg)",
    organ=MICROSEG.organ,
    application=MICROSEG.application,
    media=MICROSEG.media,
    homepage=MICROSEG.homepage,
    doi=MICROSEG.doi,
    citations=MICROSEG.citations,
    licence=MICROSEG.licence,
    access=MICROSEG.access,
    access_checked=MICROSEG.access_checked,
    access_note="The same archive as MicroSeg's: what is downloaded for one serves the other (us43d fetch MUP --from FOLDER).",
    routes=MICROSEG.routes,
    labels=MICROSEG.labels,
    group_kind=MICROSEG.group_kind,
    group_rule=MICROSEG.group_rule,
    official_split=MICROSEG.official_split,
    expect=MICROSEG.expect,
    ignore=MICROSEG.ignore,
    nested=MICROSEG.nested,
    paper=PaperProfile(
        note="All slices, flipped in rows only (a mirror image of MicroSeg's); the mask is cleared where a whole line of voxels along any axis is black, and official splits are pooled.",
        read=read_as_published,
    ),
    known_issues=MICROSEG.known_issues,
    sources=MICROSEG.sources,
    confidence=MICROSEG.confidence,
    read=read,
)
