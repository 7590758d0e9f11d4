"""UBPD as published: LabelMe files with the image inside, some in GBK, outlines that overlap, a TIFF named .jpg."""

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, speckle, write_image

CELLS = {"dongmai": (4, 4), "jingmai": (58, 8), "shenjing": (10, 52), "jizhu": (60, 54)}


def polygon(x: int, y: int, rng: np.random.Generator) -> list[list[float]]:
    """An outline around (x, y) to (x + 40, y + 40), with fractions that rounding takes away."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radii = rng.uniform(10, 19, 9)
    points = np.stack([x + 20 + radii * np.cos(angles), y + 20 + radii * np.sin(angles)], axis=1)
    return [[float(px), float(py)] for px, py in np.rint(points) + rng.uniform(-0.4, 0.4, points.shape)]


def filled(points: list[list[float]], shape: tuple[int, int]) -> Any:
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 1)
    return canvas != 0


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "UBPD-2a3ec1ca9a545865c17c27ca8e5ba2f3de03b5f6"
    labels = top / "data/dataset/labels/json_train"
    labels.mkdir(parents=True)
    stems = [f"{patient}_{n}" for patient in (1, 4, 7, 44, 47, 131, 166) for n in range(3, 3 + 3 * scale)]
    samples = {}
    for at, stem in enumerate([*stems, "2_1_0", "3_1_0", "100_101", "100_110"]):
        shape = (104, 110)
        shapes = [(label, polygon(*cell, rng)) for label, cell in CELLS.items() if label != "jizhu" or at % 5 == 0]
        shapes.append(("shenjing", polygon(58, 54, rng)))  # beside the spine, which it may overlap
        shapes.append(("jirouzuzhi", [[30.2, 2.1], [109.6 + (at % 3 == 0), 2.0], [100.1, 90.3], [24.8, 70.0]]))
        if at == 0:
            shapes.append(("zhifang", polygon(30, 30, rng)))
        masks: dict[str, list[Any]] = {}
        for label, points in shapes:
            masks.setdefault(label, []).append(filled(points, shape))
        picture = speckle(shape, [mask for group in masks.values() for mask in group], rng)
        path = top / f"data/dataset/images/{stem}.jpg"
        write_image(path, np.stack([picture] * 3, axis=2))
        if at % 4 == 3:
            path.write_bytes(cv2.imencode(".tiff", picture)[1].tobytes())
        text = json.dumps(
            {
                "version": "3.16.7",
                "flags": {},
                "shapes": [
                    {"label": label, "line_color": None, "fill_color": None, "points": points}
                    | ({"shape_type": "polygon"} if at % 2 else {})
                    for label, points in shapes
                ],
                "imagePath": f"..\\臂丛神经\\{stem}.jpg" if at % 3 == 1 else "1_1.jpg",
                "imageData": base64.b64encode(path.read_bytes()).decode("ascii"),
                "imageHeight": shape[0],
                "imageWidth": shape[1],
            },
            ensure_ascii=False,
        )
        (labels / f"{stem}.json").write_bytes(text.encode("gbk" if at % 3 == 1 else "utf-8"))
        samples[f"images/{stem}.jpg"] = Drawn(masks, group=stem.partition("_")[0])
    for name in (
        "src/train.py", "src/notebooks/main.ipynb", "main.py", "tests/test_helper.py", "output.png", ".gitignore",
        ".placeholder", "README.md", ".python-version", "pyproject.toml", "uv.lock", "wandb/debug.log", "wandb/run-20251007_175613-4fh2q3pi/files/wandb-summary.json",
    ):  # fmt: skip
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("{}\n")
    return Truth(samples)
