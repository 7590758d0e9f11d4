"""An audit as JSON (audit.json) and in files: audit.json, index.html and twins.json in <home>/audit."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from us43d import atomic
from us43d.audit.audit import TURNS, Audit, Image, counted
from us43d.audit.page import page
from us43d.splits import audited

__all__ = ["record", "write"]


def record(found: Audit) -> dict[str, Any]:
    """Everything found, in the words of JSON: sources with counts, then each kind of finding with all its images."""

    def said(image: Image) -> dict[str, Any]:
        return {
            "source": found.builds[image.build].name, "key": image.key, "split": image.split,
            "official_split": image.official, "group": image.group,
        }  # fmt: skip

    def families(items: list[list[Image]]) -> list[list[dict[str, Any]]]:
        return [[said(image) for image in family] for family in items]

    return {
        "schema": 1,
        "sources": counted(found),
        "corpora": sorted(found.corpora),
        "left": found.left,
        "leaks": families(found.leaks),
        "leaks_across_sources": families(found.across_leaks),
        "groups_in_several_splits": [
            {"source": build.name, "group": group, "splits": list(splits)} for build, group, splits in found.group_leaks
        ],
        "official_leaks": families(found.official_leaks),
        "exact": families(found.exact),
        "near": [
            {
                "a": said(each.a), "b": said(each.b), "mirrored": TURNS[each.candidate.turn],
                "equal_blocks": round(each.alignment.score, 3), "median_correlation": round(each.alignment.median, 3),
                "overlap": round(each.alignment.overlap, 3), "place": np.round(each.alignment.place, 5).tolist(),
            }
            for each in found.near
        ],
        "across_sources": families(found.across),
        "conflicts": [{"a": said(c.a), "b": said(c.b), "what": c.what, "said": c.said} for c in found.conflicts],
        "masks": [
            {"source": found.builds[f.image.build].name, "key": f.image.key, "label": f.label, "kind": f.kind,
             "value": round(f.value, 4)}
            for f in found.faults
        ],
        "marks": [
            {"source": found.builds[image.build].name, "key": image.key, "kind": kind, "share": round(share, 5)}
            for image, kind, share in found.marks
        ],
    }  # fmt: skip


def write(found: Audit, home: Path) -> tuple[Path, int]:
    """Write the three files; returns their folder and the number of links that builds now take in."""
    folder = audited.path(home).parent
    folder.mkdir(parents=True, exist_ok=True)
    with atomic.storage_errors(folder, "The last audit's files stay."):
        atomic.write_bytes(folder / "audit.json", json.dumps(record(found), indent=1, ensure_ascii=False).encode())
        atomic.write_bytes(folder / "index.html", page(found).encode())
        links = audited.write(home, found.links(), [build.slug for build in found.builds])
    return folder, links
