"""Splits that are decided for good: manifests/splits/<slug>.csv, for the sources whose list of images is complete.

    key,group,official,us43d,paper        one row per image; group empty where it is the key itself
    images/100_101.jpg,100,,train,train

index.json beside them holds the rule, the counts and the digest of every file, and where its list was read. From keys,
groups, official splits and known near-duplicates, `reproduce` computes the splits again; a build of the complete
source takes them from here, so that a duplicate found later can exclude an image, but never moves one.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, cast, get_args

from us43d.contract import Profile, Split
from us43d.errors import SplitError
from us43d.splits import known_duplicates
from us43d.splits.assign import Assigned, Assignment, Member, assign
from us43d.splits.review import WRONG

__all__ = ["Pinned", "compare", "decided", "index", "reproduce", "rows", "slugs", "split"]

PROFILES: tuple[Profile, ...] = get_args(Profile)
COLUMNS = ("key", "group", "official", *PROFILES)
#: Of these only the groups are known, not the images: their rows name groups.
GROUPS_ONLY = frozenset({"camus"})


@dataclass(frozen=True, slots=True)
class Pinned:
    """One row: an image, or a group where only those are known (`GROUPS_ONLY`). split: by profile."""

    member: Member
    split: Mapping[Profile, Assigned]


def _read(name: str) -> bytes:
    return resources.files("us43d.manifests").joinpath("splits", name).read_bytes()


@cache
def index() -> dict[str, Any]:
    """Return index.json: seed, and per source images, groups, counts, rules, digest, and where the list was read."""
    return dict(json.loads(_read("index.json")))


def slugs() -> list[str]:
    """Return the sources with a pinned split, sorted."""
    return sorted(index()["sources"])


@cache
def rows(slug: str) -> tuple[Pinned, ...]:
    """Return the pinned rows of a source, by key; empty where it has none. Raises SplitError if the file was edited."""
    if slug not in index()["sources"]:
        return ()
    data = _read(f"{slug}.csv")
    if hashlib.sha256(data).hexdigest() != index()["sources"][slug]["sha256"]:
        raise SplitError(
            f"manifests/splits/{slug}.csv is not the file index.json was written for.", next="us43d splits --reproduce"
        )
    # The digest vouches for the words in the cells.
    return tuple(
        Pinned(
            Member(r["key"], r["group"] or r["key"], cast(Split | None, r["official"] or None)),
            {profile: cast(Assigned, r[profile]) for profile in PROFILES},
        )
        for r in csv.DictReader(io.StringIO(data.decode("utf-8")))
    )


@cache
def split(slug: str, profile: Profile) -> Mapping[str, Assigned]:
    """Return key (or group, for GROUPS_ONLY) → split; empty if no list is pinned. For `assign(…, pinned=…)`."""
    return {row.member.key: row.split[profile] for row in rows(slug)}


def decided(slug: str, profile: Profile, members: Sequence[Member], *, listed: bool) -> Mapping[str, Assigned]:
    """Return the splits of these members that are decided before the rule applies. For `assign(…, pinned=…)`.

    The pinned list of the source itself; else, for copies of another source's images, where their originals are: in
    the list of that source, or by its rule, so that it need not be there. listed: whether pinned lists apply.
    """
    if listed and (own := split(slug, profile)):
        return own
    of = known_duplicates.copied_from(slug)
    originals = {m.key: o for m in members if of and (o := known_duplicates.original(slug, m.key)) is not None}
    if of is None or not originals:
        return {}
    if listed and (theirs := split(of, profile)):
        return {key: theirs[original] for key, original in originals.items() if original in theirs}
    copied = [
        Member(originals[m.key], m.group if m.group != m.key else "", m.official, m.pixel_hash)
        for m in members
        if m.key in originals
    ]
    by_rule = assign(copied, source=of, profile=profile, links=known_duplicates.known(of)).split
    return {key: by_rule[original] for key, original in originals.items()}


def compare(slug: str, profile: Profile, published: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the contradictions of manifest rows (key, group, split) to the pinned split, without dropped rows.

    An image that is excluded instead of trained or validated on does not contradict: a duplicate of it was found. One
    that a review excluded has a remark and does not either.
    """
    decided = split(slug, profile)
    problems = []
    for row in published if decided else ():
        if row["split"] is None or (row["split"] == "excluded" and WRONG in row["remarks"]):
            continue
        wanted = decided.get(row["group"] if slug in GROUPS_ONLY else row["key"])
        if wanted is None:
            problems.append(f"{row['key']} is not in the list the split was pinned for")
        elif row["split"] != wanted and (row["split"], wanted) not in {("excluded", "train"), ("excluded", "val")}:
            problems.append(f"{row['key']} is in {row['split']}, pinned in {wanted}")
    return problems


def reproduce() -> list[str]:
    """Compute every pinned split again by the rule; one sentence per difference, none if all agree."""
    problems = []
    known = {slug: [row.member for row in rows(slug)] for slug in slugs()}
    for slug, assigned in _assigned(known).items():
        files, facts = _file(known[slug], assigned), index()["sources"][slug]
        if files != _read(f"{slug}.csv"):
            now = {p: sum(a.split[r.member.key] != r.split[p] for r in rows(slug)) for p, a in assigned.items()}
            problems.append(f"{slug}: the rule gives other splits than the manifest, for {now} images by profile")
        differ = [name for name, value in _facts(known[slug], assigned, files).items() if facts[name] != value]
        problems += [f"{slug}: index.json has another {name} than the rule gives" for name in differ]
    return problems


def _assigned(known: Mapping[str, list[Member]]) -> dict[str, dict[Profile, Assignment]]:
    """Return slug → profile → splits. Copies of another source's images are where their originals are."""
    done: dict[str, dict[Profile, Assignment]] = {}
    for slug in sorted(known, key=lambda slug: (known_duplicates.copied_from(slug) is not None, slug)):
        of = known_duplicates.copied_from(slug)
        done[slug] = {}
        for profile in PROFILES:
            originals = {m.key: known_duplicates.original(slug, m.key) for m in known[slug]} if of in known else {}
            follow = {k: done[of][profile].split[o] for k, o in originals.items() if of and o is not None}
            done[slug][profile] = assign(
                known[slug], source=slug, profile=profile, links=known_duplicates.known(slug), pinned=follow
            )
    return dict(sorted(done.items()))


def _file(members: list[Member], assigned: Mapping[Profile, Assignment]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for m in sorted(members, key=lambda m: m.key):
        group = "" if m.group == m.key else m.group
        table.writerow((m.key, group, m.official or "", *(assigned[p].split[m.key] for p in PROFILES)))
    return text.getvalue().encode()


def _facts(members: list[Member], assigned: Mapping[Profile, Assignment], file: bytes) -> dict[str, Any]:
    return {
        "rows": len(members),
        "groups": len(set(assigned["us43d"].group.values())),
        "counts": {p: dict(sorted(Counter(a.split.values()).items())) for p, a in assigned.items()},
        "rules": {p: a.rule for p, a in assigned.items()},
        "sha256": hashlib.sha256(file).hexdigest(),
    }
