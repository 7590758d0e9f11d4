"""MicroSeg: micro-ultrasound volumes of 75 prostates; MUP in the US-43d table is the same archive and reads it here."""

import operator
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from us43d import masks
from us43d.contract import Lazy, RawTree, Sample, lazy
from us43d.facts import source


class Slice(NamedTuple):
    """One slice of a volume; image and mask as stored, upside down."""

    key: str
    image: Path
    frames: int
    frame: int
    picture: Lazy
    mask: Lazy
    spacing: tuple[float, float] | None


def read(raw: RawTree) -> Iterator[Sample]:
    for section in slices(raw):
        yield sample(section, lazy(masks.turned, section.picture), lazy(masks.turned, section.mask))


def slices(raw: RawTree) -> Iterator[Slice]:
    tree = raw.at("train/micro_ultrasound_scans", "test/micro_ultrasound_scans")
    for subset in ("test", "train"):
        for key in tree.glob(f"{subset}/micro_ultrasound_scans/microUS_{subset}_*.nii.gz"):
            with tree.reading(key):
                number = key.removesuffix(".nii.gz").rpartition("_")[2]
                image = tree.path(key)
                truth = tree.path(f"{subset}/expert_annotations/expert_annotation_{subset}_{number}.nii.gz")
                frames, spacing = masks.nifti_pair(image, truth)
                for frame in range(frames):
                    picture = lazy(masks.eight_bit, lazy(masks.nifti_frame, image, frame))
                    mask = lazy(masks.nonzero, lazy(masks.nifti_frame, truth, frame))
                    yield Slice(key, image, frames, frame, picture, mask, spacing)


def sample(section: Slice, picture: Lazy, mask: Lazy) -> Sample:
    subset, number = section.key.removesuffix(".nii.gz").split("_")[-2:]
    return Sample(
        key=f"{section.key}#{section.frame:03}",
        image=picture,
        masks={"prostate": mask},
        group=f"{subset}_{number}",  # numbers begin at 01 in both parts
        split="test" if subset == "test" else "train",
        frame=section.frame,
        spacing_mm=section.spacing,
    )


def read_lit(raw: RawTree) -> Iterator[Sample]:
    """Clear the mask where the image is exactly black."""
    for section in slices(raw):
        lit = lazy(operator.and_, section.mask, lazy(masks.nonzero, section.picture))
        yield sample(section, lazy(masks.turned, section.picture), lazy(masks.turned, lit))


RECIPE = source(__name__, read, paper=read_lit)
