"""regPro as published: small NIfTI volumes with six structures on a fourth axis, MR beside; headers differ in axes."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle

SLICES, SHAPE = 14, (44, 59)  # 81 × 118 × 88 as published, half; slices are 88 rows × 118 columns
STRUCTURES = ("prostate", "landmark_1", "landmark_2", "landmark_3", "landmark_4", "landmark_5")
AXES = ("RAS", "LPS", "RAS", "SRA", "RAS", "LAS", "RAS")


def save(path: Path, pictures: Any, axes: str) -> None:
    """Sagittal slices (right, rows from the head down, columns from the front back, …), stored along `axes`."""
    upright = np.ascontiguousarray(np.moveaxis(pictures[:, ::-1, ::-1], 1, 2))
    volume = nibabel.nifti1.Nifti1Image(upright, np.diag([0.8, 0.8, 0.8, 1]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(volume.as_reoriented(turn), path)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for case, axes in enumerate(AXES * scale):
        subset = "val" if case % 7 > 4 else "train"
        name = f"case{case:06}.nii.gz"
        images = np.zeros((SLICES, *SHAPE), np.uint8)
        labels = np.zeros((SLICES, *SHAPE, len(STRUCTURES)), np.uint8)
        for n in range(SLICES):
            gland = blob(SHAPE, rng, 0.3) if 3 <= n < 11 else np.zeros(SHAPE, bool)
            shapes = {"prostate": gland} if gland.any() else {}
            for number in (1, 2, 4):  # the others are empty
                if n in (6, 7, 12 if number == 2 else 8):  # landmark 2 reaches beyond the gland
                    shapes[f"landmark_{number}"] = blob(SHAPE, rng, 0.3, (0.2 * number, 0.3, 0.2 * number + 0.2, 0.7))
            images[n] = speckle(SHAPE, list(shapes.values()), rng)
            for label, mask in shapes.items():
                labels[n, ..., STRUCTURES.index(label)][mask] = 255 if case % 7 == 2 else 1
            if shapes:
                masks = {label: [mask] for label, mask in shapes.items()}
                key = f"{subset}/us_images/{name}#{n:03}"
                samples[key] = Drawn(masks, group=name.partition(".")[0], split=subset)
        picture: Any = images
        if case % 7 == 1:
            picture = images[..., None]
        if case % 7 == 3:
            picture = images.astype(np.float32) * 10 - 200
        save(root / subset / "us_images" / name, picture, axes)
        save(root / subset / "us_labels" / name, labels.astype(np.float64) if case % 7 == 4 else labels, axes)
        for folder in ("mr_images", "mr_labels"):
            save(root / subset / folder / name, np.zeros((4, 4, 4), np.uint8), "RAS")
    return Truth(samples)
