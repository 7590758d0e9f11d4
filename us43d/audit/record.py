"""Write an audit to <home>/audit: audit.json (every finding), index.html, and near_duplicates.json for builds."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from us43d import atomic
from us43d.audit.findings import MIRRORINGS, Findings, Image, summarize
from us43d.audit.page import page
from us43d.splits import duplicate_links

__all__ = ["record", "write"]

#: 2: "remaining_leaks" for "left", "detail" and "kind" for "said" and "what"; "alignments" added, "marks" removed.
_SCHEMA = 2


def record(findings: Findings) -> dict[str, Any]:
    """Return the findings as JSON: sources with counts, then each kind of finding with all its images."""

    def entry(image: Image) -> dict[str, Any]:
        return {
            "source": findings.builds[image.build].name, "key": image.key, "split": image.split,
            "official_split": image.official, "group": image.group,
        }  # fmt: skip

    def families(items: list[list[Image]]) -> list[list[dict[str, Any]]]:
        return [[entry(image) for image in family] for family in items]

    return {
        "schema": _SCHEMA,
        "sources": summarize(findings),
        "corpora": sorted(findings.corpora),
        "remaining_leaks": findings.remaining_leaks,
        "alignments": findings.alignments,
        "leaks": families(findings.leaks),
        "leaks_across_sources": families(findings.across_leaks),
        "groups_in_several_splits": [
            {"source": build.name, "group": group, "splits": list(splits)}
            for build, group, splits in findings.group_leaks
        ],
        "official_leaks": families(findings.official_leaks),
        "exact": families(findings.exact),
        "near": [
            {
                "a": entry(pair.a), "b": entry(pair.b), "mirrored": MIRRORINGS[pair.mirroring],
                "equal_blocks": round(pair.alignment.score, 3), "median_correlation": round(pair.alignment.median, 3),
                "overlap": round(pair.alignment.overlap, 3), "place": np.round(pair.alignment.place, 5).tolist(),
            }
            for pair in findings.near
        ],
        "across_sources": families(findings.across),
        "conflicts": [
            {"a": entry(c.a), "b": entry(c.b), "kind": c.kind, "detail": c.detail} for c in findings.conflicts
        ],
        "masks": [
            {"source": findings.builds[fault.image.build].name, "key": fault.image.key, "label": fault.label,
             "kind": fault.kind, "value": round(fault.value, 4)}
            for fault in findings.faults
        ],
    }  # fmt: skip


def write(findings: Findings, home: Path) -> tuple[Path, int]:
    """Write the three files. Returns (their folder, number of links that builds now apply)."""
    folder = duplicate_links.path(home).parent
    folder.mkdir(parents=True, exist_ok=True)
    with atomic.storage_errors(folder, "The last audit's files stay."):
        atomic.write_bytes(folder / "audit.json", json.dumps(record(findings), indent=1, ensure_ascii=False).encode())
        atomic.write_bytes(folder / "index.html", page(findings).encode())
        links = duplicate_links.write(home, findings.links(), findings.audited())
    return folder, links
