"""CSD as published: a VOC tree below two folders of one name, lists that name more images than there are."""

from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

SHAPE = (90, 120)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "VOCdevkit_CSD/VOCdevkit_CSD/VOC2007"
    samples = {}
    lists: dict[str, list[str]] = {"train": ["900001", "900002"], "val": ["900003"]}
    for n in range(10 * scale):
        name, split = f"{100 + n}", "val" if n % 5 == 4 else "train"
        defect = blob(SHAPE, rng, 0.2)
        image = np.stack([speckle(SHAPE, [defect], rng)] * 3, axis=2)
        write_image(top / f"JPEGImages/{name}.jpg", image, cv2.IMWRITE_JPEG_QUALITY, 95)
        # The value of the defect is not known: the index of a class, or white.
        write_image(top / f"SegmentationClass/{name}.png", defect.astype(np.uint8) * (255 if n % 2 else 1))
        lists[split].append(name)
        samples[f"JPEGImages/{name}.jpg"] = Drawn({"defect": [defect]}, split=split)
    for split, names in lists.items():
        path = top / f"ImageSets/Segmentation/{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")
    return Truth(samples)
