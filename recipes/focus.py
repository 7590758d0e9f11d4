"""FOCUS: 300 four-chamber views of fetal hearts; one mask file for the heart, one for the thorax. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.facts import source

PARTS: dict[str, Split] = {"testing": "test", "training": "train", "validation": "val"}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("training/images", "validation/images", "testing/images")
    for folder, split in PARTS.items():
        for key in tree.glob(f"{folder}/images/*.png"):
            stem = key.rpartition("/")[2].removesuffix(".png")
            files = {label: tree.path(f"{folder}/annfiles_mask/{stem}-{label}.png") for label in ("cardiac", "thorax")}
            yield Sample(
                key=key,  # numbers restart in every folder
                image=tree.path(key),
                masks={label: lazy(masks.binary, path) for label, path in files.items()},
                split=split,
            )


RECIPE = source(__name__, read)
