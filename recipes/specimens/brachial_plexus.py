"""Brachial plexus as published: mp4 videos, JPEG masks by frame number, needle lines with gaps, tables, boxes, images."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

SHAPE = (72, 104)  # the real frames have 360 × 512
VIDEOS = {
    "Butterfly": ("b240", "b241", "b300"),
    "Sonosite": ("s005", "s071", "s117"),
    "eSaote": ("1032", "1033", "1040", "1041", "2001"),
}


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "brachial_plexus-ac4bf778db01cc81338773485e59a8ac254f665c"
    frames = 6 * scale
    samples = {}
    for device, videos in VIDEOS.items():
        folder = top / "data" / device
        (folder / "videos").mkdir(parents=True)
        (folder / "bb_annotations").mkdir()
        for video in videos:
            key = f"data/{device}/videos/{video}.mp4"
            writer = cv2.VideoWriter(str(top / key), cv2.VideoWriter.fourcc(*"mp4v"), 30, SHAPE[::-1])
            needles = {}
            for frame in range(frames):
                shapes = {"nerve_plexus": blob(SHAPE, rng, 0.3, (0, 0, 0.6, 1))}
                if (video, frame) == ("1033", 2):
                    shapes["nerve_plexus"] = np.zeros(SHAPE, bool)
                if video in ("s071", "s117") and frame not in (1, 3):  # frames without a needle mask
                    start, stop = (int(rng.integers(64, 70)), int(rng.integers(30, 60))), (100, 6)
                    needles[frame] = {"start": start, "stop": stop}
                    line = np.zeros(SHAPE, np.uint8)
                    cv2.line(line, start, stop, 255, 4)
                    shapes["needle"] = line != 0
                for label, inner in (("nerve_plexus", "ac_masks"), ("needle", "needle/needle_masks")):
                    if label in shapes and (device, video, label, frame) != ("eSaote", "1040", "nerve_plexus", 4):
                        path = folder / f"{inner}/{video}/{video}_{frame:03}.jpg"
                        write_image(path, shapes[label].astype(np.uint8) * 255, cv2.IMWRITE_JPEG_QUALITY, 90)
                writer.write(np.stack([speckle(SHAPE, list(shapes.values()), rng)] * 3, axis=2))
                masks: dict[str, list[Any]] = {label: [mask] for label, mask in shapes.items() if mask.any()}
                samples[f"{key}#{frame:04}"] = Drawn(
                    masks,
                    group=f"{device}/{video}",
                    tags={"device": device} | ({} if device == "eSaote" else {"nerve": "sc"}),
                    dropped=(video, frame) == ("1040", 4),
                )
            writer.release()
            (folder / f"bb_annotations/{video}.txt").write_text("0 10 10 50 50\n" * frames)
            if needles:
                (folder / "needle/needle_coordinates").mkdir(exist_ok=True)
                (folder / f"needle/needle_coordinates/{video}.txt").write_text(json.dumps(needles))
                for place in ("", "/needle_masks", "/needle_coordinates"):
                    (folder / f"needle{place}/readme.md").write_text("Needle annotations.\n")
    rows = [f"{video},sc,{frames},3" for video in VIDEOS["Butterfly"]]
    (top / "data/Butterfly/subjects_data.csv").write_text(
        "\n".join(["vid_name,nerve,frame_cnt,gac_iter", *rows]) + "\n"
    )
    rows = [f"{video},sc,{frames},{'' if video == 's005' else 'yes'},2" for video in VIDEOS["Sonosite"]]
    head = "vid_name,nerve,frame_cnt,needle,gac_iter"
    (top / "data/Sonosite/subjects_data.csv").write_text("\n".join([head, *rows]) + "\n")
    (top / "data/eSaote/metadata.csv").write_text("video,age,BMI\n1032,50,24\n")
    (top / "README.md").write_text("# Brachial plexus\n")
    (top / "other").mkdir()
    (top / "other/b240.gif").write_bytes(b"GIF89a")
    (top / "other/Readme.md").write_text("Pictures.\n")
    (top / "Manuscript_v2_wo_names.pdf").write_bytes(b"%PDF-1.5")
    return Truth(samples, lossless=False)
