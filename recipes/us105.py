"""105US: liver metastases; numbered images, and one rater's outline of the tumour named by the same number.

The module is called us105 because a Python module cannot begin with a digit.
"""

import re
from collections.abc import Iterator
from functools import partial

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import MissingRawFile
from us43d.facts import source

#: "001.png" is an image, "001 G man.png" its outline, in whatever folders.
NAME = re.compile(r"(\d+)([ _].+)?\.png", re.IGNORECASE)


def read(raw: RawTree, *, solid: bool = False) -> Iterator[Sample]:
    """solid: count pure white only, not the grey edge above half range."""
    images, outlines = dict[int, str](), dict[int, str]()
    for key in raw.glob("**/*.png"):
        if match := NAME.fullmatch(key.rpartition("/")[2]):
            (outlines if match[2] else images)[int(match[1])] = key
    for number, key in sorted(images.items()):
        with raw.reading(f"105 US Images/{number:03}.png"):
            if number not in outlines:
                raise MissingRawFile(f"{key} in {raw.root} has no mask: '{number:03} G man.png' is missing.")
            mask = raw.path(outlines[number])
            yield Sample(
                key=f"105 US Images/{number:03}.png",
                image=raw.path(key),
                masks={"tumor": lazy(masks.equal, lazy(masks.grey, mask), 255) if solid else lazy(masks.binary, mask)},
                fit="nearest",
            )


RECIPE = source(__name__, read, paper=partial(read, solid=True))
