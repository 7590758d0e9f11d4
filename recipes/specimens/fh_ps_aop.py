"""FH-PS-AOP as published: MetaImages named by serial number, the grey image three times channel first, 256 × 256."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_stack

SHAPE = (256, 256)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "Pubic Symphysis-Fetal Head Segmentation and Angle of Progression"
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    fan = (np.hypot(x - 128, y + 40) < 285) & (np.hypot(x - 128, y + 40) > 50) & (np.abs(x - 128) < 0.62 * (y + 40))
    samples = {}
    for n in range(1, 10 * scale + 1):
        symphysis = blob(SHAPE, rng, 0.3, (0.3, 0.12, 0.5, 0.35)) & fan
        head = blob(SHAPE, rng, 0.3, (0.35, 0.35, 0.75, 0.9)) & fan & ~symphysis
        picture = np.where(fan, np.maximum(speckle(SHAPE, [symphysis, head], rng), 1), 0).astype(np.uint8)
        name = f"{n:05}.mha"
        write_stack(top / "image_mha" / name, np.stack([picture] * 3), compress=n % 2 == 0)
        write_stack(top / "label_mha" / name, (symphysis + 2 * head).astype(np.uint8), compress=n % 2 == 0)
        masks = {"pubic_symphysis": [symphysis], "fetal_head": [head]}
        samples[f"image_mha/{name}"] = Drawn(masks, group="all")
    return Truth(samples)
