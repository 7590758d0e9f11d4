"""ASUS as its arrays: q000..q007, float16 frames in 0..1 and uint8 bone lines, both stored upside down, some empty."""

from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, speckle


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    folder = root / "DataArrays"
    folder.mkdir()
    samples = {}
    for volunteer in range(8):
        prefix = f"q{volunteer:03}" if volunteer != 5 else "Q005"  # the case of the prefix differs between copies
        images, labels = [], []
        for n in range(3 * scale):
            line = np.zeros((128, 128), np.uint8)
            if n % 5 != 4:
                for x in (25, 75):
                    y = int(rng.integers(50, 90))
                    cv2.ellipse(line, (x + n % 7, y), (18, 12), 0, 180, 360, 1, 4)
            bone = line != 0
            images.append(speckle((128, 128), [np.zeros_like(bone), bone], rng))
            labels.append(line)
            samples[f"q{volunteer:03}/{n:04}"] = Drawn(
                {"spine": [bone]} if bone.any() else {}, group=f"q{volunteer:03}"
            )
        stack = np.stack(images)[:, ::-1, ::-1, None].astype(np.float32) / 255
        np.save(folder / f"{prefix}_ultrasound.npy", stack.astype(np.float16))
        np.save(folder / f"{prefix}_segmentation.npy", np.stack(labels)[:, ::-1, ::-1, None])
    return Truth(samples)
