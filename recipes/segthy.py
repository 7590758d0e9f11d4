"""Segthy: tracked neck sweeps of volunteers; label volumes with thyroid and, per side, carotid artery and jugular vein."""

import re
from collections.abc import Iterator
from typing import Any

from us43d import masks
from us43d.contract import Lazy, RawTree, Remarked, Sample, lazy
from us43d.facts import source

#: The vessels have one number per side; which is left is contradictory, so the side is not kept.
VALUES = {"thyroid": (1,), "carotid": (2, 4), "jugular": (3, 5)}
NAME = re.compile(r".*/(\d{3})_P(\d+)_(\d+)_(left|right)_US\.nii", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("US_thyroid_label")
    for key in tree.glob("US/*_US.nii"):
        if (match := NAME.fullmatch(key)) is None:
            continue  # and the build says that the file was not read
        volunteer, physician, repeat, side = match.groups()
        with tree.reading(key):
            image, truth = tree.path(key), tree.path(f"US_thyroid_label/{key[3:-7]}.nii")
            frames, spacing = masks.nifti_pair(image, truth)
            for frame in range(frames):
                labels = lazy(logged, lazy(masks.turned, lazy(masks.nifti_frame, truth, frame)))
                structures: dict[str, Lazy] = {
                    label: lazy(masks.equal, labels, *values) for label, values in VALUES.items()
                }
                yield Sample(
                    key=f"{key}#{frame:04}",
                    image=lazy(masks.turned, lazy(masks.eight_bit, lazy(masks.nifti_frame, image, frame))),
                    masks=structures,
                    group=volunteer,
                    frame=frame,
                    spacing_mm=spacing,
                    slice_mm=masks.nifti_gap(image),
                    tags={"physician": int(physician), "repeat": int(repeat), "side": side},
                )


def logged(labels: Any) -> Any:
    """Return the label map, with a remark on the values it holds: sources disagree on which occur."""
    import numpy as np

    values = [int(value) for value in np.unique(masks.label_map(labels, (1, 2, 3, 4, 5))) if value]
    return Remarked(labels, tuple(f"label value {value} occurs" for value in values))


RECIPE = source(__name__, read)
