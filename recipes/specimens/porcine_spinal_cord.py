"""PorcineSpinalCord as published: images and painted masks of one name in two folders per split."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

SHAPE = (110, 276)
COLOURS = {
    "dura": (128, 0, 0), "pia": (0, 128, 0), "csf": (128, 128, 0), "spinal_cord": (0, 0, 128),
    "dorsal_space": (128, 0, 128), "hematoma": (0, 128, 128), "ventral_space": (128, 128, 128),
    "dura_ventral_complex": (64, 0, 0), "dura_pia_complex": (192, 0, 0),
}  # fmt: skip


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for split, count in (("train", 7), ("val", 3), ("test", 4)):
        for n in range(count * scale):
            shown = [label for k, label in enumerate(COLOURS) if (k + n) % 3]
            cells = [(k / len(shown), 0, (k + 1) / len(shown), 1) for k in range(len(shown))]
            masks = {label: blob(SHAPE, rng, 0.28, cell) for label, cell in zip(shown, cells, strict=True)}
            painted = np.zeros((*SHAPE, 3), np.uint8)
            for label, mask in masks.items():
                painted[mask] = COLOURS[label]
            name = f"pig_{n:04}.png"
            picture = speckle(SHAPE, list(masks.values()), rng)
            write_image(root / f"Segmentation/{split}_images/{name}", np.stack([picture] * 3, axis=2))
            write_image(root / f"Segmentation/{split}_masks/{name}", painted)
            samples[f"{split}_images/{name}"] = Drawn(
                {label: [mask] for label, mask in masks.items()}, group=split, split=split
            )
    return Truth(samples)
