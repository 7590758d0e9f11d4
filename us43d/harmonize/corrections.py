"""Masks that people corrected: <home>/review/masks/<slug>/labels.json, written by `us43d label NAME`.

Images marked as reviewed there replace the masks of the source's reader when it is built next; raw data stay as they
are. A correction holds for the pixels that were seen: it is ignored where an image has changed since. `--no-fixes`
builds without.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from us43d import atomic
from us43d.errors import BuildError
from us43d.harmonize.taxonomy import taxonomy
from us43d.masks import rle
from us43d.masks.components import components

__all__ = ["REMARK", "Corrections", "folder", "read"]

REMARK = "masks corrected in review"


class Mask(NamedTuple):
    """One object. counts: compressed RLE at the image's size."""

    structure: str
    counts: str


class Corrections(NamedTuple):
    """by_key: key → (pixel hash, masks). digest: over all of them; empty without any."""

    by_key: Mapping[str, tuple[str, tuple[Mask, ...]]]
    digest: str

    def apply(self, records: Iterable[Path], category: dict[str, int], parts: Path) -> int:
        """Replace masks in the records of finished blocks; returns how many images were corrected.

        category: source label → category id; structures the source has no label for are added under their own name.
        parts: folder of temporary files. Raises BuildError for a structure the taxonomy lacks.
        """
        corrected = 0
        for path in records if self.by_key else ():
            rows = json.loads(path.read_bytes())
            changed = [row for row in rows if row["drop"] is None and self._holds(row)]
            for row in changed:
                row["annotations"] = list(_annotations(row, self.by_key[row["key"]][1], category))
                row["remarks"] = list(dict.fromkeys([*row["remarks"], REMARK]))
            if changed:
                atomic.write_bytes(path, json.dumps(rows, separators=(",", ":")).encode(), parts=parts)
                corrected += len(changed)
        return corrected

    def _holds(self, row: Mapping[str, Any]) -> bool:
        return row["key"] in self.by_key and self.by_key[row["key"]][0] == row["pixel_hash"]


def folder(home: Path, slug: str) -> Path:
    """Where `us43d label NAME` keeps the corrections of a source."""
    return home / "review" / "masks" / slug


def read(home: Path, slug: str) -> Corrections:
    """Read what was reviewed of a source. Raises BuildError for a damaged file."""
    file = folder(home, slug) / "labels.json"
    try:
        content = json.loads(file.read_bytes())
        names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        masks: dict[int, list[Mask]] = {}
        for entry in content["annotations"]:
            mask = Mask(names[entry["category_id"]], str(entry["segmentation"]["counts"]))
            masks.setdefault(entry["image_id"], []).append(mask)
        held = {
            str(image["us43d"]["key"]): (str(image["us43d"]["picture"]), tuple(masks.get(image["id"], ())))
            for image in content["images"]
            if image["us43d"]["reviewed"]
        }
    except FileNotFoundError:
        return Corrections({}, "")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{file} cannot be read: {error!r}.", next=f"us43d label {slug}") from error
    digest = hashlib.sha256(json.dumps(sorted(held.items())).encode()).hexdigest() if held else ""
    return Corrections(held, digest)


def _annotations(row: Mapping[str, Any], masks: Iterable[Mask], category: dict[str, int]) -> Iterable[dict[str, Any]]:
    """The annotations of a record: one per connected component, ordered as blocks write them."""
    height, width = int(row["height"]), int(row["width"])
    entries = []
    for instance, mask in enumerate(masks):
        label = _label(mask.structure, category)
        try:
            decoded = np.ascontiguousarray(rle.decode(mask.counts.encode("ascii"), height, width))
        except ValueError as error:
            raise BuildError(f"A corrected mask of {row['key']} does not fit the image: {error}.") from error
        for piece in components(decoded):
            entries.append(
                {"label": label, "instance": instance, "counts": piece.counts, "area": piece.area,
                 "box": list(piece.box), "speck": piece.area < 16 and piece.area * 10_000 < height * width}
            )  # fmt: skip
    return sorted(entries, key=lambda entry: (entry["label"], entry["instance"]))


def _label(structure: str, category: dict[str, int]) -> str:
    number = next((entry.id for entry in taxonomy().categories if entry.name == structure), None)
    if number is None:
        raise BuildError(
            f"A correction names the structure {structure!r}, which the taxonomy lacks.",
            next="us43d taxonomy   (then choose another name on the page)",
        )
    label = next((label for label in sorted(category) if category[label] == number), structure)
    category.setdefault(label, number)
    return label
