"""JNU-IFM: 6,224 frames of 78 intrapartum videos; symphysis and fetal head as label maps. Beyond US-43d."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

VALUES = {"pubic_symphysis": 7, "fetal_head": 8}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("us_data")
    for key in tree.glob("us_data/*/image/*.png"):
        _, folder, _, name = key.split("/")
        video = re.sub(r"(?<=\d)t(?=\d)", "T", folder)  # a date and time, as published
        stem = name.removesuffix(".png")
        labels = lazy(masks.label_image, tree.path(f"us_data/{folder}/mask/{stem}_mask.png"))
        number = stem.rpartition("_")[2]
        yield Sample(
            key=f"{video}/{name}",
            image=tree.path(key),
            masks=masks.by_value(labels, VALUES),
            group=video,
            frame=int(number) if number.isdecimal() else None,
        )


RECIPE = source(__name__, read)
