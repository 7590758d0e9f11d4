"""Which split every image of a source belongs to, decided by groups.

The group (patient, exam, video, …) never crosses splits. Twins, known by key or found by an equal pixel hash, pull
their groups together first. Official test and validation sets are kept; the rest is ordered by
sha256(seed, source, group) and cut by image count, so that nothing depends on order, machine or other sources.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from us43d.contract import Profile, Split
from us43d.errors import SplitError

__all__ = ["PAPER_TESTS", "RATIOS", "SEED", "Assigned", "Assignment", "Member", "assign"]

Assigned: TypeAlias = Literal["train", "val", "test", "excluded"]

SEED = "us43d-1"
#: Shares of (train, val, test). The paper drew 95/5 and tested on three sources only.
RATIOS: dict[Profile, tuple[float, float, float]] = {"us43d": (0.85, 0.05, 0.10), "paper": (0.95, 0.05, 0.0)}
#: The sources whose official test set the paper held out; it pooled the official splits of all others.
PAPER_TESTS = frozenset({"busbra", "gist514_db", "mmotu_2d"})


@dataclass(frozen=True, slots=True)
class Member:
    """One image as splitting sees it. official: its published split, None where there is none."""

    key: str
    group: str
    official: Split | None = None
    pixel_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """split, group: by key. rule: one sentence on how it was decided.

    "excluded" are the twins of official test or validation images: they may be in no other split.
    """

    split: dict[str, Assigned]
    group: dict[str, str]
    rule: str


def assign(
    members: Sequence[Member], *, source: str, profile: Profile, links: Iterable[Iterable[str]] = ()
) -> Assignment:
    """Split the images of one source (its slug). links: keys known to show the same frame or patient.

    Raises SplitError if a key appears twice. Links to keys that are not there are ignored, as a cut of a source lacks
    some of its images.
    """
    if twice := [key for key, n in Counter(member.key for member in members).items() if n > 1]:
        raise SplitError(f"{source}: the key {twice[0]!r} appears twice.")
    group = _united(members, links)
    officials = _officials(members, source, profile)
    split: dict[str, Assigned] = {}
    left: dict[str, list[str]] = defaultdict(list)  # the groups that no official set claims
    by_group: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        by_group[group[member.key]].append(member)
    for name, those in by_group.items():
        held = {officials[m.key] for m in those} & {"test", "val"}
        for member in those:
            own = officials[member.key]
            if not held:
                left[name].append(member.key)
            elif "test" in held and own != "test":
                split[member.key] = "excluded"
            else:
                split[member.key] = "val" if own == "val" else "test" if own == "test" else "excluded"
    has_test, has_val = (any(part == wanted for part in officials.values()) for wanted in ("test", "val"))
    train, val, test = RATIOS[profile]
    shares: dict[Assigned, float] = {
        "train": train,
        "val": 0.0 if has_val else val,
        "test": 0.0 if has_test else test,
    }
    for name, part in _cut({name: len(keys) for name, keys in left.items()}, shares, source).items():
        split.update(dict.fromkeys(left[name], part))
    return Assignment(dict(sorted(split.items())), dict(sorted(group.items())), _rule(shares, has_test, has_val))


def _officials(members: Sequence[Member], source: str, profile: Profile) -> dict[str, Split | None]:
    """Key → official split, as far as the profile keeps it. A source that is all "train" published no split."""
    if profile == "paper":
        kept = {"test"} if source in PAPER_TESTS else set()
        return {m.key: m.official if m.official in kept else None for m in members}
    return {m.key: m.official for m in members}


def _united(members: Sequence[Member], links: Iterable[Iterable[str]]) -> dict[str, str]:
    """Key → final group: the smallest name among the groups that twins pulled together."""
    parent: dict[str, str] = {member.group or member.key: member.group or member.key for member in members}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def unite(names: Iterable[str]) -> None:
        roots = sorted({root(name) for name in names})
        for other in roots[1:]:
            parent[other] = roots[0]

    own = {member.key: member.group or member.key for member in members}
    by_hash: dict[str, list[str]] = defaultdict(list)
    for member in members:
        if member.pixel_hash is not None:
            by_hash[member.pixel_hash].append(own[member.key])
    for names in by_hash.values():
        unite(names)
    for link in links:
        unite(own[key] for key in link if key in own)
    return {key: root(name) for key, name in own.items()}


def _cut(sizes: dict[str, int], shares: dict[Assigned, float], source: str) -> dict[str, Assigned]:
    """Group → split. Test is filled first, then validation, train gets the rest.

    Each group goes where the count of images comes nearest to the share wanted. Where there are at least as many groups
    as parts, no part stays empty; with two groups, the second part is test (validation where test is given).
    """
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{SEED}\0{source}\0{name}".encode()).digest())
    total = sum(sizes.values()) / (sum(shares.values()) or 1.0)
    parts: list[Assigned] = [part for part in ("test", "val") if shares[part] > 0]
    cut: dict[str, Assigned] = {}
    at = 0
    for n, part in enumerate(parts):
        wanted, got = total * shares[part], 0
        reserved = 1 + (len(parts) - 1 - n)  # one group each for the parts still to come and for train
        while at < len(order) - reserved or (got == 0 and at < len(order) - 1):
            size = sizes[order[at]]
            if got and abs(got + size - wanted) > abs(got - wanted):
                break
            cut[order[at]] = part
            got += size
            at += 1
    cut.update(dict.fromkeys(order[at:], "train"))
    return cut


def _rule(shares: dict[Assigned, float], has_test: bool, has_val: bool) -> str:
    kept = [name for name, has in (("test", has_test), ("validation", has_val)) if has]
    whole = sum(shares.values())
    cut = "/".join(f"{100 * share / whole:.0f}" for share in shares.values())
    official = f"official {' and '.join(kept)} set kept; " if kept else ""
    return f"{official}groups ordered by sha256({SEED}, source, group), cut {cut} train/val/test by images"
