"""PorcineSpinalCord: 10,223 images of pigs' spinal cords before and after injury, painted by class. Animals."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.facts import facts, source

COLOURS = facts("porcine_spinal_cord").colours
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("train_images", "val_images", "test_images")
    for split in SPLITS:
        for key in tree.glob(f"{split}_images/*.png"):
            truth = tree.path(f"{split}_masks/{key.rpartition('/')[2]}")
            classes = lazy(masks.colour_classes, lazy(masks.rgb, truth), tuple(COLOURS.values()))
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={label: lazy(masks.equal, classes, n) for n, label in enumerate(COLOURS, 1)},
                group=split,
                split=split,
            )


RECIPE = source(__name__, read)
