"""MMOTU-2D as published: JPEG images, coloured masks with two binary copies each, lists beside the folders."""

from pathlib import Path

import numpy as np

from us43d.facts import facts
from us43d.specimen import Drawn, Truth, blob, speckle, write_image

COLOURS = facts("mmotu_2d").colours


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    folder = root / "OTU_2d"
    lists: dict[str, list[str]] = {"train": [], "val": []}
    classes: dict[str, list[str]] = {"train": [], "val": []}
    samples = {}
    for n in range(1, 14 * scale + 1):
        index = n % len(COLOURS)
        label = list(COLOURS)[index]
        shape = (int(rng.integers(120, 150)), int(rng.integers(150, 190)))
        left, right = (0, 0, 0.5, 1), (0.5, 0, 1, 1)
        mask = blob(shape, rng, 0.25, left) | blob(shape, rng, 0.25, right) if n == 5 else blob(shape, rng)
        picture = np.repeat(speckle(shape, [mask], rng)[..., None], 3, 2)
        picture[8:12, 8:30] = (250, 220, 40)  # a burnt-in mark
        write_image(folder / f"images/{n}.JPG", picture)
        painted = np.zeros((*shape, 3), np.uint8)
        painted[mask] = COLOURS[label]
        write_image(folder / f"annotations/{n}.PNG", painted)
        for copy in ("binary", "binary_binary"):
            write_image(folder / f"annotations/{n}_{copy}.PNG", mask.astype(np.uint8))
        subset = "val" if n % 3 == 0 else "train"
        lists[subset].append(str(n))
        classes[subset].append(f"{n}.JPG  {index}")
        samples[f"OTU_2d/images/{n}.JPG"] = Drawn({label: [mask]}, split="test" if subset == "val" else "train")
    for subset in lists:
        (folder / f"{subset}.txt").write_text("\n".join(lists[subset]) + "\n")
        (folder / f"{subset}_cls.txt").write_text("\n".join(classes[subset]) + "\n")
    return Truth(samples)
