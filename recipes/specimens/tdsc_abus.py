"""TDSC-ABUS as published: NRRD volumes with masks beside, tables with backslashes; a mask missing, one empty."""

from pathlib import Path
from typing import Any

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_stack

SHAPE = (60, 72)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    number = 0
    for folder, split, count in (("Train", "train", 4), ("Validation", "val", 2), ("Test", "test", 2)):
        top, frames = root / "TDSC-ABUS" / folder, 6 * scale
        labels, boxes = ["case_id,Label,Data_path,Mask_path"], ["id,c_x,c_y,c_z,len_x,len_y,len_z"]
        for n in range(count):
            key, letter = f"{folder}/DATA/DATA_{number:03}.nrrd", "MB"[n % 2]
            images, truth = np.zeros((2, frames, *SHAPE), np.uint8)
            tags = {"tumour": {"M": "malignant", "B": "benign"}[letter]}
            facts: Any = {"group": f"{number:03}", "split": split, "tags": tags}
            unmarked = n == 1 and split != "train"
            for z in range(frames):
                shown = z % 6 in (2, 3) and n != 3
                mask = blob(SHAPE, rng) if shown else np.zeros(SHAPE, bool)
                images[z], truth[z] = speckle(SHAPE, [mask], rng), mask
                if shown and not unmarked:
                    samples[f"{key}#{z:04}"] = Drawn({"tumour": [mask]}, **facts)
            if unmarked or n == 3:
                samples[f"{key}#0000"] = Drawn(dropped=True, **facts)
            write_stack(top / f"DATA/DATA_{number:03}.nrrd", images, compress=n % 2 == 0)
            if not unmarked:
                write_stack(top / f"MASK/MASK_{number:03}.nrrd", truth, compress=True)
            labels.append(f"{number},{letter},DATA\\DATA_{number:03}.nrrd,MASK\\MASK_{number:03}.nrrd")
            boxes.append(f"{number},30,20,2,9,9,2")
            number += 1
        (top / "labels.csv").write_text("\n".join(labels) + "\n")
        (top / "bbx_labels.csv").write_text("\n".join(boxes) + "\n")
    return Truth(samples)
