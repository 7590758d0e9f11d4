"""EchoNet-Pediatric as published: Motion-JPEG videos of two views, outlines as rows of points, missing phases as text."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, speckle

SHAPE = (112, 112)


def traced(place: tuple[float, ...], ejected: float) -> tuple[list[tuple[int, int]], Any]:
    """(whole points of a convex outline, the pixels inside it or on it).

    place: centre and half axes, x before y; the longer axis is vertical. ejected: fraction of the volume that has left.
    """
    cx, cy, rx, ry = place[0], place[1], place[2] * (1 - ejected) ** 0.4, place[3] * (1 - ejected) ** 0.2
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    cloud = np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1).round().astype(np.int32)
    hull = cv2.convexHull(cloud)[:, 0]
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    (x0, y0), (x1, y1) = hull.T, np.roll(hull, -1, 0).T
    side = (x1 - x0) * (y[..., None] - y0) - (y1 - y0) * (x[..., None] - x0)
    return [(int(px), int(py)) for px, py in hull], (side >= 0).all(axis=2) | (side <= 0).all(axis=2)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "echonetpediatric/pediatric_echo_avi/pediatric_echo_avi"
    samples = {}
    patients = [f"CR32a{rng.integers(4096):03x}{n}" for n in range(8)]
    written: dict[str, bytes] = {}
    for view in ("A4C", "PSAX"):
        (top / view / "Videos").mkdir(parents=True)
        listed, rows = ["FileName,EF,Sex,Age,Weight,Height,Split"], ["FileName,X,Y,Frame"]
        for n, patient in enumerate(patients):
            name = f"{patient}-CR32a7{n}{len(view)}-{n:06}.avi"
            frames = 8 * scale
            key = f"{view}/Videos/{name}"
            # Systole, then diastole; one traced on frame 0, one on the frame after the last.
            times: list[int | str] = [5, 0 if n == 1 else 2]
            if n == 2:
                times[0] = "No Systolic"
            if n == 3:
                times[1] = "No Diastolic"
            if n == 4:
                times = ["No Systolic", "No Diastolic"]
            if n == 5:
                times[0] = frames
            split = {0: "test", 1: "val"}.get(n, "train")
            tags = {"view": view, "fold": n, "ef": 55.5 + n, "sex": "F" if n % 2 else "M", "age": str(n + 3)}
            facts: Any = {"group": patient, "split": split}
            masks = {}
            place = tuple(rng.uniform((45, 45, 18, 28), (65, 65, 24, 38)))
            for phase, t in zip(("end-systole", "end-diastole"), times, strict=True):
                if isinstance(t, str):
                    rows.append(f"{name},,,{t}")
                    continue
                points, mask = traced(place, (55.5 + n) / 100 if phase == "end-systole" else 0)
                rows += [f"{name},{x},{y},{t}" for x, y in points]
                masks[min(t, frames - 1)] = mask
                samples[f"{key}#{t:04}"] = Drawn({"left_ventricle": [mask]}, tags=tags | {"phase": phase}, **facts)
            if n == 4:
                samples[f"{key}#0000"] = Drawn(dropped=True, tags=tags, **facts)
            video = cv2.VideoWriter(str(top / key), cv2.VideoWriter.fourcc(*"MJPG"), 30, SHAPE)
            for t in range(frames):
                video.write(np.stack([speckle(SHAPE, [masks[t]] if t in masks else [], rng)] * 3, axis=2))
            video.release()
            listed.append(f"{name},{55 + n}.5,{'F' if n % 2 else 'M'},{n + 3},{20 + n},{100 + n},{n}")
            written[name] = (top / key).read_bytes()
        (top / view / "FileList.csv").write_text("\n".join(listed) + "\n")
        (top / view / "VolumeTracings.csv").write_text("\n".join(rows) + "\n")
    # Both views shared a folder: a short-axis video lies beside the apical ones. One is listed nowhere.
    name = next(reversed(written))
    (top / "A4C/Videos" / name).write_bytes(written[name])
    (top / "PSAX/Videos/CR32afff9-CR32a7999-000099.avi").write_bytes(written[name])
    key = "PSAX/Videos/CR32afff9-CR32a7999-000099.avi#0000"
    samples[key] = Drawn(group="CR32afff9", dropped=True)
    return Truth(samples)
