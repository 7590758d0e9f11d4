"""PFUS1 as published: a folder per patient, frames whose sizes differ by pixels, JSON outlines that may overlap."""

import json
from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

NAMES = ("Pubis", "Urethra", "Bladder", "Uterus", "Vagina", "Anus", "Rectum", "Levator ani muscle")


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    (root / "data").mkdir(parents=True)
    (root / "data/readme.txt").write_text("PFUS1\n")
    samples = {}
    for n in range(5):
        patient = f"P{n * 27:03}"
        for t in range(3 * scale):
            shape, entries = (90 + t % 2, 150), []
            masks: dict[str, list[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]] = {}
            for m, name in enumerate(NAMES[: 8 - n]):  # not every structure is on every frame
                cell = (
                    0.2 * (m % 4),
                    0.45 * (m // 4),
                    0.2 * (m % 4) + 0.35,
                    0.45 * (m // 4) + 0.5,
                )  # neighbours overlap
                outline = cv2.findContours(
                    blob(shape, rng, 0.3, cell).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1
                )[0][0]
                filled = np.zeros(shape, np.uint8)
                cv2.fillPoly(filled, [outline], 1)
                entries.append({"label": name, "pol": outline[:, 0].tolist()})
                masks.setdefault(name.lower().replace(" ", "_"), []).append(filled != 0)
            key = f"{patient}/frame_{t:03}"
            image = speckle(shape, [mask for label_masks in masks.values() for mask in label_masks], rng)
            write_image(root / f"data/{key}.png", np.stack([image] * 3, axis=2))
            (root / f"data/{key}.json").write_text(json.dumps(entries))
            samples[f"{key}.png"] = Drawn(masks, group=patient)
    return Truth(samples)
