"""Which split every image of a source belongs to, decided by groups.

The group (patient, exam, video, …) never crosses splits. Groups that share a duplicate, known by key or recognised by
an equal pixel hash, are merged first. Official test and validation sets are kept; the rest is ordered by
sha256(seed, source, group) and cut by image count, so that nothing depends on order, machine or other sources.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from us43d.contract import Profile, Split
from us43d.errors import SplitError
from us43d.splits.proof import STRONGEST
from us43d.unions import Unions

__all__ = ["PAPER_TESTS", "RATIOS", "SEED", "Assigned", "Assignment", "Links", "Member", "assign"]

Assigned: TypeAlias = Literal["train", "val", "test", "excluded"]
#: Each: keys, or names of groups, that show the same frame or person.
Links: TypeAlias = Iterable[Iterable[str]]

SEED = "us43d-1"
#: Shares of (train, val, test). The paper drew 95/5 and tested on three sources only.
RATIOS: dict[Profile, tuple[float, float, float]] = {"us43d": (0.85, 0.05, 0.10), "paper": (0.95, 0.05, 0.0)}
#: The sources whose official test set the paper held out; it pooled the official splits of all others.
PAPER_TESTS = frozenset({"busbra", "gist514_db", "mmotu_2d"})


@dataclass(frozen=True, slots=True)
class Member:
    """One image as splitting sees it. group "" means the key. official: its published split, None without one."""

    key: str
    group: str
    official: Split | None = None
    pixel_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """split, group: by key, sorted. rule: one sentence on how it was decided.

    "excluded" are images in one group with a test or validation image, but not of that set themselves: training on
    them would leak, and adding them would change a published set.
    """

    split: dict[str, Assigned]
    group: dict[str, str]
    rule: str


def assign(
    members: Sequence[Member],
    *,
    source: str,
    profile: Profile,
    links: Links = (),
    pinned: Mapping[str, Assigned] | None = None,
) -> Assignment:
    """Split the images of one source.

    Official test and validation sets are kept (profile "paper": only the test sets of PAPER_TESTS). Images that are
    officially "train" are free like those without a split: if a test or validation set is published, they remain the
    training set, less the part that was not published; if all are "train" (the test masks of HC18 are unpublished),
    the official split gives no information. With two free groups, the second one is test (validation if a test set
    is given).

    Args:
        members: Images of the source.
        source: Slug of the source.
        profile: "us43d" or "paper".
        links: Names of keys or groups that must share a split. Unknown names are ignored, as a part of a source lacks
            some images.
        pinned: Key or group → split that is decided already, official or not (see `pinned`).

    Returns:
        Split and group of every key, and the rule in words.

    Raises:
        SplitError: If a key appears twice.
    """
    if twice := sorted(key for key, n in Counter(member.key for member in members).items() if n > 1):
        raise SplitError(f"{source}: the key {twice[0]!r} appears twice.")
    group = _united(members, links)
    official: dict[str, Assigned | None] = {m.key: _kept(m.official, source, profile) for m in members}
    before = pinned or {}
    decided = {m.key: before.get(m.key) or before.get(m.group) or official[m.key] for m in members}
    by_group: dict[str, list[str]] = defaultdict(list)
    for key in sorted(group):
        by_group[group[key]].append(key)
    split: dict[str, Assigned] = {}
    free: dict[str, list[str]] = {}
    for name, keys in by_group.items():
        claims = {decided[key] for key in keys}
        strongest = next((split_name for split_name in STRONGEST if split_name in claims), None)
        if strongest is None and claims == {None}:
            free[name] = keys
        for key in keys if name not in free else ():
            # A duplicate of a training image may join it; a duplicate of an evaluated one must not change that set.
            joins = decided[key] == strongest or (strongest == "train" and decided[key] is None)
            split[key] = strongest if joins and strongest else "excluded"
    has_test, has_val = (split_name in official.values() for split_name in ("test", "val"))
    train, val, test = RATIOS[profile]
    shares: dict[Assigned, float] = {"train": train, "val": 0.0 if has_val else val, "test": 0.0 if has_test else test}
    for name, split_name in _cut({name: len(keys) for name, keys in free.items()}, shares, source).items():
        split.update(dict.fromkeys(free[name], split_name))
    rule = _rule(shares, has_test, has_val) if free or not pinned else "as pinned, or as the originals of copies"
    return Assignment(dict(sorted(split.items())), dict(sorted(group.items())), rule)


def _kept(official: Split | None, source: str, profile: Profile) -> Assigned | None:
    if profile == "paper" and (official != "test" or source not in PAPER_TESTS):
        return None
    return None if official == "train" else official


def _united(members: Sequence[Member], links: Links) -> dict[str, str]:
    """Return key → final group: the smallest name among the groups that duplicates merged."""
    own = {member.key: member.group or member.key for member in members}
    groups, unions = set(own.values()), Unions[str]()
    by_hash: dict[str, list[str]] = defaultdict(list)
    for member in members:
        if member.pixel_hash is not None:
            by_hash[member.pixel_hash].append(own[member.key])
    for names in by_hash.values():
        unions.unite(names)
    for link in links:
        unions.unite({own.get(name, name) for name in link} & groups)
    return {key: unions.root(name) for key, name in own.items()}


def _cut(sizes: dict[str, int], shares: dict[Assigned, float], source: str) -> dict[str, Assigned]:
    """Return group → split.

    Test and validation take groups in turn while that brings their images nearer to their share.

    A group too large for a part is passed over. A part that finds none small enough takes the smallest, as long as
    there are groups for the other parts; train has the rest.
    """
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{SEED}\0{source}\0{name}".encode()).digest())
    total = sum(sizes.values()) / sum(shares.values())
    parts: list[Assigned] = [split for split in ("test", "val") if shares[split] > 0]
    cut: dict[str, Assigned] = {}
    for later, split in zip(reversed(range(len(parts))), parts, strict=True):
        wanted, got = total * shares[split], 0
        room = len(order) - 1 - later  # groups this part may take, leaving one for each later part and for train
        chosen: list[str] = []
        for name in order:
            if got >= wanted or len(chosen) >= room:
                break
            if abs(got + sizes[name] - wanted) < abs(got - wanted):
                chosen.append(name)
                got += sizes[name]
        if not chosen and len(order) > 1:
            chosen = [min(order, key=lambda name: sizes[name])]
        cut.update(dict.fromkeys(chosen, split))
        order = [name for name in order if name not in cut]
    cut.update(dict.fromkeys(order, "train"))
    return cut


def _rule(shares: Mapping[Assigned, float], has_test: bool, has_val: bool) -> str:
    kept = [name for name, has in (("test", has_test), ("validation", has_val)) if has]
    whole = sum(shares.values())
    cut = "/".join(f"{100 * share / whole:.0f}" for share in shares.values())
    official = f"official {' and '.join(kept)} set kept; " if kept else ""
    return f"{official}groups ordered by sha256({SEED}, source, group), cut {cut} train/val/test by images"
