"""HC18: 999 fetal heads, each drawn as the outline of an ellipse, with pixel size and head circumference in a table."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, lazy
from us43d.facts import source

SIZE, CIRCUMFERENCE = "pixel size(mm)", "head circumference (mm)"


def measured(head: Any, pixel: float, circumference: float) -> Any:
    """Return the mask, with a remark where its circumference (mm) is far from the one in the table.

    Of 36 published ones, 0.998 to 1.009 times the table's were measured.
    """
    import cv2
    import numpy as np

    contours, _ = cv2.findContours(head.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len, default=np.empty((0, 1, 2), np.int32))
    if len(outline) < 5:
        return head
    _, (a, b), _ = cv2.fitEllipse(outline)
    h = ((a - b) / (a + b)) ** 2
    around = pixel * math.pi * (a + b) / 2 * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))  # Ramanujan's second formula
    if 0.95 * circumference < around < 1.05 * circumference:
        return head
    return Remarked(
        head, (f"circumference differs from the table: {around:.1f} mm of the mask, {circumference:.1f} mm there",)
    )


def read(raw: RawTree) -> Iterator[Sample]:
    table = raw.index(raw.one("**/training_set_pixel_size_and_HC.csv"), "filename", (SIZE, CIRCUMFERENCE))
    for key in raw.glob("**/*HC.png"):  # in training_set/, which some unpackers do not make
        if "test_set/" in key:
            continue
        name = Path(key).name
        pixel, circumference = table[name].number(SIZE), table[name].number(CIRCUMFERENCE)
        head = lazy(masks.ellipse, lazy(masks.grey, raw.path(f"{key[:-4]}_Annotation.png")))
        yield Sample(
            key=f"training_set/{name}",
            image=raw.path(key),
            masks={"fetal_head": lazy(measured, head, pixel, circumference)},
            group=name.partition("_")[0],
            split="train",
            spacing_mm=(pixel, pixel),
            tags={"hc_mm": circumference},
        )


RECIPE = source(__name__, read)
