"""TRUSTED as published: masks of floats with noise outside the kidney, two annotators, CT beside, gaps."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_volume

SPACING = (0.5, 0.5, 0.5)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "TRUSTED_dataset_for_nsd"
    samples = {}
    for n in range(1, 6):
        for side in "LR":
            case, shape, frames = f"{n:02}{side}", (40 + n, 56), 4 * scale
            stored = np.zeros((shape[1], shape[0], frames), np.uint8)  # x, y, slice
            truth = np.abs(rng.normal(0, 1e-14, stored.shape))
            key = f"US_images/{case}_imgUS.nii.gz"
            for z in range(frames):
                kidney = blob(shape, rng) if z else np.zeros(shape, bool)  # not on the first slice
                stored[:, :, z] = speckle(shape, [kidney], rng).T
                truth[:, :, z][kidney.T] = 1
                masks = {"kidney": [kidney]} if kidney.any() else {}
                if case != "04R":
                    samples[f"{key}#{z:04}"] = Drawn(masks, group=f"{n:02}")
            write_volume(top / "US_DATA" / key, stored, SPACING)
            folder = top / "US_DATA/US_masks"
            if case == "04R":  # one without a consensus
                samples[f"{key}#0000"] = Drawn(group=f"{n:02}", dropped=True)
            else:
                write_volume(folder / f"GT_estimated_masksUS/{case}_maskUS.nii.gz", truth, SPACING)
            for annotator in (1, 2) if n % 2 else (1,):
                drawing = np.zeros((4, 4, 4), np.uint8)
                write_volume(folder / f"Annotator{annotator}/{case}{annotator}_maskUS.nii.gz", drawing, SPACING)
            write_volume(top / f"CT_DATA/CT_images/{case}_imgCT.nii.gz", np.zeros((4, 4, 4), np.int16), SPACING)
    return Truth(samples)
