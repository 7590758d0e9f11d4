"""Masks confirmed on the page, as fixes in the log of reviews that builds apply."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from us43d.errors import UsageError
from us43d.harmonize import corrections
from us43d.harmonize.built import Build
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.corrections import REMARK, masks_digest
from us43d.splits import review
from us43d.splits.review import Fix, Mask, Picture
from us43d.view.inputs import SourceInputs
from us43d.view.labels import Labels

__all__ = ["Fixes", "opened"]


class Fixes:
    """Fixes of the images of one source.

    corrected: keys of the images whose masks, in the build that is shown, are those of a fix.
    """

    def __init__(self, home: Path, inputs: SourceInputs, corrected: frozenset[str]) -> None:
        self.home, self.inputs, self.corrected = home, inputs, corrected

    def held(self) -> dict[int, Fix]:
        """Number of an image → its fix, if one was made for these pixels. Raises BuildError."""
        fixes = review.fixes(self.home)
        pairs = ((n, fixes.get(image[:2]), Picture(*image)) for n, image in enumerate(self.inputs.sources))
        return {n: fix for n, fix, image in pairs if fix and fix.image == image}

    def of(self, number: int) -> Fix | None:
        """Return the fix of an image if it was made for these pixels.

        Raises:
            BuildError: If the fixes cannot be read.
        """
        image = Picture(*self.inputs.sources[number])
        fix = review.fixes(self.home).get((image.source, image.key))
        return fix if fix and fix.image == image else None

    def record(self, number: int, objects: Sequence[Mapping[str, Any]]) -> None:
        """Append the masks of an image, unless they are those of its fix. Raises UsageError, StorageError."""
        masks = tuple(Mask(entry["structure"], entry["rle"]) for entry in objects)
        fix = self.of(number)
        if fix is None or fix.masks != masks:
            review.append_fix(self.home, Picture(*self.inputs.sources[number]), self._replaced(number), masks)

    def withdraw(self, number: int) -> None:
        """Undo all fixes of an image. Raises StorageError."""
        while fix := self.of(number):
            review.undo(self.home, fix.id)

    def _replaced(self, number: int) -> str:
        """Digest of the masks as the source's reader yields them."""
        image = self.inputs.sources[number]
        if image.key not in self.corrected:
            corpus = self.inputs.corpus
            return masks_digest(corpus.rle(n).decode("ascii") for n in corpus.of(self.inputs.rows[number]))
        for entry in reversed(review.log(self.home)):  # undone or not: the build was made with one of them
            if entry.get("fix", {}).get("key") == image.key and entry["fix"]["source"] == image.source:
                return str(entry["replaces"])
        raise UsageError(
            f"{image.key} has masks of a fix that is not in {review.path(self.home)}.",
            next=f"us43d build {image.source}   (then correct the mask again)",
        )


def opened(home: Path, corpus: Corpus, source: int, *, every: bool = True) -> Labels:
    """Open the images of a corpus' source to correct their masks. every: images that have masks, too.

    Raises Busy if another server has them open, UsageError for an unknown image.
    """
    facts = corpus.sources[source]
    rows = [int(n) for n in np.flatnonzero(corpus.images["source"] == source) if every or not corpus.images["count"][n]]
    if not rows:
        raise UsageError(f"Every image of {facts['name']} has masks.", next=f"us43d label {facts['name']} --all")
    columns = Build(corpus.home / facts["path"]).columns(["id", "key", "pixel_hash", "remarks"])
    inputs = SourceInputs(corpus, rows, {row["id"]: row["pixel_hash"] for row in columns})
    corrected = frozenset(row["key"] for row in columns if REMARK in row["remarks"])
    folder = corrections.folder(home, str(facts["slug"]))
    return Labels(inputs, folder, inputs.facts, Fixes(home, inputs, corrected))
