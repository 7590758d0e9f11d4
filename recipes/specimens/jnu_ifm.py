"""JNU-IFM as published: a folder per video with images, label maps of 7 and 8, brightened copies and a table."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, write_image

SHAPE = (103, 130)
WHAT = {(): 3, ("pubic_symphysis",): 4, ("fetal_head",): 5, ("pubic_symphysis", "fetal_head"): 6}


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n in range(6):
        video = f"{20190830 + n}T1157{n:02}"
        folder, rows = root / "us_data" / video, ["frame,label"]
        for t in range(4 * scale):
            masks = {
                "pubic_symphysis": blob(SHAPE, rng, 0.25, (0, 0, 0.45, 0.5)),
                "fetal_head": blob(SHAPE, rng, 0.28, (0.45, 0.2, 1, 1)),
            }
            if t % 4 == 1 and n == 2:
                masks = {}
            if t % 4 == 2:
                del masks[("pubic_symphysis", "fetal_head")[n % 2]]
            values = {"pubic_symphysis": 7, "fetal_head": 8}
            labels = label_map(SHAPE, {values[label]: mask for label, mask in masks.items()})
            name = f"{video}_{t + 10}"
            write_image(folder / f"image/{name}.png", speckle(SHAPE, list(masks.values()), rng))
            write_image(folder / f"mask/{name}_mask.png", labels)
            write_image(folder / f"mask_enhance/{name}_mask.png", labels * 30)
            rows.append(f"{name}.png,{WHAT[tuple(masks)]}")
            samples[f"{video}/{name}.png"] = Drawn({label: [mask] for label, mask in masks.items()}, group=video)
        (folder / "frame_label.csv").write_text("\n".join(rows) + "\n")
    return Truth(samples)
