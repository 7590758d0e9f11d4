"""Segthy as published: uncompressed volumes stored upside down, both lobes and repeats of a volunteer, one number per side."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, write_volume

SPACING = (0.12, 0.12, 0.12)
SCANS = [(n, 1 + n % 3, 1 + n // 20, side) for n in (1, 2, 3, 5, 6, 7, 8, 11, 14, 21) for side in ("left", "right")]


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "US_volunteer_dataset/ground_truth_data"
    samples = {}
    for volunteer, physician, repeat, side in SCANS:
        name = f"{volunteer:03}_P{physician}_{repeat}_{side}"
        shape, frames = (60 + volunteer, 80), 3 * scale
        stored = np.zeros((shape[1], shape[0], frames), np.float32 if volunteer % 2 else np.uint8)  # x, y, slice
        truth = np.zeros(stored.shape, np.uint8)
        for t in range(frames):
            thyroid = blob(shape, rng, 0.3, (0, 0, 0.5, 1))
            carotid, jugular = blob(shape, rng, 0.3, (0.5, 0, 1, 0.5)), blob(shape, rng, 0.3, (0.5, 0.5, 1, 1))
            masks = {"thyroid": thyroid, "carotid": carotid, "jugular": jugular}
            if volunteer == 2:  # one with the thyroid alone
                masks = {"thyroid": thyroid}
            if t == 2:  # a slice beyond the lobe
                masks = {}
            values = {"thyroid": 1, "carotid": 4 if side == "right" else 2, "jugular": 5 if side == "right" else 3}
            labels = label_map(shape, {values[label]: mask for label, mask in masks.items()})
            stored[:, :, t] = speckle(shape, list(masks.values()), rng)[::-1, ::-1].T
            truth[:, :, t] = labels[::-1, ::-1].T
            samples[f"US/{name}_US.nii#{t:04}"] = Drawn(
                {label: [mask] for label, mask in masks.items()},
                group=f"{volunteer:03}",
                tags={"physician": physician, "repeat": repeat, "side": side},
            )
        write_volume(top / f"US/{name}_US.nii", stored, SPACING)
        write_volume(top / f"US_thyroid_label/{name}.nii", truth, SPACING)
    write_volume(root / "US_volunteer_dataset/scans/004_P1_1_left_US.nii", np.zeros((8, 8, 2), np.uint8), SPACING)
    return Truth(samples)
