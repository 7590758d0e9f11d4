"""Mus-V as published: clips as frames in two folders, label maps of 1 and 2, the vein missing under force, forces beside."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, write_image

SHAPE = (110, 140)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top, samples = root / "Multimodal Ultrasound Vascular Segmentation", {}
    for clip in range(6):
        folder, split = ("valid", "val") if clip > 3 else ("train", "train")
        for t in range(3 * scale):
            masks = {
                "vein": blob(SHAPE, rng, 0.27, (0, 0, 0.5, 1)),
                "artery": blob(SHAPE, rng, 0.27, (0.5, 0, 1, 1)),
            }
            if t % 3 == 2:  # compressed
                del masks["vein"]
            labels = label_map(SHAPE, {("vein", "artery").index(label) + 1: mask for label, mask in masks.items()})
            name = f"carotid_{clip}_{t:03}.png"
            write_image(top / f"Videos/{folder}/{name}", speckle(SHAPE, list(masks.values()), rng))
            write_image(top / f"Annotations/{folder}/{name}", labels)
            force = top / f"Forces/{folder}/{name[:-4]}.txt"
            force.parent.mkdir(parents=True, exist_ok=True)
            force.write_text("0.1 0.2 3.0\n")
            samples[f"Videos/{folder}/{name}"] = Drawn(
                {label: [mask] for label, mask in masks.items()}, group=f"carotid_{clip}", split=split
            )
    return Truth(samples)
