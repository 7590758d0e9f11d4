"""CardiacUDC as published: gzipped NIfTI videos upside down, few frames labelled, one folder outlined, one unlabelled."""

from pathlib import Path
from typing import Any

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_volume

SHAPE = (72, 96)
CHAMBERS = ("left_ventricle", "left_atrium", "right_atrium", "right_ventricle")
CELLS = ((0.5, 0, 1, 0.55), (0.5, 0.55, 1, 1), (0, 0.55, 0.5, 1), (0, 0, 0.5, 0.55))


def save(path: Path, frames: Any, dtype: str) -> None:
    """Frames (time, rows, columns) as seen, stored turned by 180 degrees with axes x, y, time."""
    write_volume(path, frames[:, ::-1, ::-1].T.astype(dtype))


def outline(mask: Any) -> Any:
    inner = mask.copy()
    for step, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        inner &= np.roll(mask, step, axis)
    return mask & ~inner


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "cardiacUDC_dataset"
    samples: dict[str, Drawn] = {}

    def video(
        site: str,
        name: str,
        kind: str = "",
        group: str = "",
        codes: tuple[int, ...] = (1, 2, 3, 4),
        dtypes: tuple[str, str] = ("uint8", "uint8"),
    ) -> None:
        key, person = f"{site}/{name}_image.nii.gz", name.rpartition("-")[0]
        facts: Any = {
            "group": group or f"{site}/{person}",
            "tags": {"site": site, "subject": "normal" if "normal" in name else "patient", "view": "4"},
        }
        frames = (3 if kind == "outlined" else 6) * scale
        images, labels = np.zeros((2, frames, *SHAPE), np.uint8)
        for t in range(frames):
            shapes = [blob(SHAPE, rng, 0.27, cell) for cell in CELLS]
            images[t] = speckle(SHAPE, shapes, rng)
            if kind in ("unlabelled", "empty") or (kind != "outlined" and t not in (1, 4)):
                continue
            for code, mask in zip(codes, shapes, strict=True):
                labels[t][outline(mask) if kind == "outlined" else mask] = code
            masks = {chamber: [mask] for chamber, mask in zip(CHAMBERS, shapes, strict=True)}
            if kind == "rare" and t == 4:
                for value, corner in ((5, (0, 0)), (6, (70, 90))):
                    labels[t][corner[0] : corner[0] + 2, corner[1] : corner[1] + 2] = value
                    masks[f"value_{value}"] = [labels[t] == value]
            if kind == "strange" and t == 4:
                labels[t][0, 0] = 9
            if kind != "mismatched":
                samples[f"{key}#{t:04}"] = Drawn(masks, dropped=kind == "strange" and t == 4, **facts)
        if kind in ("unlabelled", "empty", "mismatched"):
            samples[f"{key}#0000"] = Drawn(dropped=True, **facts)
        save(top / key, images, dtypes[0])
        if kind != "unlabelled":
            save(top / site / f"{name}_label.nii.gz", labels[:-1] if kind == "mismatched" else labels, dtypes[1])

    video("Site_G_20", "patient-1-4")
    video("Site_G_29", "patient-1-4", dtypes=("int16", "float64"))
    video("Site_G_100", "patient1-4")
    video("Site_G_100", "patient2-4", "empty")
    video("Site_R_52", "patient-1-4", "strange")
    video("Site_R_52", "patient-2-4", "mismatched")
    video("Site_R_73", "patient-53-4", "unlabelled")
    video("Site_R_73", "patient-67-4", "unlabelled", "Site_R/patient-67")
    video("Site_R_126", "normal-37-4", "rare", "Site_R/normal-37")
    video("Site_R_126", "patient-2-4")
    video("label_all_frame", "normal-37-4", "outlined", "Site_R/normal-37")
    video("label_all_frame", "patient-67-4", "outlined", "Site_R/patient-67", (2, 5, 7, 8))
    return Truth(samples)
