"""STMUS_NDA as published: muscle and condition as folders, the images once more in split folders, predicted masks beside."""

from pathlib import Path

import cv2
import numpy as np
import openpyxl

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

MUSCLES = {"BB": "biceps_brachii", "GM": "gastrocnemius_medialis", "TA": "tibialis_anterior"}


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "Polito-Radboud-DeepLearningUS"
    samples = {}
    for m, (muscle, label) in enumerate(MUSCLES.items()):
        for condition in ("Healthy", "Pathological"):
            for n in range(3 * scale):
                # One name is found in two folders, so that its split cannot be told.
                name = (
                    "subject_shared.png"
                    if (n, condition) == (2, "Healthy") and m < 2
                    else f"{muscle}{condition[0]}_{n:04}.png"
                )
                shape = (120, 128)
                mask = blob(shape, rng)
                folder = ("train", "test", "val")[n % 3] if condition == "Healthy" else "train"
                picture, grey = speckle(shape, [mask], rng), mask.astype(np.uint8) * (255 if n % 2 else 1)
                write_image(top / muscle / condition / "Images" / name, picture)
                write_image(top / muscle / condition / "Masks" / name, grey)
                write_image(top / "Results" / "BB_GM_TA" / "Masks" / name, np.roll(grey, 4))
                copy = top / "Segmentation_models/data/MuscleCNN"
                write_image(copy / folder / name, cv2.resize(picture, (64, 60)))
                write_image(copy / f"{folder}annot" / name, cv2.resize(grey, (64, 60), interpolation=cv2.INTER_NEAREST))
                samples[f"{muscle}/{condition}/Images/{name}"] = Drawn(
                    {label: [mask]},
                    split=None if name == "subject_shared.png" else folder,
                    tags={"muscle": muscle, "condition": condition.lower()},
                )
            book = openpyxl.Workbook()
            assert book.active is not None
            book.active.append(["ID", "Age", "Length", "Weight", "Sex"])
            book.save(top / muscle / condition / "characteristics.xlsx")
    (top / "MATLAB").mkdir()
    for file in ("MATLAB/main.m", "Subjects_mean_gray_level_zscore.xls", "LICENSE.txt", "readme.txt"):
        (top / file).write_text("text\n")
    return Truth(samples)
