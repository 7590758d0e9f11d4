"""BrEaST: breast lesions of 256 patients; further areas in masks of their own, classes in an Excel workbook."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

_FOLDER = "BrEaST-Lesions_USG-images_and_masks"
_TABLE = "**/breast-lesions-usg-clinical-data*.xlsx"


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at(_FOLDER)
    found = raw.glob(_TABLE)
    rows = raw.sheet(found[0], ("Image_filename", "Classification", "BIRADS", "Pixel_size")) if found else []
    cases = {row["Image_filename"]: row for row in rows}
    for key in (key for key in tree.glob(f"{_FOLDER}/case*.png") if "_" not in key.rpartition("/")[2]):
        stem = key.removesuffix(".png")
        row = cases.get(key.rpartition("/")[2])
        side = row.number("Pixel_size") * 10 if row and row["Pixel_size"] else None  # the table has centimetres
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={
                label: tuple(lazy(masks.nonzero, lazy(masks.grey, tree.path(mask))) for mask in tree.glob(pattern))
                for label, pattern in (("tumor", f"{stem}_tumor*.png"), ("other", f"{stem}_other*.png"))
            },
            group=stem.rpartition("/")[2],
            spacing_mm=(side, side) if side else None,
            tags={"diagnosis": row["Classification"].lower(), "birads": row["BIRADS"]} if row else {},
        )


RECIPE = source(__name__, read)
