"""JNU-IFM: 6,224 frames of 78 intrapartum videos; symphysis and fetal head as label maps. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

VALUES = {"pubic_symphysis": 7, "fetal_head": 8}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("us_data")
    for key in tree.glob("us_data/*/image/*.png"):
        _, video, _, name = key.split("/")
        stem = name.removesuffix(".png")
        labels = lazy(masks.label_image, tree.path(f"us_data/{video}/mask/{stem}_mask.png"))
        number = stem.rpartition("_")[2]
        yield Sample(
            key=f"{video}/{name}",
            image=tree.path(key),
            masks=masks.by_value(labels, VALUES),
            group=video,
            frame=int(number) if number.isdecimal() else None,
        )


RECIPE = source(__name__, read)
