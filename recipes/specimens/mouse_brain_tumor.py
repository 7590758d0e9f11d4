"""MouseBrainTumor as published: a folder per recording, two forms of names, soft masks, frames without tumour."""

from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

SHAPE = (110, 130)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n in range(6):
        recording = f"rec__2023{n + 1:02}15_1015{n:02}"
        for t in range(1, 4 * scale + 1):
            stem = f"Extracted Frames{9 + t}img" if n % 2 else f"frame{t}_img"
            tumour = np.zeros(SHAPE, bool) if t % 4 == 3 else blob(SHAPE, rng, 0.25)
            agreed = np.zeros(SHAPE, int)
            for shift in (-4, -2, 0, 2, 4):  # one reader after the other
                agreed += np.roll(tumour, (shift, shift), (0, 1))
            soft = (agreed * 51).astype(np.uint8)
            folder = root / "data" / recording
            picture = np.stack([speckle(SHAPE, [tumour], rng)] * 3, axis=2)
            write_image(folder / f"Images/{stem}.png", picture)
            reader = "_consensus" if n % 2 else ""
            write_image(folder / f"Masks/{stem}{reader}_mask.png", cv2.merge([soft] * 3))
            samples[f"{recording}/{stem}.png"] = Drawn({"brain_tumor": [np.asarray(agreed >= 3)]}, group=recording)
        (folder / "ReadMe.xlsx").write_bytes(b"PK not read")
        (folder / "recording.mp4").write_bytes(b"not read")
    return Truth(samples)
