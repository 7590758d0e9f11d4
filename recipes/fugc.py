"""FUGC: 890 transvaginal images of the cervix; its two lips in one label map, for 440 of them. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.facts import source

VALUES = {"anterior_lip": 1, "posterior_lip": 2}
PARTS: dict[str, Split] = {"test": "test", "train/labeled_data": "train", "val": "val"}
UNLABELLED = "train/unlabeled_data"


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("train/labeled_data", "val/images", "test/images")
    for folder, split in PARTS.items():
        for key in tree.glob(f"{folder}/images/*.png"):
            truth = tree.path(f"{folder}/labels/{key.rpartition('/')[2]}")
            yield Sample(
                key=key,  # numbers restart in every folder
                image=tree.path(key),
                masks=masks.by_value(lazy(masks.label_image, truth), VALUES),
                split=split,
            )
    for key in tree.glob(f"{UNLABELLED}/images/*.png"):
        yield Sample(key=key, image=tree.path(key), split="train", drop="no labels are published for this image")


RECIPE = source(__name__, read)
