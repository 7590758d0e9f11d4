"""CCA (MI-SegNet) as published: three folders, other names in the third, masks of 0 and 1 or 255, some of them empty."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

SHAPE = (128, 150)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    parts = (("Training", "train", 8), ("ValS", "val", 3), ("TS3", "test", 4))
    for subset, split, count in parts:
        for n in range(1, count * scale + 1):
            image, label = (f"Image_{n}", f"Label_{n}") if subset == "TS3" else (f"img{n:04}", f"label{n:04}")
            artery = np.zeros(SHAPE, bool) if n == 3 else blob(SHAPE, rng, 0.25)
            picture = speckle(SHAPE, [artery], rng)
            folder = root / "MI_SegNet_dataset" / subset
            write_image(folder / f"img/{image}.png", picture if n % 2 else np.stack([picture] * 3, axis=2))
            write_image(folder / f"label/{label}.png", artery.astype(np.uint8) * (1 if subset == "ValS" else 255))
            samples[f"{subset}/img/{image}.png"] = Drawn(
                {"carotid_artery": [artery]}, group=subset, split=split, tags={"part": subset}
            )
    return Truth(samples)
