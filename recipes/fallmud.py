"""FALLMUD: leg muscles from two centres; aponeuroses and fascicles in files of their own, some of them turned."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, lazy
from us43d.errors import RawDataError
from us43d.facts import source

LABELS = ("aponeurosis", "fascicle")
CENTRES = ("NeilCronin", "RyanCunningham")
#: Numbers in a block of frames that stay in one split; a choice of this project, as no patients are published.
BLOCK = 50
FILE = re.compile(rf"({'|'.join(CENTRES)})/(images|aponeurosis_masks|fascicle_masks)/(.*)\.(?:tiff?|jpe?g)", re.I)


def read(raw: RawTree, *, threshold: int = 127, both: bool = False) -> Iterator[Sample]:
    """threshold: pixels of the masks above it are inside. both: drop images that lack one of the two masks."""
    tree = raw.at("RyanCunningham", "NeilCronin")
    as_published = {centre.lower(): centre for centre in CENTRES}
    files: dict[tuple[str, str], dict[str, str]] = {}
    for key in tree:
        if match := FILE.fullmatch(key):
            kind = match[2].lower().removesuffix("_masks")
            by_kind = files.setdefault((as_published[match[1].lower()], match[3]), {})
            if kind in by_kind:
                raise RawDataError(f"{tree.path(by_kind[kind])} and {tree.path(key)} are one thing twice.")
            by_kind[kind] = key
    for (centre, stem), by_kind in sorted(files.items()):
        if "images" not in by_kind:
            continue  # its masks stay unread, and the build reports them
        image = tree.path(by_kind["images"])
        structures = {
            label: lazy(masks.above, lazy(masks.grey, tree.path(by_kind[label])), threshold)
            for label in LABELS
            if label in by_kind
        }
        if "aponeurosis" in structures:
            structures["aponeurosis"] = lazy(upright, structures["aponeurosis"], lazy(masks.grey, image), centre)
        missing = tuple(f"no {label} mask is published for this image" for label in LABELS if label not in structures)
        drop = missing[0] if missing and both else None
        if len(missing) == len(LABELS):
            drop = "no mask is published for this image"
        number = re.search(r"\d+", stem)
        yield Sample(
            key=f"{centre}/images/{stem}{image.suffix.lower()}",
            image=image,
            masks=structures,
            group=f"{centre} {int(number[0]) // BLOCK * BLOCK:05}" if number else centre,
            tags={"centre": centre},
            remarks=() if drop else missing,
            drop=drop,
        )


def upright(mask: Any, image: Any, centre: str) -> Any:
    """Return the mask as its image lies.

    Those of RyanCunningham are stored turned by 90 degrees and are turned clockwise.

    A shape that differs from the image's tells; a square does not, so there the centre does, and the rule is checked:
    aponeuroses are bright.
    """
    import numpy as np

    clockwise = np.rot90(mask, -1)
    if mask.shape != image.shape:
        if clockwise.shape != image.shape:
            return mask  # of another size, which is an error
        return Remarked(clockwise, ("mask turned by 90 degrees, as its shape shows",))
    if centre != "RyanCunningham" or image.shape[0] != image.shape[1] or not mask.any():
        return mask
    if image[clockwise].mean() < image[mask].mean():
        return Remarked(clockwise, ("square mask turned by 90 degrees, though unturned it lies on brighter pixels",))
    return Remarked(clockwise, ("square mask turned by 90 degrees, as are the others of its folder",))


RECIPE = source(__name__, read, paper=partial(read, threshold=99, both=True))
