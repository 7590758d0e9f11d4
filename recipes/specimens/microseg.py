"""MicroSeg as published: numbered volumes in two parts that restart at 01, stored upside down; other annotators beside."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_volume

SPACING = (0.03, 0.03, 1.0)
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
            write_volume(folder / f"micro_ultrasound_scans/microUS_{subset}_{number:02}.nii.gz", stored, SPACING)
            write_volume(folder / f"expert_annotations/expert_annotation_{subset}_{number:02}.nii.gz", truth, SPACING)
            for other, name in OTHERS[subset].items():
                write_volume(folder / other / f"{name}_{subset}_{number:02}.nii.gz", np.roll(truth, 3, axis=0), SPACING)
    return Truth(samples)
