"""US nerve Segmentation as the bundle unpacks: TIFF frames with masks, many of them empty, test images without."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

SHAPE = (105, 145)  # a quarter of 420 × 580 in each direction


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples, lines = {}, ["subject,img,pixels"]
    for subject in (1, 2, 10, 47):
        for n in range(1, 5 * scale + 1):
            nerve = blob(SHAPE, rng, 0.2) if (n + subject) % 5 > 2 else np.zeros(SHAPE, bool)
            name = f"{subject}_{n}"
            write_image(root / f"train/{name}.tif", speckle(SHAPE, [nerve], rng))
            write_image(root / f"train/{name}_mask.tif", nerve.astype(np.uint8) * 255)
            lines.append(f"{subject},{n},{_runs(nerve)}")
            masks = {"cervical_nerves": [nerve]} if nerve.any() else {}
            samples[f"train/{name}.tif"] = Drawn(masks, group=str(subject), split="train")
    for n in range(1, 4):
        write_image(root / f"test/{n}.tif", speckle(SHAPE, [], rng))
    (root / "train_masks.csv").write_text("\n".join(lines) + "\n")
    (root / "sample_submission.csv").write_text("img,pixels\n1,1 1\n2,1 1\n3,1 1\n")
    return Truth(samples)


def _runs(mask: np.ndarray) -> str:
    """The competition's run lengths: 1-based start and length, column by column."""
    flat = np.concatenate(([0], mask.T.ravel().astype(np.int8), [0]))
    start, end = np.flatnonzero(np.diff(flat) == 1), np.flatnonzero(np.diff(flat) == -1)
    return " ".join(f"{a + 1} {b - a}" for a, b in zip(start, end, strict=True))
