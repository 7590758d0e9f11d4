"""BUS-UCLM as published: coloured masks, a ';' table with a byte order mark, RGBA images smaller than their masks."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

PATIENTS = ("ALWI", "ANFO", "CHVI", "COPE", "CRCI", "DAPA", "ELCO", "FLKA", "HESN", "MENE", "PAGY", "SIBA")


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    folder = root / "BUS-UCLM Breast ultrasound lesion segmentation dataset" / "BUS-UCLM"
    rows = ["Image;Resolution;Label;Doppler;Marks;Combined"]
    samples = {}
    for p, patient in enumerate(PATIENTS):
        for n in range(3 * scale):
            name = f"{patient}_{n:03d}.png"
            label = ("Benign", "Normal", "Malignant")[(p + n) % 3]
            shape = (121, 171)
            lesion = blob(shape, rng) if label != "Normal" else np.zeros(shape, bool)
            painted = np.zeros((*shape, 3), np.uint8)
            painted[lesion] = (255, 0, 0) if label == "Malignant" else (0, 255, 0)
            write_image(folder / "masks" / name, painted)
            picture: Any = np.repeat(speckle(shape, [lesion], rng)[..., None], 3, 2)
            if patient == "HESN":  # other sizes than the masks, and an alpha channel
                size = (158 - 20 * n % 60, 98)
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                mask = cv2.resize(lesion.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) != 0
                bgra = cv2.cvtColor(picture, cv2.COLOR_RGB2BGRA)
                (folder / "images").mkdir(parents=True, exist_ok=True)
                (folder / "images" / name).write_bytes(cv2.imencode(".png", bgra)[1].tobytes())
            else:
                mask = lesion
                write_image(folder / "images" / name, picture)
            rows.append(f"{name};856x606;{label};{('No', 'Yes', 'Y')[(p + n) % 3]};No;No")
            samples[f"BUS-UCLM/images/{name}"] = Drawn(
                {label.lower(): [mask]} if label != "Normal" else {},
                group=patient,
                split="test" if patient in {"COPE", "ANFO", "ELCO", "CRCI", "FLKA"} else None,
                tags={"label": label, "doppler": (p + n) % 3 != 0, "marks": False},
            )
    (folder / "INFO.csv").write_text("\ufeff" + "\n".join(rows) + "\n", encoding="utf-8")
    return Truth(samples)
