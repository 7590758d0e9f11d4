"""Masks that people corrected: the fixes in the log of reviews (`us43d.splits.review`).

A fix replaces the masks of the source's reader when it is built next; raw data stay as they are. It holds for what the
person saw: where the image or the reader's masks have changed since, it is refused, and the build lists it as stale.
`--no-fixes` builds without.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from us43d.errors import BuildError
from us43d.harmonize.corpus import is_speck
from us43d.harmonize.records import Annotation, Record, Written
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

    def apply(self, record: Record, category: dict[str, int]) -> bool:
        """Replace the masks of a record, if a fix holds for it; return whether one does.

        category: source label → category id; structures the source has no label for are added under their own name.
        Raises BuildError for a structure the taxonomy lacks.
        """
        fix, image = self.by_key.get(record.key), record.image
        if fix is None or image is None or fix.image.picture != image.pixel_hash:
            return False
        if fix.replaces != masks_digest(annotation.counts for annotation in record.annotations):
            return False
        record.annotations = _annotations(record.key, image, fix.masks, category)
        record.remarks = tuple(dict.fromkeys([*record.remarks, REMARK]))
        return True

    def applied(self, keys: Container[str]) -> Applied:
        """Sum up what became of the fixes. keys: images whose masks were replaced."""
        fixes = {key: fix for key, fix in sorted(self.by_key.items()) if key in keys}
        return Applied(tuple(fixes.values()), tuple(sorted(self.by_key.keys() - fixes.keys())), self.digest)


def folder(home: Path, slug: str) -> Path:
    """Return the folder in which the page keeps drafts of a source's masks before they are confirmed."""
    return home / "review" / "masks" / slug


def read(home: Path, slug: str) -> Corrections:
    """Read the fixes of a source. Raises BuildError for a damaged log."""
    corrected = {key: fix for (source, key), fix in review.fixes(home).items() if source == slug}
    content = [[key, fix.image.picture, fix.replaces, fix.masks] for key, fix in sorted(corrected.items())]
    return Corrections(corrected, hashlib.sha256(json.dumps(content).encode()).hexdigest() if corrected else "")


def _annotations(key: str, image: Written, masks: Iterable[Mask], category: dict[str, int]) -> tuple[Annotation, ...]:
    """Return the annotations of an image: one per connected component, ordered as blocks write them."""
    entries = []
    for instance, mask in enumerate(masks):
        label = _label(mask.structure, category)
        try:
            decoded = np.ascontiguousarray(rle.decode(mask.rle.encode("ascii"), image.height, image.width))
        except ValueError as error:
            raise BuildError(f"A corrected mask of {key} does not fit the image: {error}.") from error
        for piece in components(decoded):
            speck = is_speck(piece.area, image.height, image.width)
            entries.append(Annotation.of(piece, label, instance, speck))
    return tuple(sorted(entries, key=lambda entry: (entry.label, entry.instance)))


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
