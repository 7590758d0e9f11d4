"""Lumbar-Spine as published: MetaImages with compressed pixels beside, bottom row first, two codes of the background."""

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from us43d.specimen import Drawn, Truth, blob, speckle

SCREEN = (1080, 1920)
SCAN = slice(150, 960), slice(530, 960)
MODES = {"H": "handheld", "R": "robotic, perpendicular", "D": "robotic, other"}


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for name, background, channels in (("URS08_H1", 1, 1), ("URS08_R2", 0, 1), ("URS31_D2", 0, 3), ("URS45_H2", 1, 3)):
        folder = root / name / "Labels"
        folder.mkdir(parents=True)
        listed = ["#dataPath\tlabelPath\tidentifier\toriginalDataPath"]
        for n in range(2 * scale):
            shape = (SCAN[0].stop - SCAN[0].start, SCAN[1].stop - SCAN[1].start)
            bone = blob(shape, rng, 0.1) if n or channels == 1 else np.zeros(shape, bool)  # a frame without bone
            image = np.zeros(SCREEN, np.uint8)
            image[40:60, 100:900] = 200  # the interface
            image[SCAN] = np.repeat(speckle((shape[0] // 2, shape[1]), [bone[::2]], rng), 2, axis=0)
            labels = np.full(SCREEN, background, np.uint8)
            labels[SCAN][bone] = 2
            if name == "URS08_R2":
                labels[100:110, 1000:1010] = 2  # over the interface
            write(folder / f"{n}.mhd", np.stack([image] * channels, axis=-1), channels)
            write(folder / f"{n}-labels.mhd", labels, 1)
            listed.append(f"{n}.mhd\t{n}-labels.mhd\tid{n}\tUS/{name}/{name[6:]}US/{1000 + n}.png")
            tags = {"scan": name[6:], "mode": MODES[name[6]]}
            samples[f"{name}/{n}.mhd"] = Drawn({"bone_surface": [bone]}, group=name[:5], tags=tags)
        (root / name / "data_list.txt").write_text("\n".join(listed) + "\n")
    return Truth(samples)


def write(path: Path, array: NDArray[np.uint8], channels: int) -> None:
    path.write_text(
        "ObjectType = Image\nNDims = 2\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n"
        f"DimSize = {SCREEN[1]} {SCREEN[0]}\nElementNumberOfChannels = {channels}\nElementType = MET_UCHAR\n"
        f"ElementDataFile = {path.stem}.raw\n"
    )
    path.with_suffix(".raw").write_bytes(zlib.compress(array[::-1].tobytes(), 1))
