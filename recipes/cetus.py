"""CETUS: 3-D scans of 45 hearts, at end-diastole and end-systole; the left ventricle is drawn. Beyond US-43d."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

NAME = re.compile(r"((patient\d+)_(ED|ES))_gt\.nii\.gz")


def read(raw: RawTree) -> Iterator[Sample]:
    for key in raw.glob("**/*_gt.nii.gz"):
        folder, _, name = key.rpartition("/")
        if (match := NAME.fullmatch(name)) is None:
            continue  # and the build says that the file was not read
        volume, patient, phase = match.groups()
        with raw.reading(f"{volume}.nii.gz"):
            image, truth = raw.path(f"{folder}/{volume}.nii.gz".lstrip("/")), raw.path(key)
            frames, spacing = masks.nifti_pair(image, truth)
            for frame in range(frames):
                yield Sample(
                    key=f"{volume}.nii.gz#{frame:03}",
                    image=lazy(masks.eight_bit, lazy(masks.nifti_frame, image, frame)),
                    masks={"left_ventricle": lazy(masks.nonzero, lazy(masks.nifti_frame, truth, frame))},
                    group=patient,
                    frame=frame,
                    spacing_mm=spacing,
                    slice_mm=masks.nifti_gap(image),
                    tags={"phase": {"ED": "end-diastole", "ES": "end-systole"}[phase]},
                )


RECIPE = source(__name__, read)
