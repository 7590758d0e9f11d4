"""MMOTU-3D as published: colour JPEG images, a painted mask and a 0/1 copy of it each, two lists beside."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

COLOURS = ((64, 0, 0), (0, 64, 0), (0, 0, 64), (64, 64, 64))


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    folder = root / "OTU_3d"
    lists: dict[str, list[str]] = {"train": [], "val": []}
    samples = {}
    for n in range(90, 90 + 12 * scale):
        shape = (int(rng.integers(100, 130)), int(rng.integers(130, 170)))
        mask = blob(shape, rng, 0.25, (0, 0, 0.5, 1))
        if n == 93:
            mask |= blob(shape, rng, 0.25, (0.5, 0, 1, 1))
        grey = speckle(shape, [mask], rng)
        picture = np.stack([grey, (grey * 0.7).astype(np.uint8), (grey * 0.2).astype(np.uint8)], axis=2)
        write_image(folder / f"images/{n}.JPG", picture)
        painted = np.zeros((*shape, 3), np.uint8)
        painted[mask] = COLOURS[n % len(COLOURS)]
        write_image(folder / f"annotations/{n}.PNG", painted)
        if n != 95:  # not said to be complete
            write_image(folder / f"annotations/{n}_binary.PNG", mask.astype(np.uint8))
        subset = "train" if n % 2 else "val"
        lists[subset].append(str(n))
        split = {"train": "train", "val": "test"}[subset]
        samples[f"OTU_3d/images/{n}.JPG"] = Drawn({"ovarian_lesion": [mask]}, split=split)
    for subset, numbers in lists.items():
        (folder / f"{subset}.txt").write_text("\n".join(numbers) + "\n")
    return Truth(samples)
