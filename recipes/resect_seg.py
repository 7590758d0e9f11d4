"""RESECT-SEG: brain tumours before, and resection cavities during and after surgery, in 3-D volumes. Beyond US-43d."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

NAME = re.compile(r"(Case\d+)-US-(before|during|after)(-tumor|-resection)?\.nii\.gz", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    places = {key.rpartition("/")[2].lower(): key for key in raw.glob("**/Case*-US-*.nii.gz")}
    for name, key in sorted(places.items()):
        if not (match := NAME.fullmatch(name)) or match[3]:
            continue  # a mask, or a file that the build then names
        case, phase = match[1].capitalize(), match[2]
        label, suffix = ("tumour", "tumor") if phase == "before" else ("cavity", "resection")
        image, mask_key = raw.path(key), places.get(f"{case}-US-{phase}-{suffix}.nii.gz".lower())
        stem, shown, tags = f"{case}-US-{phase}", list[int](), {"phase": phase}
        drop = "no mask is published for this volume"
        if mask_key:
            truth = raw.path(mask_key)
            raw.use(truth)
            frames, spacing = masks.nifti_pair(image, truth)
            shown = [n for n in range(frames) if masks.nifti_frame(truth, n).any()]
            drop = "the mask of this volume is empty"
        if not shown:
            yield Sample(key=f"{stem}#0000", image=image, group=case, tags=tags, drop=drop)
        for n in shown:
            yield Sample(
                key=f"{stem}#{n:04}",
                image=lazy(masks.grey_frame, masks.nifti_frame, image, n, frames),
                masks={label: lazy(masks.nonzero, lazy(masks.nifti_frame, truth, n))},
                group=case,
                frame=n,
                spacing_mm=spacing,
                slice_mm=masks.nifti_gap(image),
                tags=tags,
            )


RECIPE = source(__name__, read)
