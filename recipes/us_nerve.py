"""US nerve Segmentation: 5,635 frames of 47 necks; an empty mask says that no nerve is in view."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

#: train/<subject>_<image>.tif; names in test/ have no subject.
NAME = re.compile(r"(?:.*/)?((\d+)_\d+)\.tif", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    for key in raw.glob("**/[0-9]*.tif"):
        if match := NAME.fullmatch(key):
            mask = f"{key[:-4]}_mask{key[-4:]}"
            yield Sample(
                key=f"train/{match[1]}.tif",
                image=raw.path(key),
                masks={"cervical_nerves": lazy(masks.binary, raw.path(mask))},
                group=match[2],
                split="train",
            )


RECIPE = source(__name__, read)
