"""MicroSeg: micro-ultrasound volumes of 75 prostates; MUP in the US-43d table is the same archive and reads it here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from us43d import masks
from us43d.contract import Lazy, RawTree, Sample, lazy
from us43d.facts import source


class Slice(NamedTuple):
    """One slice of a volume; picture and mask as stored, upside down."""

    key: str
    image: Path
    frames: int
    frame: int
    picture: Lazy
    mask: Lazy
    spacing: tuple[float, float] | None


def read(raw: RawTree) -> Iterator[Sample]:
    for each in slices(raw):
        yield sample(each, lazy(masks.turned, each.picture), lazy(masks.turned, each.mask))


def slices(raw: RawTree) -> Iterator[Slice]:
    tree = raw.at("train/micro_ultrasound_scans", "test/micro_ultrasound_scans")
    for part in ("test", "train"):
        for key in tree.glob(f"{part}/micro_ultrasound_scans/microUS_{part}_*.nii.gz"):
            number = key.removesuffix(".nii.gz").rpartition("_")[2]
            image = tree.path(key)
            truth = tree.path(f"{part}/expert_annotations/expert_annotation_{part}_{number}.nii.gz")
            frames, spacing = masks.nifti_pair(image, truth)
            for frame in range(frames):
                picture = lazy(masks.eight_bit, lazy(masks.nifti_frame, image, frame))
                mask = lazy(masks.nonzero, lazy(masks.nifti_frame, truth, frame))
                yield Slice(key, image, frames, frame, picture, mask, spacing)


def sample(each: Slice, picture: Lazy, mask: Lazy) -> Sample:
    part, number = each.key.removesuffix(".nii.gz").split("_")[-2:]
    return Sample(
        key=f"{each.key}#{each.frame:03}",
        image=picture,
        masks={"prostate": mask},
        group=f"{part}_{number}",  # numbers begin at 01 in both parts
        split="test" if part == "test" else "train",
        frame=each.frame,
        spacing_mm=each.spacing,
    )


def read_lit(raw: RawTree) -> Iterator[Sample]:
    """The mask cleared where the picture is exactly black."""
    for each in slices(raw):
        lit = lazy(_both, each.mask, lazy(masks.nonzero, each.picture))
        yield sample(each, lazy(masks.turned, each.picture), lazy(masks.turned, lit))


def _both(one: Any, other: Any) -> Any:
    return one & other


RECIPE = source(__name__, read, paper=read_lit)
