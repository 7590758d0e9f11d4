"""BUS-BRA: 1,875 breast images of 1,064 patients, one 1-bit lesion mask each, tables with case, pathology and folds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source


def measured(mask: Any, width: int, height: int) -> Any:
    """Return the mask, with a remark where its size is not the one in the table."""
    if mask.shape == (height, width):
        return mask
    return Remarked(
        mask, (f"size differs from the table: {width} × {height} there, {mask.shape[1]} × {mask.shape[0]} here",)
    )


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("BUSBRA")
    columns = ("Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side")
    cases = tree.index("BUSBRA/bus_data.csv", "ID", columns)
    folds = tree.index("BUSBRA/5-fold-cv.csv", "ID", ("kFold", "Pathology"))
    for key in tree.glob("BUSBRA/Images/bus_*.png"):
        with tree.reading(key):
            name = Path(key).stem
            case, fold = cases[name], folds[name].whole("kFold")
            number = case.whole("Case")
            if not name.startswith(f"bus_{number:04}-"):  # holds for all 1,875
                raise UnreadableFile(f"{case.where}: Case is {number}, and the name of the image says another.")
            if case["Pathology"] != folds[name]["Pathology"]:
                raise UnreadableFile(f"{case.where}: Pathology is {case['Pathology']!r}, in 5-fold-cv.csv another.")
            mask = lazy(masks.binary, tree.path(f"BUSBRA/Masks/mask_{name.removeprefix('bus_')}.png"))
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={case["Pathology"]: lazy(measured, mask, case.whole("Width"), case.whole("Height"))},
                group=str(number),
                split="test" if fold == 1 else None,
                tags={
                    "pathology": case["Pathology"],
                    "histology": case["Histology"],
                    "birads": case["BIRADS"],
                    "device": case["Device"],
                    "side": case["Side"],
                    "fold": fold,
                },
            )


RECIPE = source(__name__, read)
