"""CT2US: kidneys in ultrasound that a network made of CT slices. Synthetic."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("slice/slice")
    for key in tree.glob("slice/slice/*.png"):
        truth = tree.path(f"mask/mask/{key.rpartition('/')[2]}")
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={"kidney": lazy(masks.above, lazy(masks.grey, truth), 127)},
            group="all",
        )


RECIPE = source(__name__, read)
