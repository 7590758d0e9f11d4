"""TED as published: a folder per patient, two MetaImages with their pixels beside and a text of the ends of the beat."""

from pathlib import Path
from typing import Any

import numpy as np

from us43d.specimen import Drawn, Truth, label_map, speckle, ventricle

SHAPE = (70, 90)
#: 19 is not in the published table of CAMUS's patients.
PATIENTS = (1, 2, 18, 19, 50, 97)


def write(path: Path, frames: Any) -> None:
    path.write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        f"DimSize = {SHAPE[1]} {SHAPE[0]} {len(frames)}\nElementSpacing = 0.3 0.15 1\nElementType = MET_UCHAR\n"
        f"ElementDataFile = {path.stem}.raw\n"
    )
    path.with_suffix(".raw").write_bytes(frames.tobytes())


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for number in PATIENTS:
        patient, count = f"patient{number:03}", 4 * scale
        folder = root / "TED" / "database" / patient
        folder.mkdir(parents=True)
        images, labels = np.zeros((2, count, *SHAPE), np.uint8)
        apex, size, ef = (rng.uniform(35, 55), 10.0), (rng.uniform(44, 52), rng.uniform(12, 15)), 40 + number % 31
        for frame in range(count):
            ejected = ef / 100 * min(frame, 2) / 2
            cavity = ventricle(SHAPE, apex, size, ejected=ejected)
            wall = ventricle(SHAPE, (apex[0], apex[1] - 6), (size[0] + 6, size[1] + 8), ejected=ejected)
            shapes = {"left_ventricle": cavity, "myocardium": wall & ~cavity}
            images[frame] = speckle(SHAPE, list(shapes.values()), rng)
            labels[frame] = label_map(SHAPE, dict(enumerate(shapes.values(), start=1)))
            phase = {0: "end-diastole", 2: "end-systole"}.get(frame, "between")
            tags = {"phase": phase, "sex": "F", "age": "61", "imagequality": "Good", "ef": str(ef)}
            masks = {label: [mask] for label, mask in shapes.items()}
            samples[f"{patient}#{frame:03}"] = Drawn(masks, group=patient, tags=tags)
        write(folder / f"{patient}_4CH_sequence.mhd", images)
        write(folder / f"{patient}_4CH_sequence_gt.mhd", labels)
        (folder / f"{patient}_4CH_info.cfg").write_text(
            f"ED: 1\nES: 3\nNbFrame: {count}\nSex: F\nAge: 61\nImageQuality: Good\nEF: {ef}\n"
        )
    return Truth(samples)
