"""CUBS as published: TIFFs of left and right, boundaries as a line of x and a line of y, observers and programs beside."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.specimen import Drawn, Truth, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "CUBS"
    for folder in ("CF", "SEGMENTATIONS/Manual-A1", "SEGMENTATIONS/Manual-A1s", "SEGMENTATIONS/Computerized-TUM_DE"):
        (top / folder).mkdir(parents=True)
    samples = {}
    for person in range(1, 7 * scale + 1):
        for side in "LR":
            name, shape = f"clin_{person:04}_{side}", (120, 160)
            x = np.arange(20, 140)
            inner = np.rint(60 + 8 * np.sin(x / 25 + person)).astype(int)  # the lumen-intima boundary
            outer = inner + np.rint(6 + 2 * np.cos(x / 40)).astype(int)
            band = np.zeros(shape, np.uint8)
            corners = np.concatenate([np.stack([x, inner], 1), np.stack([x, outer], 1)[::-1]])
            cv2.fillPoly(band, [corners.astype(np.int32)], 1)
            write_image(top / f"IMAGES/{name}.tiff", speckle(shape, [band != 0], rng))
            (top / f"CF/{name}_CF.txt").write_text("0.0600\n" if person % 2 else "0,0833\n")
            for folder, shift in (("Manual-A1", 0), ("Manual-A1s", 2), ("Computerized-TUM_DE", 1)):
                for boundary, y in (("LI", inner), ("MA", outer)):
                    path = top / f"SEGMENTATIONS/{folder}/{name}-{boundary}.txt"
                    order = slice(None, None, -1 if side == "R" else 1)  # some were drawn from right to left
                    profile(path, x[order], y[order] + shift, rows=person != 3)
            (top / f"SEGMENTATIONS/Manual-A1/{name}_rect.txt").write_text("20 40 120 60\n")
            samples[f"IMAGES/{name}.tiff"] = Drawn(
                {"intima_media": [band != 0]}, group=f"clin_{person:04}", tags={"side": side}
            )
    (top / "ClinicalDatabase-CUBS.csv").write_text(";Patient ID;age\nCyprus;clin_0001;65\n")
    return Truth(samples)


def profile(path: Path, x: NDArray[np.int64], y: NDArray[np.int64], *, rows: bool) -> None:
    """Pixels counted from 1: all x and then all y, or a point per line."""
    points = np.stack([x, y], axis=0 if rows else 1) + 1
    path.write_text("\n".join(" ".join(f"{value:.6f}" for value in line) for line in points) + " \n")
