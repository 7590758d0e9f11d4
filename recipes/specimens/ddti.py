"""DDTI.zip as published by its makers: full images, 256 × 256 crops and a table of classes, extensions upper case."""

from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "DDTI"
    samples, rows = {}, ["ID,CATE"]
    for n in range(12 * scale):
        name = f"{(1, 10, 100, 10004)[n % 4] + 1000 * (n // 4)}.PNG"
        shape = (360, int(rng.integers(245, 400)))
        nodule = blob(shape, rng)
        picture, mask = speckle(shape, [nodule], rng), nodule.astype(np.uint8) * 255
        write_image(top / "1_or_data/image" / name, np.stack([picture] * 3, axis=2))
        write_image(top / "1_or_data/mask" / name, mask)
        for stage, side in (("stage1", 256), ("stage2", 512)):
            small = cv2.resize(picture, (side, side))
            write_image(top / f"2_preprocessed_data/{stage}/p_image" / name, small)
            flat = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
            write_image(top / f"2_preprocessed_data/{stage}/p_mask" / name, flat)
        rows.append(f"{name},{n % 2}")
        key, diagnosis = f"1_or_data/image/{name}", ("benign", "malignant")[n % 2]
        samples[key] = Drawn({"thyroid_nodule": [nodule]}, tags={"diagnosis": diagnosis})
    (top / "1_or_data/category.csv").write_text("\n".join(rows) + "\n")
    sized = ["ID,CATE,size", *(f"{row},1" for row in rows[1:])]
    (top / "2_preprocessed_data/train.csv").write_text("\n".join(sized) + "\n")
    (top / "2_preprocessed_data/readme.txt").write_text("stage1: borders cropped; stage2: around the nodule\n")
    return Truth(samples)
