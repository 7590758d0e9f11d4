"""pone.0253202.s001.zip as published: numbers restart in every folder, predictions and code lie beside the data."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "pone.0253202.s001"
    train, test = top / "Data/TrainingDataSet", top / "Data/TestingDataSet"
    samples = {}
    for split, images, labels, general, count in (
        ("train", train / "BreastTumourImages", train / "Expanded-3-channel-Labels", train / "General-1-channel-Labels", 12),
        ("test", test / "Test-Expanded-BreastTumourImages", test / "Test-Expanded-3-channel-Labels", test / "Test-General-1-channel-Labels", 4),
    ):  # fmt: skip
        for n in range(count * scale):
            shape = (int(rng.integers(160, 200)), int(rng.integers(200, 260)))
            lesion = blob(shape, rng)
            value, label = ((127, "benign"), (255, "malignant"))[n % 2]
            write_image(images / f"{n}.jpg", speckle(shape, [lesion], rng))
            write_image(labels / f"{n}.png", lesion.astype(np.uint8) * value)
            write_image(general / f"{n}.png", lesion.astype(np.uint8) * 255)
            key = (images / f"{n}.jpg").relative_to(top).as_posix()
            samples[key] = Drawn({label: [lesion]}, split="test" if split == "test" else "train")
    write_image(test / "Test-General-1-BreastTumourImages/0.jpg", speckle((160, 200), [], rng))
    write_image(top / "Segmentation_Results/0.png", np.zeros((160, 200), np.uint8))
    code = top / "Code/Architecture_and_Training_Model_of_Expanded_U-Net/model.py"
    code.parent.mkdir(parents=True)
    code.write_text("# the authors' program\n")
    return Truth(samples)
