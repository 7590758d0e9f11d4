"""Fetal Head Biometry as published: four groups, two colour codes, structures painted on an ellipse, palettes, neighbours."""

from pathlib import Path

import numpy as np
from PIL import Image

from us43d.specimen import Drawn, Truth, blob, label_map, ring, speckle, write_image

SHAPE = (132, 190)
DIVERSE = "Diverse Fetal Head Images"


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for group, count in (("Trans-thalamic", 4), ("Trans-cerebellum", 3), ("Trans-ventricular", 3), (DIVERSE, 5)):
        diverse = group == DIVERSE
        for n in range(count * scale):
            case = f"{n // 2:03}_{'2HC' if n % 2 else 'HC'}"
            name = f"{case}.png" if diverse else f"Patient{n // 2 + 1:05}_Plane3_{n % 2 + 1}_of_2.png"
            brain, _ = ring(SHAPE, (95.0, 66.0), (float(rng.uniform(120, 150)), 90.0), float(rng.uniform(-10, 10)))
            csp = blob(SHAPE, rng, 0.2, (0.25, 0.35, 0.5, 0.65))
            ventricle = blob(SHAPE, rng, 0.2, (0.5, 0.35, 0.75, 0.65))
            masks = {"brain": brain, "csp": csp, "lateral_ventricle": ventricle}
            if n % 3 == 1:
                del masks["lateral_ventricle"]
            painted = label_map(SHAPE, dict(enumerate(masks.values(), 1)))
            colours = [(0, 0, 0), (255, 0, 0), (255, 255, 0) if diverse else (0, 255, 0), (0, 0, 255)]
            inside = "task/SegmentationClass" if diverse else "SegmentationClass"
            folder = root / group
            images = folder / "Orginal_train_images_to_959_661" if diverse else folder
            write_image(images / name, np.stack([speckle(SHAPE, list(masks.values()), rng)] * 3, axis=2))
            if n % 2:  # with a palette, as the annotation tool writes it
                (folder / inside).mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray(painted, "P")
                picture.putpalette([channel for colour in colours for channel in colour])
                picture.save(folder / inside / name)
            else:
                write_image(folder / inside / name, np.array(colours, np.uint8)[painted])
            write_image(folder / "SegmentationObject" / name, np.array(colours, np.uint8)[painted])
            samples[f"{group}/{name}"] = Drawn(
                {label: [mask] for label, mask in masks.items()},
                group=f"HC18 {n // 2:03}" if diverse else f"patient {n // 2 + 1}",
                tags={"plane": group},
            )
        (root / group / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n")
        if not diverse:
            (root / group / f"{group}-Pixel-Size.csv").write_text("Label,Pixel  in mm\n1,0.2\n")
    return Truth(samples)
