"""RESECT-SEG as published: masks in folders of cases, volumes beside or in another tree; structures without a mask."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_volume

SHAPE, SPACING = (66, 74), (0.2, 0.2, 0.2)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for case in ("Case2", "Case3", "Case7", "Case11"):
        for phase in ("before", "after"):
            bare = (case, phase) == ("Case11", "after")
            endings = {"tumor": "tumour"} if phase == "before" else {"resection": "cavity"}
            endings |= {"sulci": "sulci"} | ({"falx": "falx"} if case == "Case2" else {})
            frames, stem = 4 * scale, f"{case}-US-{phase}"
            images = np.zeros((frames, *SHAPE), np.uint8)
            labels = {ending: np.zeros_like(images) for ending in endings}
            for z in range(frames):
                shapes = {}
                for n, (ending, label) in enumerate(endings.items()):
                    if z % 4 == 3 or (z % 4 == 2 and n == 0):  # nothing, or sulci alone
                        continue
                    shapes[label] = blob(SHAPE, rng, 0.2)
                    labels[ending][z][shapes[label]] = 1
                images[z] = speckle(SHAPE, list(shapes.values()), rng)
                if shapes and not bare:
                    masks = {label: [mask] for label, mask in shapes.items()}
                    samples[f"{stem}#{z:04}"] = Drawn(masks, group=case, tags={"phase": phase})
            challenge = case == "Case7"  # the form of the challenge: two trees
            write_volume(root / (f"RESECT/NIFTI/{case}/US" if challenge else "") / f"{stem}.nii.gz", images.T, SPACING)
            if bare:
                samples[f"{stem}#0000"] = Drawn(dropped=True, group=case, tags={"phase": phase})
                continue
            folder = root / (f"RESECT_segmentation/{case}" if challenge else case)
            for ending, truth in labels.items():
                stored = truth.astype(np.float32) if challenge else truth
                write_volume(folder / f"{stem}-{ending}.nii.gz", stored.T, SPACING)
        write_volume(root / case / f"{case}-FLAIR-tumor.nii.gz", labels["sulci"].astype(np.int16).T, SPACING)
    return Truth(samples)
