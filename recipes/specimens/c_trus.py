"""C-TRUS as published: grey JPEG pairs under random names, a third of the masks empty but for the noise of JPEG."""

from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

QUALITIES = ("high", "medium", "low")


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top, shape = root / "c-trus-ad3ce4d4bbc4b89792f757c7aeb83f31f9a229bd", (180, 290)
    rows, samples = ["file,quality,quality_name,patient,testitem_in_fold"], {}
    for n in range(15 * scale):
        name, patient, quality = f"{n:03}X{rng.integers(1000):03}.jpg", 1 + n % 13, n % 3
        empty = n % 3 == 2
        wall = np.zeros(shape, bool) if empty else blob(shape, rng, 0.3)
        mask = wall.astype(np.uint8) * 255
        if empty:  # as compression changes a black image that was saved again
            mask = rng.integers(0, 16, shape).astype(np.uint8)
        write_image(top / f"original/{name}", speckle(shape, [wall], rng))
        write_image(top / f"labels/{name}", mask, cv2.IMWRITE_JPEG_QUALITY, 95)
        rows.append(f"{name},{quality},{QUALITIES[quality]},{patient},{n % 5}")
        samples[f"original/{name}"] = Drawn(
            {} if empty else {"colon_wall": [wall]},
            group=str(patient),
            tags={"quality": QUALITIES[quality], "fold": n % 5},
            lossless=False,
        )
    (top / "c-trus.csv").write_text("\n".join(rows) + "\n")
    (top / "README.md").write_text("# C-TRUS\n")
    return Truth(samples)
