"""RESECT-SEG as published: volumes and masks of a case in one folder, or in two trees; phases without a mask."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle

SHAPE = (66, 74)


def save(path: Path, slices: Any) -> None:
    """Slices (z, y, x), stored with axes x, y, z."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = nibabel.nifti1.Nifti1Image(np.ascontiguousarray(slices.transpose(2, 1, 0)), np.diag([0.2, 0.2, 0.2, 1]))
    nibabel.save(volume, path)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for case in ("Case2", "Case3", "Case7", "Case11"):
        for phase in ("before", "after"):
            bare = (case, phase) == ("Case11", "after")  # the one without a mask at OSF
            frames, stem = 4 * scale, f"{case}-US-{phase}"
            images, labels = np.zeros((2, frames, *SHAPE), np.uint8)
            label, ending = ("tumour", "tumor") if phase == "before" else ("cavity", "resection")
            for z in range(frames):
                mask = np.zeros(SHAPE, bool) if z % 4 == 3 else blob(SHAPE, rng, 0.28)
                images[z] = speckle(SHAPE, [mask], rng)
                labels[z][mask] = 1
                if mask.any() and not bare:
                    facts: Any = {"group": case, "tags": {"phase": phase}}
                    samples[f"{stem}#{z:04}"] = Drawn({label: [mask]}, **facts)
            challenge = case == "Case7"  # the form of the challenge: two trees
            save(root / (f"RESECT/NIFTI/{case}/US" if challenge else case) / f"{stem}.nii.gz", images)
            if bare:
                samples[f"{stem}#0000"] = Drawn(dropped=True, group=case, tags={"phase": phase})
            else:
                folder = root / (f"RESECT_segmentation/{case}" if challenge else case)
                save(folder / f"{stem}-{ending}.nii.gz", labels.astype(np.float32) if challenge else labels)
    return Truth(samples)
