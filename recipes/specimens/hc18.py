"""HC18 as published: thin outlines, one of them cut by the image's border, exams with up to four images, the table beside."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, ring, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    folder = root / "training_set"
    rows, samples = ["filename,pixel size(mm),head circumference (mm)"], {}
    for exam in range(12 * scale):
        for suffix in ("HC", "2HC", "3HC", "4HC")[: (1, 2, 1, 4)[exam % 4]]:
            name = f"{exam:03d}_{suffix}.png"
            shape = (135, 200) if exam % 5 else (140, 185)
            leaves = exam % 6 == 2
            centre = (rng.uniform(80, 110), 45.0 if leaves else rng.uniform(62, 72))
            axes = (rng.uniform(85, 120), rng.uniform(98, 104) if leaves else rng.uniform(60, 80))
            head, outline = ring(shape, centre, axes, 0.0 if leaves else rng.uniform(-15, 15))
            inside = head & ~outline
            picture = speckle(shape, [np.zeros(shape, bool), outline, inside], rng)
            write_image(folder / name, picture)
            write_image(folder / name.replace(".png", "_Annotation.png"), outline.astype(np.uint8) * 255)
            pixel = rng.uniform(0.05, 0.33)
            a, b = axes[0] / 2, axes[1] / 2
            h = ((a - b) / (a + b)) ** 2  # Ramanujan's second formula for the perimeter
            around = np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h))) * pixel
            rows.append(f"{name},{pixel:.9f},{around:.2f}")
            samples[f"training_set/{name}"] = Drawn(
                {"fetal_head": [head]}, group=f"{exam:03d}", split="train", lossless=not leaves
            )
    (root / "training_set_pixel_size_and_HC.csv").write_text("\n".join(rows) + "\n")
    return Truth(samples)
