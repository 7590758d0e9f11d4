"""The one door to splitting: known and verified duplicates, pinned lists, then the rule."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from us43d.contract import Facts, Profile
from us43d.splits import duplicate_links, known_duplicates, pinned
from us43d.splits.assign import Assignment, Member, assign

__all__ = ["Decision", "decide"]


class Decision(NamedTuple):
    """The splits of a source, and the near-duplicates that were united for them.

    Attributes:
        assignment: Split and group of every image.
        known: Number of published sets of near-duplicates (manifests/near_duplicates).
        links: Links that an audit verified and that hold for these images.
    """

    assignment: Assignment
    known: int
    links: list[duplicate_links.Link]


def decide(
    members: Sequence[Member],
    recipe: Facts,
    profile: Profile,
    *,
    links: Iterable[duplicate_links.Link] = (),
    listed: bool = True,
) -> Decision:
    """Split the images of one source.

    Args:
        members: Its images; those that are dropped have no split.
        recipe: The source.
        profile: Ratios, and which published test sets are kept.
        links: Verified near-duplicates of this home (`duplicate_links.read`).
        listed: Whether pinned lists apply; they do not to synthetic sample datasets.

    Raises:
        SplitError: If a key appears twice or a pinned list was edited.
    """
    verified = duplicate_links.within(links, recipe.slug, {member.key: member.pixel_hash for member in members})
    known = known_duplicates.known(recipe.slug)
    assignment = assign(
        members,
        source=recipe.slug,
        profile=profile,
        links=[*known, *((link.a.key, link.b.key) for link in verified)],
        pinned=pinned.decided(recipe.slug, profile, members, listed=listed),
    )
    return Decision(assignment, len(known), verified)
