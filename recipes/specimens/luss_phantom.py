"""LUSS_phantom as published: frames named by clip and number, label maps that look black, one empty; a model beside."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

NAMES = ("rib", "pleural_line", "a_line", "b_line", "b_line_confluence")


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "data-3"
    samples = {}
    for folder, clips in (("train", 8), ("test", 3)):
        for clip in range(clips):
            # A clip's name may itself hold the mark, and one clip is found in both folders.
            name = "CovidPhantom-Full-scan-1" if clip == 0 else f"{folder}-probe-F{clip}-clip{clip}"
            for frame in range(2 * scale):
                shape = (128, 110)
                labels = np.zeros(shape, np.uint8)
                rows = [(0.05, 0.3), (0.3, 0.4), (0.5, 0.6), (0.6, 0.8), (0.8, 1)]
                for value in range(1, 6) if (clip, frame) != (2, 1) else ():
                    if (clip + value) % 3:
                        top_edge, bottom = rows[value - 1]
                        labels[blob(shape, rng, 0.35, (0.1, top_edge, 0.9, bottom))] = value
                masks = [labels == value for value in range(1, 6)]
                file = f"{name}-F{frame + 5 * (folder == 'test')}.png"
                write_image(top / folder / "images" / file, speckle(shape, masks, rng))
                write_image(top / folder / "masks" / file, labels)
                samples[f"{folder}/images/{file}"] = Drawn(
                    {label: [mask] for label, mask in zip(NAMES, masks, strict=True) if mask.any()},
                    group=name,
                    split=folder,
                )
    (top / "model.h5").write_bytes(b"weights")
    (root / "VideoClips").mkdir()
    (root / "VideoClips/CovidPhantom-Full-scan-1.webm").write_bytes(b"\x1aE\xdf\xa3")
    (root / "vidtoImage.m").write_text("% frames of a clip\n")
    return Truth(samples)
