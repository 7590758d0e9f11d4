"""MicroSeg as published: numbered volumes in two parts that restart at 01, stored upside down; other annotators beside."""

from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from us43d.specimen import Drawn, Truth, blob, speckle

TOP = "Micro_Ultrasound_Prostate_Segmentation_Dataset"
OTHERS = {
    "train": {"non_expert_annotations": "nonexpert_annotation"},
    "test": {
        "master_student_annotations": "master_student_annotation",
        "medical_student_annotations": "medical_student_annotation",
        "clinician_annotations": "clinician_annotation",
    },
}


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for subset, volumes in (("train", 8), ("test", 3)):
        folder = root / TOP / subset
        for number in range(1, volumes + 1):
            shape, frames = (70 + number, 100), 3 * scale
            stored = np.zeros((100, 70 + number, frames), np.float32 if number % 2 else np.uint8)  # x, y, slice
            truth = np.zeros(stored.shape, np.uint8)
            for t in range(frames):
                prostate = blob(shape, rng) if t else np.zeros(shape, bool)  # the first slice shows none
                stored[:, :, t] = np.minimum(speckle(shape, [prostate], rng), 254)[::-1, ::-1].T
                truth[:, :, t] = prostate[::-1, ::-1].T * (1 if number % 2 else 255)
                key = f"{subset}/micro_ultrasound_scans/microUS_{subset}_{number:02}.nii.gz#{t:03}"
                masks = {"prostate": [prostate]} if t else {}
                samples[key] = Drawn(masks, group=f"{subset}_{number:02}", split=subset)
            write(folder / f"micro_ultrasound_scans/microUS_{subset}_{number:02}.nii.gz", stored)
            write(folder / f"expert_annotations/expert_annotation_{subset}_{number:02}.nii.gz", truth)
            for other, name in OTHERS[subset].items():
                write(folder / other / f"{name}_{subset}_{number:02}.nii.gz", np.roll(truth, 3, axis=0))
    return Truth(samples)


def write(path: Path, volume: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.nifti1.Nifti1Image(volume, np.diag([0.03, 0.03, 1.0, 1.0])), path)
