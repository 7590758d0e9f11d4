"""Lumbar-Spine: handheld and robotic scans of 9 lumbar spines; the visible bone surface. Beyond US-43d."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, lazy
from us43d.errors import RawDataError, UnreadableFile
from us43d.facts import source
from us43d.rawtable import Row

SCREEN = (1080, 1920)  # rows, columns
#: The part of the screen that shows the scan; the rest is the scanner's interface, with the date.
SCAN = slice(150, 960), slice(530, 960)
BONE = 2  # the background is 0 in six archives and 1 in twelve
MODES = {"H": "handheld", "R": "robotic, perpendicular", "D": "robotic, other", "M": "robotic, along the process"}


def read(raw: RawTree) -> Iterator[Sample]:
    for key in raw.glob("**/data_list.txt"):
        folder, rows = key.rpartition("/")[0], list[Row]()
        with raw.reading(folder):
            if (match := re.search(r"(URS\d+)_(([HRDM])\d+)", folder)) is None:
                raise RawDataError(f"No folder above {key} in {raw.root} has the name of a scan, such as URS08_H1.")
            rows = raw.table(key, ("#dataPath", "labelPath"), sep="\t")
        labels = f"{folder}/Labels"
        for row in rows:
            with raw.reading(f"{match[0]}/{row['#dataPath']}"):
                image, truth = raw.path(f"{labels}/{row['#dataPath']}"), raw.path(f"{labels}/{row['labelPath']}")
                raw.use(masks.mha_pixels(image), masks.mha_pixels(truth))
                yield Sample(
                    key=f"{match[0]}/{row['#dataPath']}",
                    image=lazy(scan, image),
                    masks={"bone_surface": lazy(surface, truth)},
                    group=match[1],
                    tags={"scan": match[2], "mode": MODES[match[3]]},
                )


def screen(path: Path) -> Any:
    """Return the whole screen, which is stored bottom row first."""
    array = masks.mha_frame(path, 0)[::-1]
    if array.shape[:2] != SCREEN:
        raise UnreadableFile(f"{path} has {array.shape[1]} × {array.shape[0]} pixels, not the 1920 × 1080 of a screen.")
    return array


def scan(path: Path) -> Any:
    """Return the scan, grey where the three channels are equal."""
    array = screen(path)[SCAN]
    single = masks.common_channel(array) if array.ndim == 3 else array
    return array if single is None else single


def surface(path: Path) -> Any:
    """Return the bone surface in the scan, with a remark on annotated pixels outside of it."""
    bone = masks.equal(screen(path), BONE)
    beyond = int(bone.sum() - bone[SCAN].sum())
    return Remarked(bone[SCAN], (f"annotation outside the scan: {beyond} pixels",) if beyond else ())


RECIPE = source(__name__, read)
