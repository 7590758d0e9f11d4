"""Twins that `us43d audit` verified on this disk: <home>/audit/twins.json, taken in by builds and corpora.

    {"schema": 1, "links": [{"a": {"source": "<slug>", "key": "…", "picture": "<pixel hash>"}, "b": {…}}, …]}

A link holds for the pictures that were compared, not for whatever has their keys: it is ignored where a picture has
changed since (a specimen replaced by the real source, another revision of the recipe).
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from us43d import atomic
from us43d.errors import BuildError
from us43d.splits import review, twins

__all__ = ["Across", "Frame", "Link", "across", "digest", "path", "read", "within", "write"]

_SCHEMA = 1


class Frame(NamedTuple):
    """A picture: its source's slug, its key, its pixel hash."""

    source: str
    key: str
    picture: str


class Link(NamedTuple):
    """Two pictures that show one frame, or two frames that a third ties together."""

    a: Frame
    b: Frame


def path(home: Path) -> Path:
    return home / "audit" / "twins.json"


def read(home: Path) -> list[Link]:
    """The links that hold in a home, sorted: those an audit found, less and plus what people decided (`review`).

    Raises BuildError if a file was spoilt.
    """
    return sorted(Link(Frame(*a), Frame(*b)) for a, b in review.applied(_found(home), home))


def _found(home: Path) -> list[Link]:
    """What the last audits found; nothing where none was made."""
    file = path(home)
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["schema"] != _SCHEMA:
            raise ValueError(f"schema {content['schema']}")
        return sorted(Link(Frame(**each["a"]), Frame(**each["b"])) for each in content["links"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{file} cannot be read: {error!r}.", next="us43d audit --all") from error


def write(home: Path, links: Iterable[Link], audited: Iterable[str]) -> int:
    """Store what an audit of some sources (slugs) found; what is known of other sources stays. Returns how many."""
    covered = set(audited)
    others = [link for link in _found(home) if not {link.a.source, link.b.source} <= covered]
    kept = sorted({*others, *links})
    content = {"schema": _SCHEMA, "links": [{"a": link.a._asdict(), "b": link.b._asdict()} for link in kept]}
    path(home).parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path(home), json.dumps(content, indent=1, ensure_ascii=False).encode())
    return len(kept)


def digest(links: Iterable[Link]) -> str:
    """sha256 over which pictures are linked; empty without links."""
    pairs = sorted((link.a, link.b) for link in links)
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest() if pairs else ""


def within(links: Iterable[Link], source: str, pictures: Mapping[str, str | None]) -> list[Link]:
    """The links inside one source that hold for its pictures now (key → pixel hash)."""
    return [
        link
        for link in links
        if link.a.source == link.b.source == source
        and all(pictures.get(frame.key) == frame.picture for frame in (link.a, link.b))
    ]


class Across(NamedTuple):
    """excluded: slug → keys that a corpus must not train on. shared: groups (slug, name) that show one thing, each in
    several sources, whether they lie in one split or not."""

    excluded: dict[str, list[str]]
    shared: list[tuple[tuple[str, str], ...]]


def across(
    builds: Mapping[str, Sequence[Mapping[str, Any]]],
    links: Iterable[Link],
    rules: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
) -> Across:
    """Which images a corpus must leave out, so that no twin crosses its splits.

    builds: slug → manifest rows (key, group, split, pixel_hash; rows without a split are passed over). Groups of
    different sources are united by equal pictures, by verified links, by the copies that are known
    (`us43d.splits.twins`) and by rules (slug → `shares_with` of its facts). Of such a group, images outside its
    strongest split (test, then val, then train) are left out, as a build does with twins inside a source.
    """
    root = _united(builds, links, rules)
    claims: dict[tuple[str, str], set[str]] = defaultdict(set)
    members: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for slug, rows in builds.items():
        for row in rows:
            if row["split"] is not None:
                top = root(slug, row["group"])
                members[top].add((slug, row["group"]))
                claims[top].add(row["split"])
    out: dict[str, list[str]] = {}
    for slug, rows in builds.items():
        for row in rows:
            if row["split"] in _STRONGEST:
                claimed = claims[root(slug, row["group"])]
                if row["split"] != next(part for part in _STRONGEST if part in claimed):
                    out.setdefault(slug, []).append(row["key"])
    several = (tuple(sorted(each)) for each in members.values() if len({slug for slug, _ in each}) > 1)
    return Across(out, sorted(several))


def _united(
    builds: Mapping[str, Sequence[Mapping[str, Any]]],
    links: Iterable[Link],
    rules: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Callable[[str, str], tuple[str, str]]:
    """(slug, group) → the group that stands for all united with it."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(*node: str) -> tuple[str, str]:
        top = node[0], node[1]
        parent.setdefault(top, top)
        while parent[top] != top:
            parent[top] = parent[parent[top]]
            top = parent[top]
        return top

    def unite(one: tuple[str, str], other: tuple[str, str]) -> None:
        low, high = sorted((root(*one), root(*other)))
        parent[high] = low

    first: dict[str, tuple[str, str]] = {}
    group: dict[tuple[str, str], tuple[tuple[str, str], str]] = {}
    for slug, rows in builds.items():
        for row in rows:
            if row["split"] is None:
                continue
            node = slug, row["group"]
            group[slug, row["key"]] = node, row["pixel_hash"]
            unite(first.setdefault(row["pixel_hash"], node), node)
    for link in links:
        ends = [group.get(frame[:2]) for frame in (link.a, link.b)]
        if all(end and end[1] == frame.picture for end, frame in zip(ends, (link.a, link.b), strict=True)):
            unite(*(end[0] for end in ends if end))
    for slug in builds:
        of = twins.copied_from(slug)
        for row in builds[slug] if of in builds else ():
            original = twins.original(slug, row["key"])
            if of and original and (slug, row["key"]) in group and (of, original) in group:
                unite(group[slug, row["key"]][0], group[of, original][0])
    groups: dict[str, set[str]] = defaultdict(set)
    for slug, name in parent:
        groups[slug].add(name)
    for slug, shares in rules.items():
        for rule in shares:
            for name in sorted(groups[slug]) if rule["group"] else ():
                match = re.fullmatch(rule["group"], name)
                if match and (other := match.expand(rule["to"])) in groups[rule["source"]]:
                    unite((slug, name), (rule["source"], other))
    return root


_STRONGEST = ("test", "val", "train")
