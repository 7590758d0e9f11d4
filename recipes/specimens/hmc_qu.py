"""HMC-QU as published: AVI files, blanks in their names, Excel tables, masks of another size in MATLAB files."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openpyxl
from scipy.io import savemat

from us43d.specimen import Drawn, Truth, blob, speckle

VIDEO, MASK = (96, 120), (48, 60)  # rows, columns; masks are half as large
SEGMENTS = ("SEG1", "SEG2", "SEG3", "SEG5", "SEG6", "SEG7")
COLUMNS = ("ECHO", *SEGMENTS, "Reference Frame", "End of Cycle", "LV Wall Ground-truth Segmentation Masks")


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    masks_folder = root / "LV Ground-truth Segmentation Masks"
    masks_folder.mkdir()
    for view, count in (("A4C", 4), ("A2C", 2)):
        book = openpyxl.Workbook()
        book.active.append(COLUMNS if view == "A4C" else COLUMNS[:7])
        (folder := root / "HMC-QU" / view).mkdir(parents=True)
        for n in range(count):
            name, frames, first = f"ES{n + 1:04}{' ' if n == 0 else ''}_{view[1]}CH_1", 8 * scale, 2
            key, group = f"HMC-QU/{view}/{name}.avi", f"ES{n + 1:04}"
            last = frames + (1 if n == 1 else -2)  # one cycle runs beyond its video
            masked = view == "A4C" and n < 3
            marks = (n % 2,) * len(SEGMENTS)
            cycle = (first, last, "ü" if masked else None) if view == "A4C" else ()
            book.active.append((name, *marks, *cycle))
            facts: Any = {"group": group, "tags": {"view": view}}
            walls = np.zeros((last - first + 1, *MASK))
            writer = cv2.VideoWriter(str(folder / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, VIDEO[::-1])
            for t in range(last):
                small = blob(MASK, rng)
                wall = np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
                if t < frames:
                    writer.write(cv2.merge([speckle(VIDEO, [wall], rng)] * 3))
                if masked and t >= first - 1:
                    walls[t - first + 1] = small
                    masks: Any = {"left_ventricular_wall": [wall]}
                    samples[f"{key}#{t:04}"] = Drawn(masks, dropped=t >= frames, **facts)
            for _ in range(last, frames):
                writer.write(cv2.merge([speckle(VIDEO, [], rng)] * 3))
            writer.release()
            if masked:
                savemat(masks_folder / f"Mask_{name}.mat", {"predicted": walls}, do_compression=True)
            else:
                samples[f"{key}#0000"] = Drawn(dropped=True, **facts)
        book.save(root / f"{view}.xlsx")
    return Truth(samples)
