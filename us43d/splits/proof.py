"""Proof that splits are disjoint: no group, no image and no near-duplicate lies in two of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SPLITS", "STRONGEST", "Proof", "crosses", "prove"]

SPLITS = ("train", "val", "test")
#: In a group that lies in several splits, the first of these that it lies in keeps its images.
STRONGEST = ("test", "val", "train")


def crosses(splits: Iterable[str | None]) -> bool:
    """Return whether images with these splits lie in more than one of train, val and test."""
    return len(set(splits) & set(SPLITS)) > 1


@dataclass(frozen=True, slots=True)
class Proof:
    """Counts per split, and what more than one split shares.

    Attributes:
        images: Split → number of images.
        groups: Split → number of groups.
        pictures: Split → number of distinct images, by pixel hash.
        shared_groups: Group → splits, of groups in more than one split; empty if the split is sound.
        shared_pictures: Pixel hash → splits, likewise.
        shared_links: Links between near-duplicates whose images lie in different splits → these splits.
    """

    images: dict[str, int]
    groups: dict[str, int]
    pictures: dict[str, int]
    shared_groups: dict[str, tuple[str, ...]]
    shared_pictures: dict[str, tuple[str, ...]]
    shared_links: dict[tuple[str, ...], tuple[str, ...]]

    @property
    def sound(self) -> bool:
        """Whether nothing crosses the splits."""
        return not self.shared_groups and not self.shared_pictures and not self.shared_links

    def lines(self) -> list[str]:
        """State the proof, one statement per line."""
        lines = [
            f"{split}: {self.images[split]:,} images, {self.groups[split]:,} groups, {self.pictures[split]:,} distinct"
            for split in self.images
        ]
        for what, counts, shared in (
            ("groups", self.groups, self.shared_groups),
            ("distinct images", self.pictures, self.shared_pictures),
        ):
            total = sum(number for split, number in counts.items() if split != "excluded")
            if shared:
                lines.append(f"NOT DISJOINT: of {total:,} {what}, {len(shared):,} lie in more than one split")
            else:
                lines.append(f"disjoint: none of {total:,} {what} lies in two splits")
        if self.shared_links:
            lines.append(f"NOT DISJOINT: {len(self.shared_links):,} sets of near-duplicates lie in more than one split")
        return lines


def prove(rows: Iterable[Mapping[str, Any]], links: Iterable[tuple[str, ...]] = ()) -> Proof:
    """Compare the splits of manifest rows.

    Groups of different sources are distinguished by the row's "source", where it has one; images are not, so that equal
    images across sources are found.

    Args:
        rows: group, split and pixel_hash of each image, and its key where links are given; rows without a split are
            ignored.
        links: Keys of images that show one frame; keys without a row are ignored.
    """
    images: dict[str, int] = defaultdict(int)
    groups: dict[str, set[str]] = defaultdict(set)
    pictures: dict[str, set[str]] = defaultdict(set)
    links = list(links)
    linked = {key for link in links for key in link}
    split_of: dict[str, str] = {}
    for row in rows:
        if row["split"] is not None:
            images[row["split"]] += 1
            groups[row["split"]].add(f"{row.get('source', '')}\0{row['group']}".lstrip("\0"))
            pictures[row["split"]].add(row["pixel_hash"])
            if linked and row["key"] in linked:
                split_of[row["key"]] = row["split"]
    order = [split for split in (*SPLITS, "excluded") if split in images]
    shared_links = {}
    for link in links:
        where = {split_of.get(key) for key in link}
        if crosses(where):
            shared_links[link] = tuple(split for split in SPLITS if split in where)
    return Proof(
        {split: images[split] for split in order},
        {split: len(groups[split]) for split in order},
        {split: len(pictures[split]) for split in order},
        _shared(groups),
        _shared(pictures),
        shared_links,
    )


def _shared(sets: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    where: dict[str, list[str]] = defaultdict(list)
    for split in SPLITS:
        for item in sets.get(split, ()):
            where[item].append(split)
    return {item: tuple(splits) for item, splits in sorted(where.items()) if len(splits) > 1}
