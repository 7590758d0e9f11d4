"""PU2756: one image of a peripheral lung tumour, and its mask, for each of 2,756 patients. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source


def read(raw: RawTree) -> Iterator[Sample]:
    images, truths = raw.at("images"), raw.at("masks")
    for key in images.glob("images/*/*.png"):
        _, patient, name = key.split("/")
        yield Sample(
            key=key,
            image=images.path(key),
            masks={"tumour": lazy(masks.above, lazy(masks.grey, truths.path(f"masks/{patient}/{name}")), 127)},
            group=patient,
        )


RECIPE = source(__name__, read)
