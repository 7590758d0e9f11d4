"""Mus-V: 3,114 frames of carotid and femoral scans under force; artery and vein as label maps. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.facts import source

VALUES = {"vein": 1, "artery": 2}
PARTS: dict[str, Split] = {"train": "train", "valid": "val"}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("Videos")
    for folder, split in PARTS.items():
        for key in tree.glob(f"Videos/{folder}/*.png"):
            name = key.rpartition("/")[2]
            flat = f"Annotations/{name}"  # one public program reads it so; the authors' has the folders
            truth = tree.path(flat if tree.has(flat) else f"Annotations/{folder}/{name}")
            clip, _, number = name.removesuffix(".png").rpartition("_")
            yield Sample(
                key=key,
                image=tree.path(key),
                masks=masks.by_value(lazy(masks.label_image, truth), VALUES),
                group=clip or name,
                split=split,
                frame=int(number) if number.isdecimal() else None,
            )


RECIPE = source(__name__, read)
