"""Dataset B as sent to those who asked: original/ and GT/ with six-digit names, DatasetB.xlsx, some grey files."""

from pathlib import Path

import cv2
import numpy as np
import openpyxl

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "BUS"
    samples = {}
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append(["Image", "Type"])
    for n in range(1, 12 * scale + 1):
        name, shape = f"{n:06}.png", (int(rng.integers(150, 180)), int(rng.integers(200, 240)))
        lesion = blob(shape, rng)
        picture = speckle(shape, [lesion], rng)
        write_image(top / "original" / name, picture if n % 3 else np.stack([picture] * 3, axis=2))
        mask = lesion.astype(np.uint8) * 255
        if n % 4 == 0:  # a grey edge
            soft = cv2.GaussianBlur(mask, (5, 5), 0)
            mask = np.where(lesion, np.maximum(soft, 128), np.minimum(soft, 127)).astype(np.uint8)
        write_image(top / "GT" / name, mask)
        kind = ("Benign", "Malignant")[n % 2]
        sheet.append([n, kind])
        samples[f"original/{name}"] = Drawn(
            {"breast_lesion": [lesion]}, group=f"{n:06}", tags={"diagnosis": kind.lower()}
        )
    book.save(top / "DatasetB.xlsx")
    return Truth(samples)
