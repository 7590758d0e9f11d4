"""Intrapartum video as published: AVI files in three folders, masks named in three ways, tables and landmarks beside."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, write_image

SHAPE = (96, 96)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for split, count in (("train", 4), ("val", 3), ("test", 3)):
        top = root / "DatasetV3" / split
        for folder in ("videos", "seg", "cls"):
            (top / folder).mkdir(parents=True)
        column = "labeled_index,frame_count" if split == "train" else "labeled_frame_index"
        listed, frames = [f"filename,{column}"], 6 * scale
        for n in range(count):
            video = f"{split}_2023_{n:03}"
            key = f"{split}/videos/{video}.avi"
            facts: Any = {"group": video, "split": split}
            shown = [2] if split == "test" else [1, 4]
            if n == 1 and split != "test":
                shown = []
            late = n == 2 and split == "val"  # as if frames counted from 1
            writer = cv2.VideoWriter(str(top / f"videos/{video}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, SHAPE)
            for t in range(frames):
                shapes = {
                    "pubic_symphysis": blob(SHAPE, rng, 0.25, (0, 0, 0.5, 0.5)),
                    "fetal_head": blob(SHAPE, rng, 0.28, (0.4, 0.4, 1, 1)),
                }
                writer.write(cv2.merge([speckle(SHAPE, list(shapes.values()), rng)] * 3))
                if t not in shown:
                    continue
                number = frames if late and t == 4 else t
                labels = label_map(SHAPE, dict(enumerate(shapes.values(), 1)))
                name = {"train": f"{video}/mask/{video}_{t}_6", "val": f"{video}_{number}", "test": video}[split]
                write_image(top / f"seg/{name}.png", labels)
                masks: Any = {label: [mask] for label, mask in shapes.items()}
                samples[f"{key}#{number:04}"] = Drawn(masks, dropped=number == frames, **facts)
            writer.release()
            if not shown:
                samples[f"{key}#0000"] = Drawn(dropped=True, **facts)
            listed.append(f"{video}.avi,{shown[0] if shown else ''}" + (f",{frames}" if split == "train" else ""))
        (top / "seg/seg_info.csv").write_text("\n".join(listed) + "\n")
        (top / f"{split}_info.csv").write_text("filename,pos\n")
        (top / f"cls/{'class' if split == 'train' else 'cls'}_label.csv").write_text("filename,pos_index\n")
    (root / "DatasetV3/train/seg/landmark.json").write_text("{}")
    (root / "DatasetV3/README_EN.md").write_text("# DatasetV3\n")
    return Truth(samples)
