"""LUMINOUS: 341 images of the lumbar multifidus; one mask file, or one per side. Beyond US-43d."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

IMAGE = re.compile(r"B-mode/((\d+)_\d+)_Bmode\.tif", re.IGNORECASE)
MASK = re.compile(r"Masks/(\d+_\d+)_Mask\d*\.tif", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("B-mode")
    mask_keys: dict[str, list[str]] = {}
    for key in tree.glob("Masks/*.tif"):
        if match := MASK.fullmatch(key):
            mask_keys.setdefault(match[1], []).append(key)
    for key in tree.glob("B-mode/*.tif"):
        if (match := IMAGE.fullmatch(key)) is None:
            continue  # and the build says that the file was not read
        name, subject = match.groups()
        # A missing mask is requested, and the error names it.
        truths = map(tree.path, mask_keys.get(name, [f"Masks/{name}_Mask.tif"]))
        yield Sample(
            key=key,
            image=tree.path(key),
            instances={"multifidus": [lazy(masks.above, lazy(masks.grey, truth), 127) for truth in truths]},
            group=subject,
        )


RECIPE = source(__name__, read)
