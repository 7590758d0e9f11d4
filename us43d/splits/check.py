"""Proof that splits share nothing: no group, no picture."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Proof", "prove"]

_PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Proof:
    """images, groups, pictures: split → how many (pictures are distinct pixel hashes).

    shared_groups, shared_pictures: what lies in more than one split → where; a sound split has neither.
    """

    images: dict[str, int]
    groups: dict[str, int]
    pictures: dict[str, int]
    shared_groups: dict[str, tuple[str, ...]]
    shared_pictures: dict[str, tuple[str, ...]]

    @property
    def sound(self) -> bool:
        return not self.shared_groups and not self.shared_pictures

    def lines(self) -> list[str]:
        """The proof in words, one statement a line."""
        said = [
            f"{part}: {self.images[part]:,} images, {self.groups[part]:,} groups, {self.pictures[part]:,} pictures"
            for part in self.images
        ]
        for what, counts, shared in (
            ("groups", self.groups, self.shared_groups),
            ("pictures", self.pictures, self.shared_pictures),
        ):
            total = sum(number for part, number in counts.items() if part != "excluded")
            if shared:
                said.append(f"NOT DISJOINT: of {total:,} {what}, {len(shared):,} lie in more than one split")
            else:
                said.append(f"disjoint: none of {total:,} {what} lies in two splits")
        return said


def prove(rows: Iterable[Mapping[str, Any]]) -> Proof:
    """Compare the splits of manifest rows (group, split, pixel_hash; rows without a split are passed over).

    Groups of different sources are told apart by the row's "source", where it has one; pictures are not, so that twins
    across sources are found.
    """
    images: dict[str, int] = defaultdict(int)
    groups: dict[str, set[str]] = defaultdict(set)
    pictures: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["split"] is not None:
            images[row["split"]] += 1
            groups[row["split"]].add(f"{row.get('source', '')}\0{row['group']}".lstrip("\0"))
            pictures[row["split"]].add(row["pixel_hash"])
    order = [part for part in (*_PARTS, "excluded") if part in images]
    return Proof(
        {part: images[part] for part in order},
        {part: len(groups[part]) for part in order},
        {part: len(pictures[part]) for part in order},
        _shared(groups),
        _shared(pictures),
    )


def _shared(sets: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    where: dict[str, list[str]] = defaultdict(list)
    for part in _PARTS:
        for item in sets.get(part, ()):
            where[item].append(part)
    return {item: tuple(parts) for item, parts in sorted(where.items()) if len(parts) > 1}
