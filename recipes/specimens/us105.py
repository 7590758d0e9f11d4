"""105US as unpacked: two folders with blanks in their names, anti-aliased masks named "<number> G man"."""

from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n in range(1, 10 * scale + 1):
        shape = (2 * int(rng.integers(55, 75)), 2 * int(rng.integers(70, 95)))
        if n == 4:  # a mask of half the image's size
            small = blob((shape[0] // 2, shape[1] // 2), rng)
            tumour, grey = small.repeat(2, axis=0).repeat(2, axis=1), small.astype(np.uint8) * 255
        else:
            tumour = blob(shape, rng)
            soft = cv2.GaussianBlur(tumour.astype(np.uint8) * 255, (5, 5), 0)
            grey = np.where(tumour, np.maximum(soft, 128), np.minimum(soft, 127)).astype(np.uint8)
        picture = np.stack([speckle(shape, [tumour], rng)] * 3, axis=2)
        write_image(root / f"105 US Images/{n:03}.png", picture)
        write_image(root / f"105 US Masks/{n:03} G man.png", np.stack([grey] * 3, axis=2) if n % 2 else grey)
        samples[f"105 US Images/{n:03}.png"] = Drawn({"tumor": [tumour]})
    (root / "__MACOSX/105 US Images").mkdir(parents=True)
    (root / "__MACOSX/105 US Images/._001.png").write_bytes(b"\0\x05\x16\x07")
    return Truth(samples)
