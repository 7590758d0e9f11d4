"""FOCUS as published: three split folders numbered from 001, two masks per image, ellipses and boxes as text."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, ring, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for subset, split, count in (("training", "train", 8), ("validation", "val", 2), ("testing", "test", 4)):
        for n in range(1, count * scale + 1):
            shape = (int(rng.integers(120, 150)), int(rng.integers(150, 190)))
            centre, angle = (shape[1] / 2, shape[0] / 2), float(rng.uniform(0, 180))
            thorax, _ = ring(shape, centre, (100.0, 84.0), angle)
            cardiac, _ = ring(shape, (centre[0] - 12, centre[1] + 5), (46.0, 36.0), angle + 30)
            folder = root / "FOCUS" / subset
            picture = speckle(shape, [thorax, cardiac], rng)
            write_image(folder / f"images/{n:03}.png", picture if n % 2 else np.stack([picture] * 3, axis=2))
            for label, mask in (("cardiac", cardiac), ("thorax", thorax)):
                write_image(folder / f"annfiles_mask/{n:03}-{label}.png", mask.astype(np.uint8) * 255)
            for kind in ("ellipse", "rectangle"):
                (folder / f"annfiles_{kind}").mkdir(exist_ok=True)
                (folder / f"annfiles_{kind}/{n:03}.txt").write_text(f"{centre[0]} {centre[1]} 50 42 {angle} thorax\n")
            samples[f"{subset}/images/{n:03}.png"] = Drawn({"cardiac": [cardiac], "thorax": [thorax]}, split=split)
    return Truth(samples)
