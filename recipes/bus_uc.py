"""BUS_UC: breast tumours from ultrasoundcases.info; the class is the folder, and All/ repeats both."""

from collections.abc import Iterator
from functools import partial

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source


def read(raw: RawTree, *, solid: bool = False) -> Iterator[Sample]:
    """solid: count pure white only, not the grey above half range."""
    tree = raw.at("Benign/images")
    for folder in ("Benign", "Malignant"):
        for key in tree.glob(f"{folder}/images/*.png"):
            mask = tree.path(f"{folder}/masks/{key.rpartition('/')[2]}")
            lesion = lazy(masks.equal, lazy(masks.grey, mask), 255) if solid else lazy(masks.binary, mask)
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={folder.lower(): lesion},
                fit="nearest",  # 0319.png: mask and image differ by one pixel
                tags={"diagnosis": folder.lower()},
            )


RECIPE = source(__name__, read, paper=partial(read, solid=True))
