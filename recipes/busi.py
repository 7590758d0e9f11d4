"""BUSI: 780 breast images in three folders; one mask file per lesion, black ones for normal images."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

MASK = re.compile(r"(.*)_mask(_\d+)?\.png", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("Dataset_BUSI_with_GT")
    images, masks_of = [], dict[str, list[int]]()
    for key in tree.glob("Dataset_BUSI_with_GT/{benign,malignant,normal}/*.png"):
        if match := MASK.fullmatch(key):
            masks_of.setdefault(match[1], []).append(int((match[2] or "_0")[1:]))
        else:
            images.append(key)
    for key in images:
        stem, label = key[:-4], key.split("/")[1]
        # One that is missing in between, or the first, is requested, and the error names it.
        last = max(masks_of.get(stem, [0]))
        files = [f"{stem}_mask.png", *(f"{stem}_mask_{number}.png" for number in range(1, last + 1))]
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={label: [lazy(masks.binary, tree.path(file)) for file in files]},
            tags={"label": label},
        )


RECIPE = source(__name__, read)
