"""BUS-UCLM: 683 breast images of 38 patients; the colour of the mask says benign (green) or malignant (red)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, lazy
from us43d.facts import source

GREEN, RED = (0, 255, 0), (255, 0, 0)
TEST = {"COPE", "ANFO", "ELCO", "CRCI", "FLKA"}


def two_coloured(painted: Any) -> Any:
    """Return the painted mask, with a remark where it has other colours."""
    known = masks.colour(painted, GREEN) | masks.colour(painted, RED)
    strange = (painted > 127).any(axis=2) & ~known
    return (
        Remarked(painted, (f"painted neither green nor red: {strange.sum():,} pixels",)) if strange.any() else painted
    )


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("BUS-UCLM")
    table = tree.index("BUS-UCLM/INFO.csv", "Image", ("Label", "Doppler", "Marks", "Combined"), sep=";")
    for key in tree.glob("BUS-UCLM/images/*.png"):
        with tree.reading(key):
            name = Path(key).name
            row, patient = table[name], name.partition("_")[0]
            painted = lazy(two_coloured, lazy(masks.rgb, tree.path(f"BUS-UCLM/masks/{name}")))
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={"benign": lazy(masks.colour, painted, GREEN), "malignant": lazy(masks.colour, painted, RED)},
                group=patient,
                split="test" if patient in TEST else None,
                tags={
                    "label": row["Label"],
                    **{column.lower(): row[column][:1].lower() == "y" for column in ("Doppler", "Marks", "Combined")},
                },
                fit="nearest",
            )


RECIPE = source(__name__, read)
