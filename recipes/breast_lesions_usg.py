"""BrEaST: breast lesions of 256 patients; further areas in masks of their own, classes in an Excel workbook."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source
from us43d.rawtable import Row
from us43d.rawtree import folded

_FOLDER = "BrEaST-Lesions_USG-images_and_masks"
_TABLE = "**/breast-lesions-usg-clinical-data*.xlsx"


#: Columns of the workbook that are kept with the image, under their own names.
_CLINICAL = (
    "Age", "Tissue_composition", "Signs", "Symptoms", "Shape", "Margin", "Echogenicity", "Posterior_features", "Halo",
    "Calcifications", "Skin_thickening", "Interpretation", "Verification",
)  # fmt: skip


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at(_FOLDER)
    tables = raw.glob(_TABLE)
    columns = ("Image_filename", "Mask_tumor_filename", "Mask_other_filename", "Classification", "BIRADS", "Pixel_size")
    rows = raw.index(tables[0], columns[0], columns[1:]) if tables else {}
    cases = {name.casefold(): row for name, row in rows.items()}
    for key in (key for key in tree.glob(f"{_FOLDER}/case*.png") if "_" not in key.rpartition("/")[2]):
        with tree.reading(key):
            row = cases.pop(key.rpartition("/")[2].casefold(), None)
            yield _sample(tree, key, row)
    if cases:  # images that the table lists and no archive has
        tree.path(f"{_FOLDER}/{next(iter(cases.values()))['Image_filename']}")


def _sample(tree: RawTree, key: str, row: Row | None) -> Sample:
    stem = key.removesuffix(".png")
    side = row.number("Pixel_size") * 10 if row and row["Pixel_size"] else None  # the table has centimetres
    structures = {}
    for label, column in (("tumor", "Mask_tumor_filename"), ("other", "Mask_other_filename")):
        # Those the table names must be there; it may spell them in other case.
        listed = [name.strip() for name in row[column].split("&") if name.strip()] if row else []
        names = [*(f"{_FOLDER}/{name}" for name in listed), *tree.glob(f"{stem}_{label}*.png")]
        files = {folded(name): name for name in names}
        structures[label] = tuple(lazy(masks.not_black, tree.path(mask)) for mask in sorted(files.values()))
    tags: dict[str, str | int] = {}
    if row:
        tags = {"diagnosis": row["Classification"].lower(), "birads": row["BIRADS"]}
        clinical = {name: row[name] for name in (*_CLINICAL, "Diagnosis") if row.optional(name)}
        # "Diagnosis" is the finding in words; the tag of that name is the class.
        tags |= {"finding" if name == "Diagnosis" else name.lower(): text for name, text in clinical.items()}
    return Sample(
        key=key,
        image=tree.path(key),
        masks=structures,
        group=stem.rpartition("/")[2],
        spacing_mm=(side, side) if side else None,
        tags=tags,
        remarks=() if row else ("clinical data and pixel size unknown: the workbook is missing or has no row for it",),
    )


RECIPE = source(__name__, read)
