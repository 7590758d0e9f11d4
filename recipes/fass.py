"""FASS: fetal abdomens, four structures as arrays in pickled .npy files, which are read without running them."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import RawDataError
from us43d.facts import source

STRUCTURES = ("artery", "liver", "stomach", "vein")
NAME = re.compile(r"IMAGES/(P(\d+)_.*)\.png", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("IMAGES")
    arrays = raw.at("ARRAY_FORMAT")
    for key in tree.glob("IMAGES/*.png"):
        with tree.reading(key):
            if (match := NAME.fullmatch(key)) is None:
                raise RawDataError(f"{tree.path(key)} is not named P<patient>_IMG<number>.png.")
            array = arrays.path(f"ARRAY_FORMAT/{match[1]}.npy")
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={
                    name: lazy(masks.nonzero, lazy(masks.pickled_array, array, "structures", name))
                    for name in STRUCTURES
                },
                group=str(int(match[2])),
            )


RECIPE = source(__name__, read)
