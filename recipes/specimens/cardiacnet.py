"""CardiacNet as published: sparse labels in NIfTI videos of two subsets, plain files, gzipped ones and folders called .nii."""

from pathlib import Path
from typing import Any

import numpy as np

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, write_volume

SHAPE = (72, 96)
CELLS = {
    "left_ventricle": (0.5, 0, 1, 0.5), "right_ventricle": (0, 0, 0.5, 0.5),
    "left_atrium": (0.5, 0.5, 1, 1), "right_atrium": (0, 0.5, 0.5, 1),
}  # fmt: skip
CASES = (
    ("CardiacNet-PAH", "PAH", "001", ""), ("CardiacNet-PAH", "PAH", "002", "folder"),
    ("CardiacNet-PAH", "Non-PAH", "001", "plain"), ("CardiacNet-PAH", "Non-PAH", "003", "slip"),
    ("CardiacNet-ASD", "ASD", "001", "unlabelled"), ("CardiacNet-ASD", "ASD", "002", "empty"),
    ("CardiacNet-ASD", "Non-ASD", "001", "mismatched"), ("CardiacNet-ASD", "Non-ASD", "004", "folder"),
)  # fmt: skip


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for subset, finding, number, form in CASES:
        case, frames = f"{subset}/{finding}/{number}", 6 * scale
        facts: Any = {"group": case, "tags": {"subset": subset, "class": finding}}
        images, labels = np.zeros((2, frames, *SHAPE), np.uint8)
        for t in range(frames):
            shapes = {label: blob(SHAPE, rng, 0.27, cell) for label, cell in CELLS.items()}
            images[t] = speckle(SHAPE, list(shapes.values()), rng)
            if t % 6 not in (1, 4) or form in ("unlabelled", "empty"):
                continue
            slip = form == "slip" and t % 6 == 4
            labels[t] = label_map(SHAPE, dict(enumerate(shapes.values(), 1)))
            if slip:
                labels[t] = 0
                labels[t][3, 3:6] = 2
            if form != "mismatched":
                masks = {label: [mask] for label, mask in shapes.items()}
                samples[f"{case}#{t:04}"] = Drawn({} if slip else masks, dropped=slip, **facts)
        if form in ("unlabelled", "empty", "mismatched"):
            samples[f"{case}#0000"] = Drawn(dropped=True, **facts)
        name = root / f"{case}_image.nii"
        place = name / f"{number}_image.nii" if form == "folder" else name if form == "plain" else f"{name}.gz"
        write_volume(Path(place), (images * np.float32(2.5) - 20 if form == "plain" else images).T)
        if form != "unlabelled":
            ending = ".nii" if form in ("folder", "plain") else ".nii.gz"
            write_volume(root / f"{case}_label{ending}", (labels[:-1] if form == "mismatched" else labels).T)
    return Truth(samples)
