"""TNSCUI2020_train as released: upper-case extensions, unpadded ids with gaps, a table with carriage returns only."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "TNSCUI2020_train"
    samples, rows = {}, ["ID,CATE"]
    for n in range(12 * scale):
        name = f"{2 + 37 * n}.PNG"
        shape = (int(rng.integers(168, 200)), int(rng.integers(252, 300)))
        nodule = blob(shape, rng)
        write_image(top / "image" / name, np.stack([speckle(shape, [nodule], rng)] * 3, axis=2))
        write_image(top / "mask" / name, nodule.astype(np.uint8) * (1 if n == 5 else 255))
        rows.append(f"{name},{n % 2}")
        samples[f"image/{name}"] = Drawn(
            {"thyroid_nodule": [nodule]}, tags={"diagnosis": ("benign", "malignant")[n % 2]}
        )
    (top / "train.csv").write_bytes("\r".join(rows).encode() + b"\r")
    write_image(root / "tnscui2020_testset" / "1.PNG", speckle((168, 252), [], rng))
    return Truth(samples)
