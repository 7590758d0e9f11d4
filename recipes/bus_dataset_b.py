"""Dataset B (UDIAT): 163 breast lesions of 163 women; image and mask of one name, the class in an Excel workbook."""

from collections.abc import Iterator
from functools import partial

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source


def read(raw: RawTree, *, cut_at_150: bool = False) -> Iterator[Sample]:
    tree = raw.at("original")
    table = raw.glob("**/datasetb.xlsx")
    rows = raw.index(table[0], "Image", ("Type",)) if table else {}
    kinds = {row.whole("Image"): row["Type"].lower() for row in rows.values()}
    why = "has none for it" if kinds else "is missing"
    for key in tree.glob("original/*.png"):
        name = key.rpartition("/")[2]
        stem = name.removesuffix(".png")
        kind = kinds.get(int(stem)) if stem.isdigit() else None
        mask = tree.path(f"GT/{name}")
        lesion = lazy(masks.above, lazy(masks.grey, mask), 149) if cut_at_150 else lazy(masks.binary, mask)
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={"breast_lesion": lesion},
            group=stem,
            tags={"diagnosis": kind} if kind else {},
            remarks=() if kind else (f"diagnosis unknown: the workbook {why}",),
        )


RECIPE = source(__name__, read, paper=partial(read, cut_at_150=True))
