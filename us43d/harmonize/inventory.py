"""What a raw tree lacks, and what it has too much, found from names before any pixel is read."""

import posixpath
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

from us43d.contract import RawTree, Recipe, Sample, paths_in
from us43d.errors import BuildError, RawDataError, Us43dError, counted, lines_of, listed
from us43d.rawtree import folded, literal
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


#: Rules that are remembered for a folder: names without a common rule would give one each.
_MOST_RULES = 20


class _Rule(NamedTuple):
    """Names of a file and its image share a core; the texts before and after it are the same for all samples."""

    before: str
    after: str
    image_before: str
    image_after: str

    def image_of(self, name: str) -> str:
        """Return the path of the image that goes with a file, "" if the rule does not fit its name."""
        core = name.removeprefix(self.before).removesuffix(self.after)
        fits = core and "/" not in core and name == f"{self.before}{core}{self.after}"
        return f"{self.image_before}{core}{self.image_after}" if fits else ""


def _rule(name: str, image: str) -> _Rule:
    """Return the rule by the longest text that the two base names share, without their endings."""
    (folder, stem), (image_folder, image_stem) = (
        posixpath.split(posixpath.splitext(path)[0]) for path in (name, image)
    )
    shared = SequenceMatcher(None, stem, image_stem, autojunk=False).find_longest_match()
    core = stem[shared.a : shared.a + shared.size]
    before, image_before = (
        posixpath.join(folder, stem[: shared.a]),
        posixpath.join(image_folder, image_stem[: shared.b]),
    )
    return _Rule(before, name[len(before) + len(core) :], image_before, image[len(image_before) + len(core) :])


@dataclass
class Inventory:
    """What the samples of a source name, beside what lies in its raw tree."""

    recipe: Recipe
    tree: RawTree
    missing: list[str] = field(default_factory=list)
    samples: int = 0
    _told: set[Path] = field(default_factory=set)
    _rules: dict[str, Counter["_Rule"]] = field(default_factory=dict)  # by the folder of the file

    def lacks(self, sample: Sample) -> list[str]:
        """Return the files of a sample that are missing, each in words."""
        paths = [path for path in paths_in(sample) if path in self.tree.missing]
        self._told.update(paths)
        return [self.tree.missing[path] for path in paths]

    def absent(self) -> list[str]:
        """Return requested files that are missing and belong to no sample: an image that a table lists."""
        return [what for path, what in self.tree.missing.items() if path not in self._told]

    def note(self, sample: Sample) -> None:
        """Remember how the names of a sample's files follow from that of its image."""
        if not isinstance(sample.image, Path):
            return
        image = self.tree.name(sample.image)
        for other in map(self.tree.name, paths_in(sample)):
            if other != image:
                rules = self._rules.setdefault(posixpath.dirname(other), Counter())
                rule = next((rule for rule in rules if rule.image_of(other) == image), None)
                if rule or len(rules) < _MOST_RULES:
                    rules[rule or _rule(other, image)] += 1

    def cause(self, unread: str) -> str:
        """Return why a file belongs to no sample, by the rule that most names of its folder follow."""
        rules = [rule for rule, _ in self._rules.get(posixpath.dirname(unread), Counter[_Rule]()).most_common()]
        image = next(filter(None, (rule.image_of(unread) for rule in rules)), "")
        if image and not self.tree.has_file(image):
            return f"image {image} is missing"
        stem = posixpath.splitext(unread)[0]  # of a file that was converted, or of "a.png.part"
        for rule in rules:
            for name in (stem, stem + posixpath.splitext(rule.after)[1]):
                if self.tree.has_file(rule.image_of(name)) and not self.tree.has_file(name):
                    return f"of image {rule.image_of(name)}, as which {posixpath.basename(name)} would be read"
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
            f"{counted(len(missing), 'file is', 'files are')} missing:{lines_of(missing)}" if missing else "",
            f"{counted(len(unread), 'file')} of the raw tree neither read nor ignored by name: {listed(causes)}."
            if unread
            else "",
        ]
        kind = RawDataError if missing else BuildError
        ignore = unread if not missing and not any(unread.values()) else {}
        return kind(
            f"{self.recipe.name}: " + "\n".join(filter(None, lines)),
            disk="No build was written.",
            next=way_on(self.recipe, receipt, ignore, self.tree.hidden),
        )


def way_on(recipe: Recipe, receipt: Mapping[str, Any], ignore: Iterable[str] = (), patterns: Iterable[str] = ()) -> str:
    """Return a command that gets a person on whose raw tree is not what the recipe describes.

    ignore: superfluous files, which can be skipped by name. patterns: of files that are ignored already.
    """
    files = list(ignore)
    few = 0 < len(files) <= 3
    globs = [*patterns, *(literal(file) for file in files if few)]
    skip = f"us43d build {recipe.name}" + "".join(f" --ignore {shlex.quote(pattern)}" for pattern in globs)
    if few:
        return skip
    skip += " --skip-bad"
    if files:
        return skip
    if receipt.get("kind") == "specimen":
        return recipe.again_as("specimen")
    if receipt.get("kind") == "download":
        return f"{recipe.again}   (or, to skip and record them: {skip})"
    if recipe.private:
        return f"{recipe.again}   (or, to skip and record them: {skip})"
    return f"{skip}   (skips and records them; or us43d fetch {recipe.name} --from with a complete copy)"
