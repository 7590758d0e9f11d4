"""EchoCP as published: two gzipped NIfTI videos per patient, upside down, few frames labelled; a workbook beside."""

from pathlib import Path
from typing import Any

import numpy as np
import openpyxl

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, write_volume

SHAPE = (72, 96)
CHAMBERS = ("left_ventricle", "left_atrium", "right_atrium", "right_ventricle")
CELLS = ((0.5, 0, 1, 0.55), (0.5, 0.55, 1, 1), (0, 0.55, 0.5, 1), (0, 0, 0.5, 0.55))


def save(path: Path, frames: Any) -> None:
    """Frames (time, rows, columns) as seen, stored turned by 180 degrees with axes x, y, time."""
    write_volume(path, frames[:, ::-1, ::-1].T)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    folder = root / "EchoCP_dataset"
    folder.mkdir()
    book = openpyxl.Workbook()
    book.active.append(["Idx", "Action", "PFO level"])
    samples = {}
    for p in range(1, 5):
        for action, level in (("r", "o" if p == 2 else 0), ("v", p)):
            book.active.append([p, action if p % 2 else {"r": "rest", "v": "valsalva"}[action], level])
            name = f"{p:03}_{action}"
            key = f"EchoCP_dataset/{name}_image.nii.gz"
            facts: Any = {
                "group": f"{p:03}",
                "tags": {"action": {"r": "rest", "v": "valsalva"}[action], "pfo_level": str(level).replace("o", "0")},
            }
            frames = 8 * scale
            images, labels = np.zeros((2, frames, *SHAPE), np.uint8)
            for t in range(frames):
                chambers = [blob(SHAPE, rng, 0.27, cell) for cell in CELLS]
                images[t] = speckle(SHAPE, chambers, rng)
                if t in (2, 5) and name != "004_v":
                    shown = {n: mask for n, mask in enumerate(chambers) if t == 2 or n != 1}  # one chamber out of sight
                    labels[t] = label_map(SHAPE, {n + 1: mask for n, mask in shown.items()})
                    samples[f"{key}#{t:04}"] = Drawn({CHAMBERS[n]: [mask] for n, mask in shown.items()}, **facts)
            if name == "004_v":
                samples[f"{key}#0000"] = Drawn(dropped=True, **facts)
            save(folder / f"{name}_image.nii.gz", images)
            save(folder / f"{name}_label.nii.gz", labels)
    book.save(root / "echoCP_diagnosis_label.xlsx")
    return Truth(samples)
