"""BUID (QAMEBI): breast lesions; BMP image and TIFF mask side by side, names with blanks, numbers restart per class."""

from collections.abc import Iterator
from functools import partial

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source


def read(raw: RawTree, *, cut_at_150: bool = False) -> Iterator[Sample]:
    tree = raw.at("Benign", "Malignant")
    for key in tree.glob("{Benign,Malignant}/* Image.bmp"):
        mask = tree.path(f"{key[: -len('Image.bmp')]}Mask.tif")
        kind = key.partition("/")[0].lower()
        lesion = lazy(masks.above, lazy(masks.grey, mask), 149) if cut_at_150 else lazy(masks.binary, mask)
        yield Sample(key=key, image=tree.path(key), masks={kind: lesion}, tags={"diagnosis": kind})


RECIPE = source(__name__, read, paper=partial(read, cut_at_150=True))
