"""GIST514-DB as published: cropped JPEGs, COCO polygons in eleven files; one annotation in two pieces, raw frames beside."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def outline(mask: NDArray[np.bool_]) -> list[float]:
    """The polygon along the pixels' edges, which fills to the mask drawn: x, y, x, y, …"""
    double = np.kron(mask, np.ones((2, 2), bool)).astype(np.uint8)  # corners of pixels fall between doubled ones
    (line,), _ = cv2.findContours(double, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [float(value) for value in ((line[:, 0, :] + 1) // 2).ravel()]


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "usd514-db"
    samples, folds = {}, [dict[str, list[Any]](images=[], annotations=[]) for _ in range(5)]
    for n in range(15 * scale):
        shape = (int(rng.integers(130, 170)), int(rng.integers(140, 190)))
        pieces = [blob(shape, rng, 0.25, cell) for cell in ((0, 0, 0.5, 1), (0.5, 0, 1, 1))[: 2 if n == 7 else 1]]
        name, fold, category = f"case{n:04}.jpg", n % 5, 1 + n % 2
        picture = np.stack([speckle(shape, pieces, rng)] * 3, axis=2)
        write_image(top / "usd514_jpeg_roi/images" / name, picture)
        write_image(top / "usd514_jpeg_raw/images" / name, np.pad(picture, ((20, 20), (30, 30), (0, 0))))
        whole = np.logical_or.reduce(pieces)
        rows, cols = np.nonzero(whole.any(axis=1))[0], np.nonzero(whole.any(axis=0))[0]
        folds[fold]["images"].append(
            # The size in the file is not to be relied on.
            {"id": n, "file_name": name, "height": shape[0] + n % 2, "width": shape[1], "anatomy_id": n % 7}
        )
        folds[fold]["annotations"].append(
            {
                "id": n,
                "image_id": n,
                "category_id": category,
                "segmentation": [outline(piece) for piece in pieces],
                "bbox": [int(cols[0]), int(rows[0]), int(np.ptp(cols)) + 1, int(np.ptp(rows)) + 1],
                "area": int(whole.sum()),
                "iscrowd": 0,
            }
        )
        label = ("leiomyoma", "gist")[category - 1]
        samples[f"usd514_jpeg_roi/images/{name}"] = Drawn(
            {label: [whole]},
            split="test" if fold == 0 else "train",
            tags={"fold": fold, "diagnosis": label, "anatomy": n % 7},
        )
    categories = [{"id": 1, "name": "lmym"}, {"id": 2, "name": "GIST"}]
    for folder, crop in (("usd514_jpeg_roi", "_crop"), ("usd514_jpeg_raw", "")):
        (top / folder / "annotations").mkdir()

        def write(name: str, parts: list[dict[str, list[Any]]], folder: str = folder) -> None:
            content = {
                key: [entry for fold_content in parts for entry in fold_content[key]]
                for key in ("images", "annotations")
            }
            path = top / folder / "annotations" / name
            path.write_text(json.dumps(content | {"categories": categories}))

        for k in range(5):
            write(f"val_anno{crop}_split_{k}.json", [folds[k]])
            write(f"train_anno{crop}_split_{k}.json", folds[:k] + folds[k + 1 :])
        if crop:
            write("all_anno_crop.json", folds)
    return Truth(samples)
