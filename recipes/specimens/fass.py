"""FASS as published: colour and one-channel PNG, pickled dictionaries of arrays, overlaps, irregular zero padding."""

import pickle
from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

CELLS = {"artery": (0, 0, 0.3, 0.6), "liver": (0.3, 0, 1, 0.6), "stomach": (0, 0.5, 0.4, 1), "vein": (0.5, 0.5, 1, 1)}
GREY = ("P01", "P03", "P0149", "P0162")


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "Fetal Abdominal Structures Segmentation Dataset Using Ultrasonic Images"
    (top / "ARRAY_FORMAT").mkdir(parents=True)
    samples = {}
    for p, patient in enumerate(("P01", "P03", "P12", "P0149", "P149", "P0162", "P20", "P21", "P22", "P23", "P24")):
        for n in range(1, 3 * scale + 1):
            shape = (96, 128)  # the real ones have 768 × 1024
            masks = {name: blob(shape, rng, 0.28, cell) for name, cell in CELLS.items()}
            if n % 3 == 2:
                masks["stomach"] = np.zeros(shape, bool)
            if n % 3 == 0:  # two structures share a few pixels
                masks["liver"] |= np.roll(masks["artery"], 3, axis=1)
            if (p, n) == (6, 1):
                masks = {name: np.zeros(shape, bool) for name in CELLS}
            picture = speckle(shape, list(masks.values()), rng)
            if patient in GREY:
                image = picture
            else:
                image = np.stack([picture] * 3, axis=2)
                image[2:8, 2:20] = (255, 200, 0)
            stem = f"{patient}_IMG{n}"
            write_image(top / f"IMAGES/{stem}.png", image)
            content = {"image": picture, "structures": {name: mask.astype(np.uint8) for name, mask in masks.items()}}
            with (top / f"ARRAY_FORMAT/{stem}.npy").open("wb") as file:
                if p % 2:
                    np.save(file, np.array(content, object), allow_pickle=True)
                else:  # what NumPy 1 wrote
                    np.lib.format.write_array_header_1_0(file, {"shape": (), "fortran_order": False, "descr": "|O"})
                    pickled = pickle.dumps(np.array(content, object), protocol=3)
                    file.write(pickled.replace(b"cnumpy._core.", b"cnumpy.core."))
            samples[f"IMAGES/{stem}.png"] = Drawn(
                {name: [mask] for name, mask in masks.items() if mask.any()}, group=str(int(patient[1:]))
            )
    return Truth(samples)
