"""How much of what the built sources hold: by source, organ, structure and split; sizes, areas, drops."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from us43d import report
from us43d.errors import counted
from us43d.harmonize.built import Build

__all__ = ["Holding", "Stats", "page", "statistics"]

_PARTS = ("train", "val", "test", "excluded")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass
class Holding:
    """What some images hold. areas: share of its image for every annotation. sizes: (width, height) → images."""

    images: set[int] = field(default_factory=set)
    groups: set[tuple[str, str]] = field(default_factory=set)
    areas: list[float] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def data(self) -> dict[str, Any]:
        """Return counts and quantiles as JSON."""
        content: dict[str, Any] = {
            "images": len(self.images), "groups": len(self.groups), "annotations": len(self.areas),
            "area_share": _quantiles(self.areas),
        }  # fmt: skip
        if self.sizes:
            content["width"], content["height"] = (
                _quantiles(np.repeat([size[n] for size in self.sizes], list(self.sizes.values()))) for n in (0, 1)
            )
        return content


def _quantiles(values: Sequence[float] | Any) -> dict[str, float] | None:
    if not len(values):
        return None
    quantiles = np.quantile(np.asarray(values, np.float64), _QUANTILES)
    return {f"p{round(100 * q)}": float(f"{value:.4g}") for q, value in zip(_QUANTILES, quantiles, strict=True)}


@dataclass
class Stats:
    """sources, organs, structures, splits: name → holding. by_split: (source, split) → holding.

    organ_of: structure or source → organ. drops: source → reason → images. versions: source → build.
    """

    versions: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Holding] = field(default_factory=lambda: defaultdict(Holding))
    organs: dict[str, Holding] = field(default_factory=lambda: defaultdict(Holding))
    structures: dict[str, Holding] = field(default_factory=lambda: defaultdict(Holding))
    splits: dict[str, Holding] = field(default_factory=lambda: defaultdict(Holding))
    by_split: dict[tuple[str, str], Holding] = field(default_factory=lambda: defaultdict(Holding))
    organ_of: dict[str, str] = field(default_factory=dict)
    drops: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def total(self) -> dict[str, int]:
        every = self.sources.values()
        return {
            "sources": len(self.sources), "images": sum(len(h.images) for h in every),
            "groups": sum(len(h.groups) for h in every), "annotations": sum(len(h.areas) for h in every),
            "dropped": sum(sum(reasons.values()) for reasons in self.drops.values()),
        }  # fmt: skip

    def data(self) -> dict[str, Any]:
        """Return all statistics as JSON."""
        sources = {
            name: {
                "version": self.versions[name], "organ": self.organ_of[name], **holding.data(),
                "splits": {p: self.by_split[name, p].data() for p in _PARTS if (name, p) in self.by_split},
                "drops": self.drops[name],
            }
            for name, holding in self.sources.items()
        }  # fmt: skip
        return {
            "total": self.total,
            "sources": sources,
            "organs": {name: holding.data() for name, holding in sorted(self.organs.items())},
            "structures": {
                name: {"organ": self.organ_of[name], **holding.data()}
                for name, holding in sorted(self.structures.items())
            },
            "splits": {split: self.splits[split].data() for split in _PARTS if split in self.splits},
        }


def statistics(builds: Iterable[Path]) -> Stats:
    """Count builds. Organs are those of the structures annotated; images without annotation count under their source's.

    Raises BuildError, CheckError.
    """
    stats = Stats()
    for path in builds:
        build = Build(path)
        name, organ, rows = build.name, build.facts["organ"], build.rows
        stats.versions[name], stats.organ_of[name] = path.name, organ
        stats.drops[name] = dict(Counter(row["drop"] for row in rows if row["drop"]).most_common())
        area = {row["id"]: row["width"] * row["height"] for row in rows if row["split"]}
        group = {row["id"]: (name, row["group"]) for row in rows if row["split"]}
        split = {row["id"]: row["split"] for row in rows if row["split"]}
        seen = defaultdict(set)
        for image, category, pixels in _annotations(build):
            seen[image].add(category["supercategory"])
            stats.organ_of.setdefault(category["name"], category["supercategory"])
            for holding in (
                stats.sources[name], stats.by_split[name, split[image]], stats.splits[split[image]],
                stats.organs[category["supercategory"]], stats.structures[category["name"]],
            ):  # fmt: skip
                holding.areas.append(pixels / area[image])
            stats.structures[category["name"]].images.add(image)
            stats.structures[category["name"]].groups.add(group[image])
        for row in rows:
            if row["split"]:
                organs = seen.get(row["id"], {organ})
                for holding in (
                    stats.sources[name], stats.by_split[name, row["split"]], stats.splits[row["split"]],
                    *(stats.organs[structure_organ] for structure_organ in sorted(organs)),
                ):  # fmt: skip
                    holding.images.add(row["id"])
                    holding.groups.add(group[row["id"]])
                    holding.sizes[row["width"], row["height"]] += 1
    return stats


def _annotations(build: Build) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Yield (image id, category, area)."""
    for shard in build.shards():
        content = shard.read()
        categories = {entry["id"]: entry for entry in content["categories"]}
        for entry in content["annotations"]:
            yield entry["image_id"], categories[entry["category_id"]], entry["area"]


# ---------------------------------------------------------------------------------------------------------------- page


def page(stats: Stats) -> str:
    """Return a whole HTML page of plots and tables."""
    total = stats.total
    sections = [
        ("Images by source and split", _stacked(stats)),
        ("Images by organ", report.bars(_ranked(stats.organs), "images")),
        ("Annotations by structure", report.bars(_ranked(stats.structures, annotations=True), "annotations")),
        (
            "How large structures are",
            "<p>Share of the image that one annotation covers: the line from the 5th to the 95th percentile, the bar "
            "from the 25th to the 75th, the median as a dot.</p>" + report.ranges(_shares(stats), "share of the image"),
        ),
        (
            "Image sizes",
            "<p>One circle for each size of each source; its area grows with the number of images.</p>"
            + report.bubbles(_sizes(stats), "width", "height"),
        ),
        ("Splits", report.table(_HEADS[:4], [_counts(p, stats.splits[p]) for p in _PARTS if p in stats.splits])),
        ("Sources", report.table([*_HEADS, "dropped"], [_source(stats, name) for name in stats.sources])),
        ("Structures", report.table(["structure", "organ", *_HEADS[1:4], "median share"], _structures(stats))),
    ]
    drops = [(name, reason, n) for name, reasons in stats.drops.items() for reason, n in reasons.items()]
    if drops:
        sections.append(("Dropped", report.table(["source", "reason", "images"], drops)))
    return report.page(
        "Statistics", sections,
        f"{counted(total['images'], 'image')}, {counted(total['annotations'], 'annotation')} and "
        f"{counted(total['groups'], 'group')} of {counted(total['sources'], 'source')}; "
        f"{counted(total['dropped'], 'sample')} dropped",
    )  # fmt: skip


_HEADS = ["", "images", "groups", "annotations", *_PARTS]


def _counts(name: str, holding: Holding) -> list[Any]:
    return [name, len(holding.images), len(holding.groups), len(holding.areas)]


def _source(stats: Stats, name: str) -> list[Any]:
    parts = [len(stats.by_split[name, p].images) if (name, p) in stats.by_split else 0 for p in _PARTS]
    return [*_counts(name, stats.sources[name]), *parts, sum(stats.drops[name].values())]


def _structures(stats: Stats) -> list[list[Any]]:
    return [
        [name, stats.organ_of[name], *_counts(name, holding)[1:], float(np.median(holding.areas))]
        for name, holding in sorted(stats.structures.items(), key=lambda item: (stats.organ_of[item[0]], item[0]))
    ]


def _stacked(stats: Stats) -> str:
    order = sorted(stats.sources, key=lambda name: -len(stats.sources[name].images))
    rows = [(n, [len(stats.by_split[n, p].images) if (n, p) in stats.by_split else 0 for p in _PARTS]) for n in order]
    return report.bars(rows, "images", _PARTS)


def _ranked(holdings: dict[str, Holding], *, annotations: bool = False) -> list[tuple[str, list[float]]]:
    sizes = {name: len(holding.areas if annotations else holding.images) for name, holding in holdings.items()}
    return [(name, [size]) for name, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))]


def _shares(stats: Stats) -> list[tuple[str, list[float]]]:
    """Return quantiles by structure, the smallest median first."""
    rows = [(name, [*(_quantiles(holding.areas) or {}).values()]) for name, holding in stats.structures.items()]
    return sorted((row for row in rows if row[1]), key=lambda row: row[1][2])


def _sizes(stats: Stats) -> list[tuple[str, list[tuple[float, float, float]]]]:
    return [(name, [(*size, n) for size, n in holding.sizes.items()]) for name, holding in stats.sources.items()]
