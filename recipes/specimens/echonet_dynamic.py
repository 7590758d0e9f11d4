"""EchoNet-Dynamic as published: Motion-JPEG videos, a list without .avi, chords with .avi, one video not traced."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, speckle, ventricle

SHAPE = (112, 112)


def contour(mask: Any) -> tuple[list[tuple[float, float, float, float]], Any]:
    """Chords of a region (x1, y1, x2, y2), the long axis first, and the region that they enclose.

    Ends lie a fraction off whole pixels, so that cutting off instead of rounding shows.
    """
    first, *_, last = np.flatnonzero(mask.any(axis=1))
    rows = np.unique(np.linspace(first, last, 21).astype(int))
    ends = [(int(np.flatnonzero(mask[y])[0]), int(np.flatnonzero(mask[y])[-1])) for y in rows]
    chords = [(x1 - 0.3, y + 0.2, x2 - 0.4, y - 0.1) for (x1, x2), y in zip(ends, rows, strict=True)]
    axis = (float(np.mean(ends[0])), float(rows[0]), float(np.mean(ends[-1])), float(rows[-1]))
    # Between two chords the outline is straight, and pixels on it belong to the region.
    inside = np.zeros(SHAPE, bool)
    for y in range(rows[0], rows[-1] + 1):
        below = min(int(np.searchsorted(rows, y)), len(rows) - 1)
        above = below if rows[below] == y else below - 1
        fraction = 0.0 if above == below else (y - rows[above]) / (rows[below] - rows[above])
        left, right = (ends[above][n] + fraction * (ends[below][n] - ends[above][n]) for n in (0, 1))
        inside[y, int(np.ceil(left - 1e-9)) : int(np.floor(right + 1e-9)) + 1] = True
    return [axis, *chords], inside


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    folder = root / "EchoNet-Dynamic"
    (folder / "Videos").mkdir(parents=True)
    listed = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
    traced = ["FileName,X1,Y1,X2,Y2,Frame"]
    samples = {}
    for n in range(12):
        name = f"0X{rng.integers(1 << 60):015X}"
        split = ("TRAIN", "TRAIN", "TRAIN", "VAL", "TEST", "TRAIN")[n % 6]
        key = f"Videos/{name}.avi"
        frames = 6 * scale
        kept = {}
        ef = 38.5 + 3 * n
        esv = round(90.2 * (1 - ef / 100), 1)
        apex, size = rng.uniform((42, 12), (68, 18)), rng.uniform((66, 38), (78, 46))
        angle = rng.uniform(-8, 8)
        video = cv2.VideoWriter(str(folder / key), cv2.VideoWriter.fourcc(*"MJPG"), 50, SHAPE)
        for t in range(frames):
            ejected = ef / 100 * float(np.interp(t, (0, 1, frames - 2, frames - 1), (0.2, 0, 1, 0.8)))
            chords, mask = contour(ventricle(SHAPE, (apex[0], apex[1]), (size[0], size[1]), angle, ejected))
            video.write(np.stack([speckle(SHAPE, [mask], rng)] * 3, axis=2))
            if t in (1, frames - 2):
                kept[t] = chords, mask
        video.release()
        listed.append(f"{name},{ef},{esv},90.2,112,112,50,{frames},{split}")
        facts: dict[str, Any] = {"group": name, "split": {"TRAIN": "train", "VAL": "val", "TEST": "test"}[split]}
        if n == 7:
            samples[f"{key}#0000"] = Drawn(dropped=True, **facts)
            continue
        for t in sorted(kept, reverse=True):  # the smaller area, of the later frame, comes first
            traced += [f"{name}.avi,{x1:.4f},{y1:.4f},{x2:.4f},{y2:.4f},{t}" for x1, y1, x2, y2 in kept[t][0]]
            tags = {
                "phase": "end-diastole" if t == 1 else "end-systole",
                "ef": ef,
                "esv": esv,
                "edv": 90.2,
                "fps": 50.0,
            }
            samples[f"{key}#{t:04}"] = Drawn({"left_ventricle": [kept[t][1]]}, tags=tags, **facts)
    (folder / "FileList.csv").write_text("\n".join(listed) + "\n")
    (folder / "VolumeTracings.csv").write_text("\n".join(traced) + "\n")
    return Truth(samples)
