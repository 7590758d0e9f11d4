"""Duplicates that `us43d audit` verified on this disk, applied by builds: <home>/audit/near_duplicates.json.

    {"schema": 2, "audited": {"<slug>": "<digest of its images>", …},
     "links": [{"a": {"source": "<slug>", "key": "…", "picture": "<pixel hash>"}, "b": {…}}, …]}

A link holds for the images that were compared, not for whatever has their keys: it is ignored where an image has
changed since (a synthetic sample dataset replaced by the real source, another revision of the recipe). `audited`
records which images were compared, so that "no duplicates found" can be told from "not searched". Schema 1, in
<home>/audit/twins.json, had the links alone; it is read where the new file is missing.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from us43d import atomic
from us43d.errors import BuildError
from us43d.splits import known_duplicates, review
from us43d.splits.proof import STRONGEST
from us43d.unions import Unions

__all__ = [
    "Across", "Frame", "Link", "across", "audited", "digest", "path", "picture_digest", "read", "searched", "within",
    "write",
]  # fmt: skip

_SCHEMA = 2


class Frame(NamedTuple):
    """An image: its source's slug, its key, its pixel hash."""

    source: str
    key: str
    picture: str


class Link(NamedTuple):
    """Two images that show one frame, or two frames that a third image connects."""

    a: Frame
    b: Frame


def path(home: Path) -> Path:
    """Return the file of a home."""
    return home / "audit" / "near_duplicates.json"


def _content(home: Path) -> dict[str, Any]:
    file = path(home)
    if not file.exists() and (older := home / "audit" / "twins.json").exists():
        file = older
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["schema"] not in (1, _SCHEMA):
            raise ValueError(f"schema {content['schema']}")
        links = sorted(Link(Frame(**link["a"]), Frame(**link["b"])) for link in content["links"])
        return {"links": links, "audited": {str(k): str(v) for k, v in content.get("audited", {}).items()}}
    except FileNotFoundError:
        return {"links": [], "audited": {}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"{file} cannot be read: {error!r}.", next="us43d audit --all") from error


def read(home: Path) -> list[Link]:
    """Read the links that hold in a home, sorted: those audits found, less and plus what people decided (`review`).

    Raises BuildError if a file is damaged.
    """
    return sorted(Link(Frame(*a), Frame(*b)) for a, b in review.applied(_content(home)["links"], home))


def audited(home: Path) -> dict[str, str]:
    """Map each source that was audited here to the digest of the images compared. Raises BuildError, as `read`."""
    sources: dict[str, str] = _content(home)["audited"]
    return sources


def searched(home: Path, source: str, pictures: Iterable[str]) -> str:
    """Say whether near-duplicates were searched among the images of a source: audit, other images, list or no.

    Args:
        home: The home's folder.
        source: The source's slug.
        pictures: The current pixel hashes of its images. "other images": an audit compared others than these.
    """
    compared = audited(home).get(source)
    if compared == picture_digest(pictures):
        return "audit"
    if compared is not None:
        return "other images"
    return "list" if known_duplicates.known(source) else "no"


def picture_digest(pictures: Iterable[str]) -> str:
    """Return the sha256 of a set of pixel hashes."""
    return hashlib.sha256("\n".join(sorted(set(pictures))).encode()).hexdigest()


def write(home: Path, links: Iterable[Link], sources: Mapping[str, str]) -> int:
    """Store the links of an audit; links of other sources stay.

    Args:
        home: The home's folder.
        links: What the audit found.
        sources: Slug of each audited source → digest of its images (`picture_digest`).

    Returns:
        Number of links stored.
    """
    before = _content(home)
    others = [link for link in before["links"] if not {link.a.source, link.b.source} <= set(sources)]
    kept = sorted({*others, *links})
    content = {
        "schema": _SCHEMA,
        "audited": dict(sorted((before["audited"] | dict(sources)).items())),
        "links": [{"a": link.a._asdict(), "b": link.b._asdict()} for link in kept],
    }
    path(home).parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path(home), json.dumps(content, indent=1, ensure_ascii=False).encode())
    return len(kept)


def digest(links: Iterable[Link]) -> str:
    """Return the sha256 of which images are linked; empty without links."""
    pairs = sorted((link.a, link.b) for link in links)
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest() if pairs else ""


def within(links: Iterable[Link], source: str, pictures: Mapping[str, str | None]) -> list[Link]:
    """Return the links inside one source that hold for its images now (key → pixel hash)."""
    return [
        link
        for link in links
        if link.a.source == link.b.source == source
        and all(pictures.get(frame.key) == frame.picture for frame in (link.a, link.b))
    ]


class Across(NamedTuple):
    """Duplicates across sources.

    Attributes:
        excluded: Slug → keys that a corpus must not train on.
        shared: Groups (slug, name) that show one thing, each set in several sources, in one split or not.
    """

    excluded: dict[str, list[str]]
    shared: list[tuple[tuple[str, str], ...]]


def across(
    builds: Mapping[str, Sequence[Mapping[str, Any]]],
    links: Iterable[Link],
    rules: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
) -> Across:
    """Decide which images a corpus must exclude, so that no duplicate crosses its splits.

    Groups of different sources are united by equal images, by verified links, by the known copies
    (`us43d.splits.known_duplicates`) and by rules. Of a united group, images outside its strongest split (test, then
    val, then train) are excluded, as a build does with duplicates inside a source.

    Args:
        builds: Slug → manifest rows (key, group, split, pixel_hash; rows without a split are ignored).
        links: Verified links (`read`).
        rules: Slug → `shares_with` of its facts.
    """
    unions = _united(builds, links, rules)
    claims: dict[tuple[str, str], set[str]] = defaultdict(set)
    members: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for slug, rows in builds.items():
        for row in rows:
            if row["split"] is not None:
                top = unions.root((slug, row["group"]))
                members[top].add((slug, row["group"]))
                claims[top].add(row["split"])
    out: dict[str, list[str]] = {}
    for slug, rows in builds.items():
        for row in rows:
            if row["split"] in STRONGEST:
                claimed = claims[unions.root((slug, row["group"]))]
                if row["split"] != next(split for split in STRONGEST if split in claimed):
                    out.setdefault(slug, []).append(row["key"])
    several = (tuple(sorted(groups)) for groups in members.values() if len({slug for slug, _ in groups}) > 1)
    return Across(out, sorted(several))


def _united(
    builds: Mapping[str, Sequence[Mapping[str, Any]]],
    links: Iterable[Link],
    rules: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Unions[tuple[str, str]]:
    """Return the groups, each (slug, name), united where they show one thing."""
    unions = Unions[tuple[str, str]]()
    first: dict[str, tuple[str, str]] = {}
    group: dict[tuple[str, str], tuple[tuple[str, str], str]] = {}
    for slug, rows in builds.items():
        for row in rows:
            if row["split"] is None:
                continue
            node = slug, row["group"]
            group[slug, row["key"]] = node, row["pixel_hash"]
            unions.unite((first.setdefault(row["pixel_hash"], node), node))
    for link in links:
        ends = [group.get(frame[:2]) for frame in (link.a, link.b)]
        if all(end and end[1] == frame.picture for end, frame in zip(ends, (link.a, link.b), strict=True)):
            unions.unite(end[0] for end in ends if end)
    for slug in builds:
        of = known_duplicates.copied_from(slug)
        for row in builds[slug] if of in builds else ():
            original = known_duplicates.original(slug, row["key"])
            if of and original and (slug, row["key"]) in group and (of, original) in group:
                unions.unite((group[slug, row["key"]][0], group[of, original][0]))
    groups: dict[str, set[str]] = defaultdict(set)
    for slug, name in unions:
        groups[slug].add(name)
    for slug, shares in rules.items():
        for rule in shares:
            for name in sorted(groups[slug]) if names_groups(rule) else ():
                if (other := _there(rule, name)) in groups[rule["source"]]:
                    unions.unite(((slug, name), (rule["source"], other)))
    return unions


def names_groups(rule: Mapping[str, Any]) -> bool:
    """Return whether an entry of `shares_with` says by name which groups are the same."""
    return bool(rule["group"] or rule.get("groups"))  # builds of before the tables have none


def _there(rule: Mapping[str, Any], name: str) -> str | None:
    """Return the name that a group has in the other source."""
    if not rule["group"]:
        groups: Mapping[str, str] = rule["groups"]
        return groups.get(name)
    match = re.fullmatch(rule["group"], name)
    return match.expand(rule["to"]) if match else None
