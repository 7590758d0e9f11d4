"""RESECT-SEG: brain tumours before, resection cavities during and after surgery, sulci and falx, in 3-D volumes."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

VOLUME = re.compile(r"(Case\d+)-US-(before|during|after)\.nii\.gz")
#: Ending of a mask's name → its label.
LABELS = {"tumor": "tumour", "resection": "cavity", "sulci": "sulci", "falx": "falx"}


def read(raw: RawTree) -> Iterator[Sample]:
    places = {key.rpartition("/")[2]: key for key in raw.glob("**/Case*-US-*.nii.gz")}
    for name, key in sorted(places.items()):
        if not (match := VOLUME.fullmatch(name)):
            continue  # a mask, or a file that the build then names
        case, phase = match.groups()
        with raw.reading(f"{case}-US-{phase}"):
            image, stem, tags = raw.path(key), f"{case}-US-{phase}", {"phase": phase}
            keys = {label: places.get(f"{stem}-{ending}.nii.gz") for ending, label in LABELS.items()}
            truths = {label: raw.path(mask) for label, mask in keys.items() if mask}
            frames, spacing, shown = 0, None, set[int]()
            for truth in truths.values():
                raw.use(truth)
                frames, spacing = masks.nifti_pair(image, truth)
                shown |= {n for n in range(frames) if masks.nifti_frame(truth, n).any()}
            if not shown:
                drop = "the masks of this volume are empty" if truths else "no mask is published for this volume"
                yield Sample(key=f"{stem}#0000", image=image, group=case, tags=tags, drop=drop)
            for n in sorted(shown):
                yield Sample(
                    key=f"{stem}#{n:04}",
                    image=lazy(masks.grey_frame, masks.nifti_frame, image, n, frames),
                    masks={
                        label: lazy(masks.nonzero, lazy(masks.nifti_frame, path, n)) for label, path in truths.items()
                    },
                    group=case,
                    frame=n,
                    spacing_mm=spacing,
                    slice_mm=masks.nifti_gap(image),
                    tags=tags,
                )


RECIPE = source(__name__, read)
