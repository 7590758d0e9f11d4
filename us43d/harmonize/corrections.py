"""Masks that people corrected: the fixes in the log of reviews (`us43d.splits.review`).

A fix replaces the masks of the source's reader when it is built next; raw data stay as they are. It holds for what the
person saw: where the image or the reader's masks have changed since, it is refused, and the build lists it as stale.
`--no-fixes` builds without.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from us43d import atomic
from us43d.errors import BuildError
from us43d.harmonize.corpus import is_speck
from us43d.harmonize.taxonomy import taxonomy
from us43d.masks import rle
from us43d.masks.components import components
from us43d.splits import review
from us43d.splits.review import Fix, Mask

__all__ = ["REMARK", "Applied", "Corrections", "folder", "masks_digest", "read"]

REMARK = "masks corrected in review"


def masks_digest(counts: Iterable[str]) -> str:
    """Return the digest of an image's masks. counts: compressed run lengths, in any order."""
    return hashlib.sha256("\n".join(sorted(counts)).encode()).hexdigest()


class Applied(NamedTuple):
    """What became of the fixes of a source. digest: over all of them; empty without any. stale: keys, sorted."""

    fixes: tuple[Fix, ...] = ()
    stale: tuple[str, ...] = ()
    digest: str = ""

    def facts(self) -> dict[str, Any]:
        """Return the entry of dataset.json; empty without fixes."""
        if not self.digest:
            return {}
        return {"corrections": {"images": len(self.fixes), "stale": list(self.stale), "digest": self.digest}}

    def provenance(self) -> dict[str, Any]:
        """Return the entry of provenance.json: who replaced which masks, and when; empty without fixes."""
        if not self.fixes:
            return {}
        lines = [
            {"id": fix.id, "who": fix.who, "when": fix.when, "key": fix.image.key, "replaces": fix.replaces}
            for fix in self.fixes
        ]
        return {"corrections": lines}


class Corrections(NamedTuple):
    """by_key: key → the fix that holds. digest: over all of them; empty without any."""

    by_key: Mapping[str, Fix]
    digest: str

    def apply(self, records: Iterable[Path], category: dict[str, int], parts: Path) -> Applied:
        """Replace masks in the records of finished blocks.

        category: source label → category id; structures the source has no label for are added under their own name.
        parts: folder of temporary files. Raises BuildError for a structure the taxonomy lacks.
        """
        corrected: dict[str, Fix] = {}
        for path in records if self.by_key else ():
            rows = json.loads(path.read_bytes())
            changed = [row for row in rows if row["drop"] is None and self._holds(row)]
            for row in changed:
                fix = corrected[row["key"]] = self.by_key[row["key"]]
                row["annotations"] = list(_annotations(row, fix.masks, category))
                row["remarks"] = list(dict.fromkeys([*row["remarks"], REMARK]))
            if changed:
                atomic.write_bytes(path, json.dumps(rows, separators=(",", ":")).encode(), parts=parts)
        stale = tuple(sorted(self.by_key.keys() - corrected.keys()))
        return Applied(tuple(corrected[key] for key in sorted(corrected)), stale, self.digest)

    def _holds(self, row: Mapping[str, Any]) -> bool:
        fix = self.by_key.get(row["key"])
        if fix is None or fix.image.picture != row["pixel_hash"]:
            return False
        # With the remark, a build that was interrupted has replaced the masks already.
        return REMARK in row["remarks"] or fix.replaces == masks_digest(a["counts"] for a in row["annotations"])


def folder(home: Path, slug: str) -> Path:
    """Return the folder in which the page keeps drafts of a source's masks before they are confirmed."""
    return home / "review" / "masks" / slug


def read(home: Path, slug: str) -> Corrections:
    """Read the fixes of a source. Raises BuildError for a damaged log."""
    corrected = {key: fix for (source, key), fix in review.fixes(home).items() if source == slug}
    content = [[key, fix.image.picture, fix.replaces, fix.masks] for key, fix in sorted(corrected.items())]
    return Corrections(corrected, hashlib.sha256(json.dumps(content).encode()).hexdigest() if corrected else "")


def _annotations(row: Mapping[str, Any], masks: Iterable[Mask], category: dict[str, int]) -> Iterable[dict[str, Any]]:
    """Return the annotations of a record: one per connected component, ordered as blocks write them."""
    height, width = int(row["height"]), int(row["width"])
    entries = []
    for instance, mask in enumerate(masks):
        label = _label(mask.structure, category)
        try:
            decoded = np.ascontiguousarray(rle.decode(mask.rle.encode("ascii"), height, width))
        except ValueError as error:
            raise BuildError(f"A corrected mask of {row['key']} does not fit the image: {error}.") from error
        for piece in components(decoded):
            entries.append(
                {"label": label, "instance": instance, "counts": piece.counts, "area": piece.area,
                 "box": list(piece.box), "speck": is_speck(piece.area, height, width)}
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
