"""FALLMUD as published: two centres, TIFF and JPEG, JPEG masks, turned aponeuroses, images that lack a mask."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, speckle, write_image

HIGH = (cv2.IMWRITE_JPEG_QUALITY, 95)


def muscle(shape: tuple[int, int], rng: np.random.Generator) -> dict[str, Any]:
    """Two bands that the muscle lies between, and lines across it."""
    rows, cols = shape
    bands, lines = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    top, bottom = int(rows * rng.uniform(0.15, 0.25)), int(rows * rng.uniform(0.7, 0.8))
    for y in (top, bottom):
        cv2.line(bands, (0, y), (cols, y + int(rng.integers(-6, 7))), 255, 7)
    for x in range(10, cols - 50, 34):
        cv2.line(lines, (x, bottom - 12), (x + 40, top + 14), 255, 4)
    return {"aponeurosis": bands != 0, "fascicle": lines != 0}


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "FALLMUD"
    samples = {}
    for centre, ending, stems in (
        ("NeilCronin", "tif", [f"img_{n:05}" for n in range(1, 300, 25)]),
        ("RyanCunningham", "jpg", [str(n) for n in range(0, 480 * scale, 40)]),
    ):
        for at, stem in enumerate(stems):
            shape = (120, 120) if at % 4 == 2 else (100, 150) if at % 2 else (110, 140)
            masks = muscle(shape, rng)
            image = speckle(shape, [], rng)
            image[masks["fascicle"]] = np.minimum(image[masks["fascicle"]], 120) + 60
            image[masks["aponeurosis"]] = np.minimum(image[masks["aponeurosis"]], 60) + 190
            write_image(
                top / f"{centre}/images/{stem}.{ending}",
                np.stack([image] * 3, axis=2),
                *(HIGH if ending == "jpg" else ()),
            )
            absent = {3: ("fascicle",), 5: ("aponeurosis",), 7: ("aponeurosis", "fascicle")}.get(at, ())
            for label, mask in masks.items():
                if label in absent:
                    continue
                grey = mask.astype(np.uint8) * 255
                if (centre, label) == ("RyanCunningham", "aponeurosis"):
                    grey = np.ascontiguousarray(np.rot90(grey))  # stored counterclockwise
                tiff = (centre, label) == ("NeilCronin", "fascicle")
                path = top / f"{centre}/{label}_masks/{stem}.{'tif' if tiff else 'jpg'}"
                write_image(path, grey, *(() if tiff else HIGH))
            samples[f"{centre}/images/{stem}.{ending}"] = Drawn(
                {label: [mask] for label, mask in masks.items() if label not in absent},
                group=f"{centre} {int(stem.rpartition('_')[2]) // 50 * 50:05}",
                tags={"centre": centre},
                dropped=len(absent) == 2,
            )
    return Truth(samples, lossless=False)
