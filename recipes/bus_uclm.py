"""BUS-UCLM: 683 breast images of 38 patients; the colour of the mask says benign (green) or malignant (red)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source

GREEN, RED = (0, 255, 0), (255, 0, 0)
TEST = {"COPE", "ANFO", "ELCO", "CRCI", "FLKA"}


def two_coloured(painted: Any) -> Any:
    """Return the painted mask, with a remark on other colours. Raises UnreadableFile if it has no more than those."""
    known = masks.colour(painted, GREEN) | masks.colour(painted, RED)
    strange = (painted > 127).any(axis=2) & ~known
    if not strange.any():
        return painted
    if not known.any():
        colour = tuple(int(channel) for channel in painted[strange][0])
        raise UnreadableFile(f"The mask is painted in the colour {colour}, neither green nor red.")
    return Remarked(painted, (f"painted neither green nor red: {strange.sum():,} pixels",))


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("BUS-UCLM")
    table = tree.index("BUS-UCLM/INFO.csv", "Image", ("Label", "Doppler", "Marks", "Combined"), sep=";")
    for key in tree.glob("BUS-UCLM/images/*.png"):
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
