"""Thyroid US Cineclip as published: one HDF5 file, clips in no order, frames from 1, ids with an underscore, a table."""

from pathlib import Path

import h5py
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle

SHAPE = (80, 105)  # the real frames have 802 × 1054
#: annot_id → age, sex; sorted by number, 6 to 9 are one group, and 96 and 98 another.
CLIPS = {
    "129_": (61, "F"), "96_": (45, "F"), "98_": (45, "F"), "7_": (38, "M"), "9_": (38, "M"), "6_": (38, "M"),
    "10_": (38, "F"), "150_": (70, "F"), "100_": (45, "M"), "151_": (38, "M"), "160_": (29, "F"), "161_": (30, "F"),
    "170_": (52, "F"), "203_": (61, "F"),
}  # fmt: skip
GROUPS = {"6_": "6_", "7_": "6_", "9_": "6_", "98_": "96_"}
COLUMNS = (
    "annot_id,age,sex,location,size_x,size_y,size_z,ti-rads_composition,ti-rads_echogenicity,ti-rads_shape,"
    "ti-rads_margin,ti-rads_echogenicfoci,ti-rads_level,histopath_diagnosis"
)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    frames = 4 * scale
    total = frames * len(CLIPS)
    samples = {}
    with h5py.File(root / "dataset.hdf5", "w") as file:
        images = file.create_dataset("image", (total, *SHAPE), np.uint8)
        truths = file.create_dataset("mask", (total, *SHAPE), np.uint8)
        ids: list[bytes] = []
        numbers: list[bytes] = []
        for clip, (age, sex) in CLIPS.items():
            for frame in range(frames):
                row = len(ids)
                mask = blob(SHAPE, rng) if frame else np.zeros(SHAPE, bool)
                pixels = mask.astype(np.uint8) * 255
                if frame == 1:  # a hole, which is filled when read
                    pixels[tuple(np.argwhere(mask).mean(axis=0).astype(int))] = 0
                images[row], truths[row] = speckle(SHAPE, [mask], rng), pixels
                ids.append(clip.encode())
                numbers.append(str(frame + 1).encode())
                samples[f"dataset.hdf5#{row:05}"] = Drawn(
                    {"thyroid_nodule": [mask]} if frame else {},
                    group=GROUPS.get(clip, clip),
                    tags={
                        "clip": clip,
                        "age": age,
                        "sex": sex,
                        "ti-rads_margin": "smooth",
                        "ti-rads_composition": "solid",
                    },
                )
        file.create_dataset("annot_id", data=np.array(ids, "S4"))
        file.create_dataset("frame_num", data=np.array(numbers, f"S{max(3, len(str(frames)))}"))
    rows = [
        f"{clip},{age},{sex},right,1.2,0.9,1.1,solid,hypoechoic,wider-than-tall,smooth,none,4,0"
        for clip, (age, sex) in CLIPS.items()
    ]
    (root / "metadata.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    return Truth(samples)
