"""What a build is made from, and the name and digest that follow from it."""

import hashlib
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from us43d import __version__
from us43d.contract import Profile, RawTree, Recipe
from us43d.errors import RawDataError, RecipeError, command
from us43d.harmonize import corrections, shards
from us43d.harmonize.inventory import Skip
from us43d.harmonize.taxonomy import mapping, taxonomy
from us43d.splits import duplicate_links

__all__ = ["Plan", "changed"]

#: Facts that a build carries or depends on: where one was corrected, the build is made again.
_CARRIED = {
    "name", "title", "organ", "homepage", "kind", "external_tier", "shares_with", "citations", "licence", "labels",
    "diagnoses", "colours", "group_kind", "group_rule", "official_split", "expect", "ignore", "fixes", "paper",
    "revision",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a build is made from.

    Attributes:
        tree: The raw tree, which notes the files that are read.
        home: Root of the home: duplicates and corrections that people confirmed are in it.
        receipt: Receipt of the download.
    """

    recipe: Recipe
    tree: RawTree
    home: Path
    profile: Profile
    partial: bool
    fixes: bool
    skip: Skip
    receipt: dict[str, Any]

    @property
    def specimen(self) -> bool:
        """Whether the raw tree is a synthetic sample dataset."""
        return self.receipt.get("kind") == "specimen"

    @property
    def version(self) -> str:
        """Name of the build's folder: r<revision>s<schema>-<profile>[-partial|-specimen][-unfixed][-skipping]."""
        words = [f"r{self.recipe.revision}s{shards.SCHEMA}", self.profile]
        words += ["specimen"] if self.specimen else ["partial"] if self.partial else []
        words += [] if self.fixes else ["unfixed"]
        return "-".join([*words, "skipping"] if self.skip else words)

    @cached_property
    def links(self) -> list[duplicate_links.Link]:
        """Near-duplicates within the source that an audit verified."""
        slug = self.recipe.slug
        return [link for link in duplicate_links.read(self.home) if link.a.source == link.b.source == slug]

    @cached_property
    def corrections(self) -> corrections.Corrections:
        """Masks that people corrected or marked wrong."""
        return corrections.read(self.home, self.recipe.slug) if self.fixes else corrections.Corrections()

    @cached_property
    def category(self) -> dict[str, int]:
        """Label written → category id. The paper's names mean the structures of the labels they replace."""
        by_label = mapping(self.recipe)
        if self.profile == "us43d":
            return by_label
        renames, renamed = self.recipe.paper.renamed, dict[str, int]()
        for label, number in by_label.items():
            to = renames.get(label, label)
            if to is not None and renamed.setdefault(to, number) != number:
                raise RecipeError(f"{self.recipe.name}: the paper profile calls two structures {to!r}.")
        return renamed

    @cached_property
    def inputs(self) -> str:
        """A digest of raw files' names, sizes and times, the module that reads them, facts, links and corrections.

        So an edited reader builds again. Times are enough to know that a build can be reused, as raw trees are
        read-only; `us43d verify` reads the bytes.
        """
        skip = str(self.skip) if self.skip else ""
        name = " ".join(text for text in (self.version, skip, self.corrections.digest) if text)
        links = duplicate_links.digest(self.links)
        digest = hashlib.sha256(f"{__version__} {self.recipe.slug} {name} {taxonomy().version} {links}".encode())
        digest.update(self.recipe.model_dump_json(include=_CARRIED).encode())
        digest.update(_source(self.recipe.reader(self.profile)))
        digest.update(self._stamps)
        return digest.hexdigest()

    @cached_property
    def _stamps(self) -> bytes:
        try:
            return _stamps(self.tree)
        except FileNotFoundError as error:
            raise changed(self.recipe, self.tree.root) from error

    def is_current(self) -> bool:
        """Return whether the raw tree is as it was when `inputs` was computed."""
        try:
            return self._stamps == _stamps(RawTree(self.tree.root, hide=self.tree.hidden))
        except (RawDataError, OSError):
            return False


def changed(recipe: Recipe, root: Path) -> RawDataError:
    """Return the error for a raw tree that another process changes while it is read."""
    what = f"{root} was changed while it was read."
    return RawDataError(what, disk="No build was written.", next=command("build", recipe.name))


def _stamps(tree: RawTree) -> bytes:
    """Return name, size and time of every file."""
    stats = ((key, tree.path(key).stat()) for key in tree)
    return "".join(f"\0{key}\0{stat.st_size}\0{stat.st_mtime_ns}" for key, stat in stats).encode()


def _source(read: Any) -> bytes:
    """Return the text of the module that a reader is in; empty where only its bytecode is installed."""
    function = read.func if isinstance(read, partial) else read
    try:
        return Path(function.__code__.co_filename).read_bytes()
    except OSError:
        return b""
