"""BUS-BRA as published: grey images, 1-bit masks, three tables; NaN in the folds, a wrong height in the table."""

from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    folder = root / "BUSBRA"
    data = ["ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"]
    five = ["ID,Pathology,kFold," + ",".join(f"valid_{k}" for k in range(1, 6))]
    ten = ["ID,Pathology,kFold," + ",".join(f"valid_{k}" for k in range(1, 11))]
    samples = {}
    for case in range(1, 12 * scale + 1):
        pathology = ("benign", "malignant", "benign")[case % 3]
        fold = case % 5 + 1
        for side in ("s",) if case % 4 == 0 else ("l", "r"):
            name = f"{case:04d}-{side}"
            shape = (int(rng.integers(120, 150)), int(rng.integers(140, 190)))
            mask = blob(shape, rng)
            write_image(folder / f"Masks/mask_{name}.png", mask.astype(np.uint8) * 255, cv2.IMWRITE_PNG_BILEVEL, 1)
            write_image(folder / f"Images/bus_{name}.png", speckle(shape, [mask], rng))
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            height = shape[0] + (2 if name == "0001-r" else 0)
            long = {"l": "left", "r": "right", "s": "single"}[side]
            data.append(
                f'bus_{name},{case},fibroadenoma,{pathology},{2 + case % 4},GE Logiq 7 @10-14MHz,{shape[1]},{height},{long},"[{x},{y},{w},{h}]"'
            )
            for table, folds, own in ((five, 5, fold), (ten, 10, case % 10 + 1)):
                valid = ["NaN" if k == own else str(int(rng.integers(2))) for k in range(1, folds + 1)]
                table.append(f"bus_{name},{pathology},{own},{','.join(valid)}")
            samples[f"BUSBRA/Images/bus_{name}.png"] = Drawn(
                {pathology: [mask]},
                group=str(case),
                split="test" if fold == 1 else None,
                tags={"pathology": pathology, "birads": str(2 + case % 4), "fold": fold},
            )
    for table_name, lines in (("bus_data.csv", data), ("5-fold-cv.csv", five), ("10-fold-cv.csv", ten)):
        (folder / table_name).write_text("\n".join(lines) + "\n")
    (folder / "LICENSE.txt").write_text("Use, copy and change with this notice.\n")
    return Truth(samples)
