"""What a raw tree lacks, and what it has too much, found from names before any pixel is read."""

import posixpath
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from us43d.contract import RawTree, Recipe, Sample, paths_in
from us43d.errors import BuildError, RawDataError, Us43dError, counted, listed
from us43d.rawtree import folded
from us43d.splits import known_duplicates, pinned

__all__ = ["Inventory", "Skip", "spellings", "way_on"]


@dataclass(frozen=True, slots=True)
class Skip:
    """Items to skip on request. bad: samples and files that cannot be used. ignore: patterns of raw files."""

    bad: bool = False
    ignore: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.bad or bool(self.ignore)


def spellings(recipe: Recipe) -> dict[str, str]:
    """Key as it is compared → key as it is listed: in the pinned split, among known duplicates, in the corrections."""
    keys = [fix.key for fix in recipe.fixes]
    keys += [key for names in known_duplicates.known(recipe.slug) for key in names]
    if recipe.slug not in pinned.GROUPS_ONLY:
        keys += [row.member.key for row in pinned.rows(recipe.slug)]
    return {folded(key): key for key in keys}


@dataclass
class Inventory:
    """What the samples of a source name, beside what lies in its raw tree."""

    recipe: Recipe
    tree: RawTree
    missing: list[str] = field(default_factory=list)
    samples: int = 0
    _told: set[Path] = field(default_factory=set)
    _pairs: set[tuple[str, str, str, str]] = field(default_factory=set)

    def lacks(self, sample: Sample) -> list[str]:
        """Return the files of a sample that are missing, each in words."""
        paths = [path for path in paths_in(sample) if path in self.tree.missing]
        self._told.update(paths)
        return [self.tree.missing[path] for path in paths]

    def absent(self) -> list[str]:
        """Return requested files that are missing and belong to no sample: an image that a table lists."""
        return [what for path, what in self.tree.missing.items() if path not in self._told]

    def note(self, sample: Sample) -> None:
        """Remember how the names of a sample's files follow from each other."""
        files = [self.tree.name(path) for path in paths_in(sample)]
        if files and isinstance(sample.image, Path):
            image = self.tree.name(sample.image)
            folder, (stem, ending) = posixpath.dirname(image), posixpath.splitext(posixpath.basename(image))
            for other in files:
                name = posixpath.basename(other)
                if other != image and name.startswith(stem):
                    self._pairs.add((posixpath.dirname(other), name.removeprefix(stem), folder, ending))

    def cause(self, unread: str) -> str:
        """Return why a file belongs to no sample, if its name tells; else ""."""
        place, name = posixpath.dirname(unread), posixpath.basename(unread)
        for folder, ending, images, image_ending in sorted(self._pairs):
            if place == folder and name.endswith(ending) and ending:
                image = posixpath.join(images, name.removesuffix(ending) + image_ending)
                if not self.tree.has_file(image):
                    return f"image {image} is missing"
        return ""

    def survey(self, samples: Iterable[Sample]) -> None:
        """Go through all samples by name."""
        for sample in samples:
            self.samples += 1
            self.note(sample)
            if sample.drop is None:
                self.missing += [f"{sample.key}: {what}" for what in self.lacks(sample)]

    def unread(self) -> dict[str, str]:
        """Return file that belongs to no sample → why, "" where that is not known."""
        return {key: self.cause(key) for key in self.tree.unread(self.recipe.ignore)}

    def fault(self, receipt: Mapping[str, Any]) -> Us43dError | None:
        """Return one error for all that is missing and all that is too much; None if nothing is."""
        unread, missing = self.unread(), [*self.missing, *self.absent()]
        if not missing and not unread:
            return None
        causes = [f"{key} ({why})" if why else key for key, why in unread.items()]
        lines = [
            f"{counted(len(missing), 'file is', 'files are')} missing:\n  " + "\n  ".join(missing[:20]) + _more(missing)
            if missing
            else "",
            f"{counted(len(unread), 'file')} of the raw tree neither read nor ignored by name: {listed(causes)}."
            if unread
            else "",
        ]
        kind = RawDataError if missing else BuildError
        ignore = unread if not missing and not any(unread.values()) else {}
        return kind(
            f"{self.recipe.name}: " + "\n".join(filter(None, lines)),
            disk="No build was written.",
            next=way_on(self.recipe, receipt, ignore),
        )


def _more(lines: list[str]) -> str:
    return f"\n  … and {len(lines) - 20} more" if len(lines) > 20 else ""


def way_on(recipe: Recipe, receipt: Mapping[str, Any], ignore: Iterable[str] = ()) -> str:
    """Return a command that gets a person on whose raw tree is not what the recipe describes.

    ignore: superfluous files, which can be skipped by name.
    """
    files = list(ignore)
    if 0 < len(files) <= 3:
        return f"us43d build {recipe.name} " + " ".join(f"--ignore {shlex.quote(_literal(file))}" for file in files)
    skip = f"us43d build {recipe.name} --skip-bad"
    if files:
        return skip
    if receipt.get("kind") == "specimen":
        return recipe.again_as("specimen")
    if receipt.get("kind") == "download":
        return f"{recipe.again}   (or, to skip and record them: {skip})"
    if recipe.private:
        return f"{recipe.again}   (or, to skip and record them: {skip})"
    return f"{skip}   (skips and records them; or us43d fetch {recipe.name} --from with a complete copy)"


def _literal(file: str) -> str:
    """Return a name as a pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in file)
