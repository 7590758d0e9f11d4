"""PSFHS: pubic symphysis and fetal head in 1,358 intrapartum images; MetaImages, labels beside them. Beyond US-43d."""

from collections.abc import Iterator
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

VALUES = {"pubic_symphysis": 1, "fetal_head": 2}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("image_mha")
    for key in tree.glob("image_mha/*.mha"):
        name = key.rpartition("/")[2]
        labels = lazy(masks.mha_frame, tree.path(f"label_mha/{name}"), 0)
        path = tree.path(key)
        planes = (lazy(masks.eight_bit, lazy(masks.mha_frame, path, plane)) for plane in range(3))
        yield Sample(key=key, image=lazy(coloured, *planes), masks=masks.by_value(labels, VALUES))


def coloured(*planes: Any) -> Any:
    """Planes stored one after the other as channels; equal ones become grey when the image is written."""
    import numpy as np

    return np.stack(planes, axis=2)


RECIPE = source(__name__, read)
