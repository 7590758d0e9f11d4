"""What changed between two builds of a source: images, annotations, splits, labels, in counts and keys."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from us43d.errors import UsageError
from us43d.harmonize.built import Build

__all__ = ["Change", "Diff", "diff"]

#: Facts of dataset.json that say how a build was made.
_FACTS = (
    "version", "revision", "taxonomy", "profile", "partial", "specimen", "fixes", "licence", "group",
    "official_split", "twins",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of change. kind: images, annotations, splits, groups, labels or facts. what: in a few words.

    keys: the images (or labels, or facts) it concerns, sorted.
    """

    kind: str
    what: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """old, new: digests. counts: name of the count → (before, after). changes: in a fixed order."""

    name: str
    old: str
    new: str
    counts: dict[str, tuple[int, int]]
    changes: tuple[Change, ...]

    @property
    def same(self) -> bool:
        return self.old == self.new and not self.changes


def diff(old: Path, new: Path) -> Diff:
    """Compare two builds (folders).

    Raises BuildError for a folder that is not a build, UsageError for different sources.
    """
    before, after = _Content(old), _Content(new)
    if before.facts["slug"] != after.facts["slug"]:
        raise UsageError(f"{old} is a build of {before.facts['name']}, {new} one of {after.facts['name']}.")
    changes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key in sorted(before.rows.keys() | after.rows.keys()):
        one, other = before.rows.get(key), after.rows.get(key)
        for kind, what in _image(one, other):
            changes[kind, what].append(key)
        if one and other and one["split"] and other["split"]:
            for what in _annotations(before.annotations[key], after.annotations[key]):
                changes["annotations", what].append(key)
    for label in sorted(before.labels.keys() | after.labels.keys()):
        was, now = before.labels.get(label), after.labels.get(label)
        if was != now:
            what = f"{was} → {now}" if was and now else f"new ({now})" if now else f"gone ({was})"
            changes["labels", what].append(label)
    for fact in _FACTS:
        was, now = before.facts.get(fact), after.facts.get(fact)
        if was != now:
            short = isinstance(was, str | int | bool) and isinstance(now, str | int | bool)
            changes["facts", f"{was} → {now}" if short else "changed"].append(fact)
    order = ("images", "annotations", "splits", "groups", "labels", "facts")
    ordered = sorted(changes.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    return Diff(
        str(after.facts["name"]), str(before.facts["digest"]), str(after.facts["digest"]),
        {what: (before.counts.get(what, 0), after.counts.get(what, 0)) for what in {**before.counts, **after.counts}},
        tuple(Change(kind, what, tuple(keys)) for (kind, what), keys in ordered),
    )  # fmt: skip


class _Content:
    """facts: dataset.json. rows: manifest by key. annotations: key → counted (label, structure, RLE). labels: label →
    structure.
    """

    def __init__(self, path: Path) -> None:
        build = Build(path)
        self.facts = build.facts
        self.rows = {row["key"]: row for row in build.rows}
        self.annotations: dict[str, Counter[tuple[str, str, str]]] = defaultdict(Counter)
        structures: dict[int, str] = {}
        for shard in build.shards():
            content = shard.read()
            structures |= {entry["id"]: entry["name"] for entry in content["categories"]}
            keys = {image["id"]: image["us43d"]["key"] for image in content["images"]}
            for entry in content["annotations"]:
                mask = entry["us43d"]["label"], structures[entry["category_id"]], entry["segmentation"]["counts"]
                self.annotations[keys[entry["image_id"]]][mask] += 1
        self.labels = {label: structures.get(number, str(number)) for label, number in self.facts["labels"].items()}
        parts = Counter(row["split"] or "dropped" for row in self.rows.values())
        self.counts = {
            "images": len(self.rows) - parts["dropped"],
            "annotations": sum(entry.total() for entry in self.annotations.values()),
            "groups": len({row["group"] for row in self.rows.values() if row["split"]}),
            **{split: parts[split] for split in ("train", "val", "test", "excluded", "dropped") if parts[split]},
        }
        by_label = Counter(label for masks in self.annotations.values() for label, *_ in masks.elements())
        self.counts |= {f"annotations of {label}": number for label, number in sorted(by_label.items())}


def _image(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if one is None or other is None:
        return [("images", "new" if one is None else "gone")]
    if one["drop"] != other["drop"]:
        if one["drop"] and other["drop"]:
            return [("images", f"dropped for another reason: {other['drop']}")]
        return [("images", f"dropped: {other['drop']}" if other["drop"] else f"no longer dropped: {one['drop']}")]
    changes = []
    if one["pixel_hash"] != other["pixel_hash"]:
        changes.append(("images", "other pixels"))
    elif one["sha256"] != other["sha256"]:
        changes.append(("images", "same pixels, other file"))
    if one["tags"] != other["tags"]:
        changes.append(("images", "other tags"))
    if one["split"] != other["split"]:
        changes.append(("splits", f"{one['split']} → {other['split']}"))
    if one["official_split"] != other["official_split"]:
        changes.append(("splits", f"official: {one['official_split']} → {other['official_split']}"))
    if one["group"] != other["group"]:
        changes.append(("groups", "other group"))
    return changes


def _annotations(one: Counter[tuple[str, str, str]], other: Counter[tuple[str, str, str]]) -> list[str]:
    """Return how annotations differ: masks alone, labels alone, or their number."""
    if one == other:
        return []
    masks = [Counter(counts for _, _, counts in labels.elements()) for labels in (one, other)]
    if masks[0] == masks[1]:
        return ["same masks, other labels"]
    if one.total() != other.total():
        return ["more" if other.total() > one.total() else "fewer"]
    return ["other masks"]
