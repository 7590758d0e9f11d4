"""CSD: 501 transvaginal images of the uterus with the defect of a caesarean scar, in a VOC tree. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.errors import RawDataError, listed
from us43d.facts import source

PARTS: tuple[Split, ...] = ("train", "val")


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("JPEGImages")
    # The lists name more images than the archive holds; the rest is passed over.
    names = {subset: set(tree.text(f"ImageSets/Segmentation/{subset}.txt").split()) for subset in PARTS}
    if both := sorted(names["train"] & names["val"]):
        raise RawDataError(f"The lists of train and val in {tree.root} both name {listed(both)}.")
    split = {name: subset for subset in PARTS for name in names[subset]}
    for key in tree.glob("JPEGImages/*.jpg"):
        stem = key.rpartition("/")[2].removesuffix(".jpg")
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={"defect": lazy(masks.binary, tree.path(f"SegmentationClass/{stem}.png"))},
            split=split.get(stem),
            remarks=() if stem in split else ("official split unknown: no list names the image",),
        )


RECIPE = source(__name__, read)
