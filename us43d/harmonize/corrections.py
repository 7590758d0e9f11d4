"""Masks that people corrected or marked wrong: fixes and verdicts in the log of reviews (`us43d.splits.review`).

A fix replaces the masks of the source's reader when it is built next; raw data stay as they are. It holds for what the
person saw: where the image or the reader's masks have changed since, it is refused, and the build lists it as stale.
An image whose masks were marked wrong, and not corrected since, is excluded. `--no-fixes` builds without both.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from us43d.errors import BuildError
from us43d.harmonize.corpus import is_speck
from us43d.harmonize.records import Annotation, Record, Written
from us43d.harmonize.taxonomy import taxonomy
from us43d.masks import rle
from us43d.masks.components import components
from us43d.splits import review
from us43d.splits.review import WRONG, Fix, Mask, Picture, Verdict

__all__ = ["REMARK", "Applied", "Corrections", "folder", "masks_digest", "read"]

REMARK = "masks corrected in review"


def masks_digest(counts: Iterable[str]) -> str:
    """Return the digest of an image's masks. counts: compressed run lengths, in any order."""
    return hashlib.sha256("\n".join(sorted(counts)).encode()).hexdigest()


class Applied(NamedTuple):
    """What became of the fixes and verdicts of a source.

    wrong: verdicts by key of the excluded image. stale: keys, sorted. digest: over all of them; empty without any.
    """

    fixes: tuple[Fix, ...] = ()
    wrong: Mapping[str, Verdict] = MappingProxyType({})
    stale: tuple[str, ...] = ()
    digest: str = ""

    def facts(self) -> dict[str, Any]:
        """Return the entry of dataset.json; empty without fixes and verdicts."""
        if not self.digest:
            return {}
        counts = {"images": len(self.fixes), "excluded": len(self.wrong)}
        return {"corrections": counts | {"stale": list(self.stale), "digest": self.digest}}

    def provenance(self) -> dict[str, Any]:
        """Return the entry of provenance.json: who replaced masks or marked them wrong, and when; empty without."""
        lines = [
            {"id": fix.id, "who": fix.who, "when": fix.when, "key": fix.image.key, "replaces": fix.replaces}
            for fix in self.fixes
        ]
        lines += [
            {"id": verdict.id, "who": verdict.who, "when": verdict.when, "key": key, "verdict": verdict.verdict}
            for key, verdict in self.wrong.items()
        ]
        return {"corrections": lines} if lines else {}


class Corrections(NamedTuple):
    """by_key: key → the fix that holds. wrong: key → an image and the verdict that calls its masks wrong.

    digest: over all of them; empty without any.
    """

    by_key: Mapping[str, Fix] = MappingProxyType({})
    wrong: Mapping[str, tuple[Picture, Verdict]] = MappingProxyType({})
    digest: str = ""

    def apply(self, record: Record, category: dict[str, int]) -> tuple[str, ...]:
        """Replace the masks of a record, if a fix holds for it; return the remarks that the record gets.

        category: source label → category id; structures the source has no label for are added under their own name.
        Raises BuildError for a structure the taxonomy lacks.
        """
        image = record.image
        if image is None:
            return ()
        remarks: list[str] = []
        fix = self.by_key.get(record.key)
        if fix and self._holds(fix, record):
            record.annotations = _annotations(record.key, image, fix.masks, category)
            remarks.append(REMARK)
        if record.key in self.wrong and self.wrong[record.key][0].picture == image.pixel_hash:
            remarks.append(WRONG)
        record.remarks = tuple(dict.fromkeys([*record.remarks, *remarks]))
        return tuple(remarks)

    @staticmethod
    def _holds(fix: Fix, record: Record) -> bool:
        """Whether image and masks of a record are those that a fix was made for."""
        if record.image is None or fix.image.picture != record.image.pixel_hash:
            return False
        return fix.replaces == masks_digest(annotation.counts for annotation in record.annotations)

    def applied(self, corrected: Container[str], excluded: Container[str]) -> Applied:
        """Sum up what became of fixes and verdicts. corrected, excluded: keys of the images they changed."""
        fixes = {key: fix for key, fix in sorted(self.by_key.items()) if key in corrected}
        wrong = {key: verdict for key, (_, verdict) in sorted(self.wrong.items()) if key in excluded}
        stale = (self.by_key.keys() - fixes.keys()) | (self.wrong.keys() - wrong.keys())
        return Applied(tuple(fixes.values()), wrong, tuple(sorted(stale)), self.digest)


def folder(home: Path, slug: str) -> Path:
    """Return the folder in which the page keeps drafts of a source's masks before they are confirmed."""
    return home / "review" / "masks" / slug


def read(home: Path, slug: str) -> Corrections:
    """Read the fixes of a source, and the verdicts on its masks. Raises BuildError for a damaged log."""
    corrected = {key: fix for (source, key), fix in review.fixes(home).items() if source == slug}
    wrong = {key: pair for (source, key), pair in review.wrong(home).items() if source == slug}
    content: list[Any] = [[key, fix.image.picture, fix.replaces, fix.masks] for key, fix in sorted(corrected.items())]
    content += [[key, image.picture] for key, (image, _) in sorted(wrong.items())]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest() if content else ""
    return Corrections(corrected, wrong, digest)


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
