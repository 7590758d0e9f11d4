"""kidneyUS: 534 images of kidneys, each drawn by two sonographers: the capsule, and three regions within it."""

import json
import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Lazy, RawTree, Sample, lazy
from us43d.errors import UnreadableFile, listed
from us43d.facts import source
from us43d.rawtable import Row, agreed

REGIONS = {"central_echo_complex": 1, "medulla": 2, "cortex": 3}
#: Sonographer → what stands before the labels of the masks.
READERS = {1: "", 2: "sonographer_2_"}
TABLE = "labels/reviewed_labels_1.csv"
NAME = re.compile(r"(?:.*/)?((\d+)_(IM-[^/]+)_anon\.png)")


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("labels/reviewed_masks_1")
    # A row for every region, each with the attributes of the image.
    rows = {(row["filename"], row["file_attributes"]): row for row in tree.rows(TABLE, ("filename", "file_attributes"))}
    described, contradicted = agreed((name, row) for (name, _), row in rows.items())
    spacing, unclear = agreed(spacings(raw))
    images = {}
    for key in raw.glob("**/*_anon.png"):
        if not key.startswith(f"{tree.prefix}labels/") and (match := NAME.fullmatch(key)):
            images[match[1]] = (key, int(match[2]), match[3])
    # A copy of an image has another number before the same rest of the name; the original's is the smallest.
    patient: dict[str, int] = {}
    for _, number, rest in images.values():
        patient[rest] = min(number, patient.get(rest, number))
    for name, (key, number, rest) in sorted(images.items()):
        with tree.reading(name):
            if name not in described and name not in contradicted:
                raise UnreadableFile(f"{tree.path(TABLE)} has no row of {name}.")
            structures: dict[str, Lazy] = {}
            for reader, prefix in READERS.items():
                capsule, regions = (
                    lazy(masks.grey, tree.path(f"labels/reviewed_masks_{reader}/{kind}/{name}"))
                    for kind in ("capsule", "regions")
                )
                structures[f"{prefix}capsule"] = lazy(masks.nonzero, capsule)
                structures |= {f"{prefix}{label}": mask for label, mask in masks.by_value(regions, REGIONS).items()}
            yield Sample(
                key=name,
                image=raw.path(key),
                masks=structures,
                group=str(patient[rest]),
                spacing_mm=spacing.get(rest),
                tags=tags(described[name]) if name in described else {},
                remarks=(
                    *((f"copy: of an image numbered {patient[rest]}",) if number != patient[rest] else ()),
                    *(("attributes unknown: rows of the table contradict each other",) if name in contradicted else ()),
                    *(("spacing unknown: rows of the table contradict each other",) if rest in unclear else ()),
                ),
            )


def tags(row: Row) -> dict[str, str | bool]:
    """Return the first sonographer's attributes of the image."""
    try:
        attributes = json.loads(row["file_attributes"])
        known = {name.lower(): str(attributes[name]) for name in ("Quality", "View") if attributes.get(name)}
        return {**known, "transplant": "transplant" in str(attributes.get("Comments", "")).lower()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableFile(f"{row.where}: file_attributes is {row['file_attributes']!r}: {error}.") from error


def spacings(raw: RawTree) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield (name without its number, (x, y) in mm) of the table of transducers, whose cm per pixel are 1 if unknown."""
    for row in raw.sheet(raw.one("**/OpenKidneyUltrasoundDataSet_TransducerInfo.xlsx"), ("Filename",)):
        # The headings begin like this; whether they go on, with a unit, was not seen.
        columns = [name for axis in "XY" for name in row if name.startswith(f"Physical Delta {axis}")]
        if len(columns) != 2:
            raise UnreadableFile(f"{row.where}: missing column Physical Delta X or Y; the columns are {listed(row)}.")
        x, y = (row.number(name) if row[name] else 1 for name in columns)
        if x != 1 and y != 1:
            yield row["Filename"].partition("_")[2], (10 * x, 10 * y)


RECIPE = source(__name__, read)
