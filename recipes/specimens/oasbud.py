"""OASBUD as published: one MATLAB file with a struct array; lines at 40 MHz around 10 MHz, two planes per lesion."""

from pathlib import Path

import numpy as np
from scipy.io import savemat

from us43d.specimen import Drawn, Truth, blob

SHAPE = (45, 51)  # of the B-mode image; 510 lines as published, a tenth
FIELDS = ("id", "rf1", "rf2", "roi1", "roi2", "birads", "class")


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    entries = np.zeros((1, 8), [(field, object) for field in FIELDS])
    for n in range(8):
        shape = (SHAPE[0] * scale, SHAPE[1])
        entry, lesion = entries[0, n], f"p{n:03}"
        entry["id"], entry["birads"], entry["class"] = lesion, "4a" if n % 2 else "5", np.uint8(n % 2 == 0)
        for plane in (1, 2):
            mask = blob(shape, rng)
            depth = np.arange(shape[0] * 4 + plane)[:, None]  # some samples make no full row
            tissue = rng.rayleigh(1.0, (len(depth), shape[1]))
            tissue[: shape[0] * 4][np.repeat(mask, 4, axis=0)] *= 0.05
            phase = rng.uniform(0, 2 * np.pi, shape[1])
            entry[f"rf{plane}"] = np.rint(3000 * tissue * np.cos(np.pi / 2 * depth + phase)).astype(np.int16)
            roi = np.zeros((len(depth), shape[1]), np.uint8)
            roi[: shape[0] * 4] = np.repeat(mask, 4, axis=0)
            entry[f"roi{plane}"] = roi
            tags = {"class": "benign" if n % 2 else "malignant", "birads": entry["birads"], "plane": plane}
            samples[f"{n + 1:03}-{plane}"] = Drawn({"lesion": [mask]}, group=lesion, tags=tags)
    savemat(root / "OASBUD.mat", {"data": entries}, do_compression=True)
    return Truth(samples)
