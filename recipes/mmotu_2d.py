"""MMOTU-2D: 1,469 images of ovaries; the one colour of the mask says what is outlined, from simple cyst to tumour."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, Split, lazy
from us43d.errors import MissingFolder
from us43d.facts import facts, source

COLOURS = facts("mmotu_2d").colours
NEAREST = 31  # the colours are 64 apart
UNCLASSIFIED = len(COLOURS) + 1


def classes(painted: Any) -> Any:
    """Return the label map (h, w) of a painted mask: n for the n-th of `COLOURS`, 9 for what no colour says, 0 for black.

    A mask whose pixels are not all in one of the colours or black was saved again with loss, or is the figshare
    deposit's, which may be black and white: its most frequent colour counts.
    """
    import numpy as np

    inside = painted.any(axis=2)
    bright = ~masks.colour(painted, (0, 0, 0), NEAREST)
    if bright.any():  # else a mask of 0 and 1; the loss of a JPEG darkens what is around an object
        inside = bright
    layers = [masks.colour(painted, colour, NEAREST) for colour in COLOURS.values()]
    counts = [int(layer.sum()) for layer in layers]
    if sum(counts) == inside.sum():
        return Remarked(
            sum((np.uint8(n) * layer for n, layer in enumerate(layers, 1)), np.zeros_like(inside, np.uint8)), ()
        )
    number = counts.index(max(counts)) + 1 if any(counts) else UNCLASSIFIED
    remark = "several colours in one mask: it was saved again with loss, and the most frequent colour counts"
    if number == UNCLASSIFIED:
        remark = "unclassified: the mask's colour does not say what is outlined"
    return Remarked(np.where(inside, np.uint8(number), np.uint8(0)), (remark,))


def sample(tree: RawTree, key: str, image: str, mask: str, split: Split | None) -> Sample:
    painted = lazy(classes, lazy(masks.rgb, tree.path(mask)))
    labels = {label: lazy(masks.equal, painted, number) for number, label in enumerate((*COLOURS, "unclassified"), 1)}
    remarks = () if split else ("official split unknown: no list names the image",)
    return Sample(key=key, image=tree.path(image), masks=labels, split=split, remarks=remarks)


def read(raw: RawTree) -> Iterator[Sample]:
    try:
        tree, top = raw.at("OTU_2d"), "OTU_2d/"
    except MissingFolder:  # the copy on GitHub has images/ and annotations/ at its top
        tree, top = raw.at("annotations"), ""
    split: dict[str, Split] = {}
    for name, split_name in (("train", "train"), ("val", "test")):
        for key in tree.glob(f"{top}{name}.txt"):
            split |= dict.fromkeys(tree.text(key).split(), split_name)  # type: ignore[arg-type]
    for key in tree.glob(f"{top}images/*.JPG"):
        number = Path(key).stem
        mask = f"{top}annotations/{number}.PNG"
        yield sample(tree, f"OTU_2d/images/{number}.JPG", key, mask, split.get(number))
    # The figshare deposit has other folders, and the split in their names.
    for key in tree.glob("OTU_2d/test/image/*.JPG"):
        folder = key.split("/")[0]
        yield sample(tree, key, key, f"{folder}/test/label/black_write/{Path(key).stem}.PNG", "test")
    for key in tree.glob("OTU_2d/train/train_image/*.JPG"):
        folder = key.split("/")[0]
        yield sample(tree, key, key, f"{folder}/train/train_label/label/{Path(key).stem}.PNG", "train")


RECIPE = source(__name__, read)
