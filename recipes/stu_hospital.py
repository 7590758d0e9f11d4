"""STU-Hospital: 42 breast lesions, 128 × 128, one grey-edged mask each, mostly of another size."""

from collections.abc import Iterator
from functools import partial

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source


def read(raw: RawTree, *, solid: bool = False) -> Iterator[Sample]:
    """solid: count pure white only, not the grey edge above half range."""
    tree = raw.at("Hospital")
    for key in tree.glob("Hospital/Test_Image_*.png"):
        number = key.removesuffix(".png").rpartition("_")[2]
        mask = tree.path(f"Hospital/mask_{number}.png")
        lesion = lazy(masks.equal, lazy(masks.grey, mask), 255) if solid else lazy(masks.binary, mask)
        yield Sample(key=key, image=tree.path(key), masks={"breast_lesion": lesion}, fit="nearest")


RECIPE = source(__name__, read, paper=partial(read, solid=True))
