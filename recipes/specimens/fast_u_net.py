"""Fast-U-Net's repository, archives unpacked: noisy and clean masks, exams with several heads, lists of other folders."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, ring, speckle, write_image

SHAPE = (160, 236)  # half of 320 × 472 in each direction


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "Fast-U-Net-5123c8e12fb9d847cc04eae2c69d6e9508731205"
    samples: dict[str, Drawn] = {}
    lists: dict[tuple[str, str], list[str]] = {}

    def add(half: str, name: str, suffix: str, folder: str, region: Any, mask: Any, group: str) -> None:
        subset = "val" if len(samples) % 5 == 2 else "train"
        write_image(top / "Dataset" / half / folder / f"{name}.png", speckle(SHAPE, [region], rng))
        write_image(top / "Dataset" / half / "mask" / f"{name}{suffix}.png", mask)
        lists.setdefault((half, subset), []).append(
            f"resized_data/image/{name}.png resized_data/mask/{name}{suffix}.png"
        )
        label = "fetal_abdomen" if half == "AC" else "fetal_head"
        samples[f"{half}/{name}.png"] = Drawn({label: [region]}, group=group, split=subset, tags={"set": half})

    for n in range(1, 7 * scale + 1):
        for family, folder in (("", "image1"), ("fa_", "image2")):
            abdomen = blob(SHAPE, rng, 0.28)
            mask = abdomen.astype(np.uint8) * 255 if family else _noisy(abdomen, rng)
            add("AC", f"{family}{n:04}", "", folder, abdomen, mask, f"AC:{family}{n:04}")
    for exam in range(7 * scale):
        for suffix in ("HC", "2HC", "3HC", "4HC")[: (1, 2, 1, 4)[exam % 4]]:
            axes = (rng.uniform(100, 140), rng.uniform(70, 95))
            head, _ = ring(SHAPE, (rng.uniform(95, 140), rng.uniform(72, 88)), axes, rng.uniform(-15, 15))
            name = f"{exam:03}_{suffix}"
            folder = f"image{1 + exam % 3}"
            add("HC", name, "_Annotation", folder, head, head.astype(np.uint8) * 255, f"HC:{exam:03}")
    for half in ("AC", "HC"):
        (top / "Dataset" / half / "data").write_bytes(b"\n")
        for subset in ("train", "val"):
            (top / "Dataset" / half / f"{subset}.txt").write_text("\n".join(lists[half, subset]) + "\n")
    for name in ("1576", "1582", "1588"):
        head, _ = ring(SHAPE, (118, 80), (110, 80), 0)
        write_image(top / f"test_data/image/{name}.jpg", speckle(SHAPE, [head], rng))
        write_image(top / f"test_data/mask/{name}.jpg", head.astype(np.uint8) * 255)
    write_image(top / "Fast_unet/000.jpg", speckle(SHAPE, [], rng))
    for name in ("Fast_unet.h5", "test.py", "test.txt", "README.md"):
        (top / name).write_text("\n")
    return Truth(samples)


def _noisy(mask: Any, rng: np.random.Generator) -> Any:
    """A mask with a soft, noisy edge between 0 and 255, as the numbered ones have."""
    soft = cv2.GaussianBlur(mask.astype(np.float64) * 255, (9, 9), 0)
    soft += np.where((soft > 1) & (soft < 254), rng.normal(0, 5, SHAPE), 0)
    return np.rint(np.where(mask, np.clip(soft, 128, 255), np.clip(soft, 0, 127))).astype(np.uint8)
