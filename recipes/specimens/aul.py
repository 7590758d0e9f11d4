"""AUL as published: numbers restart in each class, one JSON polygon a file, the field of view among them, macOS litter."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for kind, numbers in (
        ("Benign", [1, 2, 10, 100]),
        ("Malignant", [1, 2, 229, 306, 374]),
        ("Normal", [1, 2, 3]),
    ):
        for n in numbers + [400 + m for m in range(len(numbers) * (scale - 1))]:
            shape = (int(rng.integers(140, 170)), int(rng.integers(180, 220)))
            rows, cols = shape
            centre = (cols * rng.uniform(0.4, 0.6), rows * rng.uniform(0.45, 0.55))
            fan = [
                [cols // 2 - 20, 2],
                [cols // 2 + 20, 2],
                [cols - 3, rows - 30],
                [cols // 2, rows - 2],
                [2, rows - 30],
            ]
            polygons = {"outline": fan, "liver": _around(centre, 0.36 * rows, 30, rng)}
            if kind != "Normal":
                polygons["mass"] = _around(centre, 0.12 * rows, 14, rng)
            truth = {structure: _filled(points, shape) for structure, points in polygons.items()}
            if (kind, n) in {("Malignant", 229), ("Malignant", 306)}:
                polygons["outline"] = polygons.pop("liver")
            if (kind, n) == ("Malignant", 374):
                del polygons["liver"], truth["liver"]
            del truth["outline"]
            if "mass" in truth:
                truth[f"{kind.lower()}_mass"] = truth.pop("mass")
            folder = root / kind
            picture = np.stack([speckle(shape, list(truth.values()), rng)] * 3, axis=2)
            write_image(folder / f"image/{n}.jpg", picture)
            for structure, points in polygons.items():
                path = folder / f"segmentation/{structure}/{n}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(points))
            samples[f"{kind}/image/{n}.jpg"] = Drawn(
                {label: [mask] for label, mask in truth.items()},
                group=f"{kind}/{n}",
                tags={"diagnosis": kind.lower()},
            )
        (root / f"__MACOSX/{kind}/image").mkdir(parents=True)
        (root / f"__MACOSX/{kind}/image/._1.jpg").write_bytes(b"\0\x05\x16\x07")
    return Truth(samples)


def _around(centre: tuple[float, float], radius: float, corners: int, rng: np.random.Generator) -> list[list[float]]:
    """A star-shaped polygon, in tenths of a pixel."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = radius * rng.uniform(0.75, 1.0, corners)
    x, y = centre[0] + reach * np.cos(angle), centre[1] + reach * np.sin(angle)
    return [[round(float(a), 1), round(float(b), 1)] for a, b in zip(x, y, strict=True)]


def _filled(points: Any, shape: tuple[int, int]) -> Any:
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.rint(np.array(points)).astype(np.int32)], 1)
    return canvas != 0
