"""CETUS as published: two volumes per patient, 8-bit values stored as floats, a ventricle of 255."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_volume


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n in range(1, 6):
        patient = f"patient{n:02}"
        for phase, name in (("ED", "end-diastole"), ("ES", "end-systole")):
            shape, frames = (48, 52 + n), 5 * scale  # rows = y, columns = x
            stored = np.zeros((shape[1], shape[0], frames), np.float32)  # x, y, z
            truth = np.zeros(stored.shape, np.uint8)
            for z in range(frames):
                cavity = blob(shape, rng) if 0 < z < frames - 1 else np.zeros(shape, bool)  # not on the outer slices
                stored[:, :, z] = speckle(shape, [cavity], rng).T
                truth[:, :, z] = cavity.T * 255
                masks = {"left_ventricle": [cavity]} if cavity.any() else {}
                samples[f"{patient}_{phase}.nii.gz#{z:03}"] = Drawn(masks, group=patient, tags={"phase": name})
            folder = root / "dataset" / patient
            write_volume(folder / f"{patient}_{phase}.nii.gz", stored, (0.7, 0.7, 0.7))
            write_volume(folder / f"{patient}_{phase}_gt.nii.gz", truth, (0.7, 0.7, 0.7))
    return Truth(samples)
