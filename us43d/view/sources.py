"""A page about one source: what it is, counts against the published ones, what was dropped and why."""

from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from us43d.harmonize.built import Build
from us43d.harmonize.corpus import OWN
from us43d.licences import CAVEAT
from us43d.view.catalogue import Catalogue, Facet
from us43d.view.pages import render

__all__ = ["source_page"]

#: Bars of one plot at most.
_BARS = 24


def source_page(catalogue: Catalogue, slug: str, site: str) -> str:
    """Return the HTML of a source's page.

    Raises:
        HTTPException: For a slug that the corpus lacks.
    """
    sources = catalogue.corpus.sources
    number = next((n for n, source in enumerate(sources) if source["slug"] == slug), None)
    if number is None:
        raise HTTPException(404, f"No source {slug!r} is in {site}.")
    source = sources[number]
    build = catalogue.corpus.home / source["path"]
    facts = source | (Build(build).facts if source["slug"] != OWN else {})
    mask = catalogue.sources == number
    plots = [
        (catalogue.facets[name].title, _bars(catalogue.facets[name], mask))
        for name in ("split", "structure", "diagnosis", "size", "finding")
        if name in catalogue.facets
    ]
    tags = [(facet.title, _bars(facet, mask)) for name, facet in catalogue.facets.items() if name.startswith("tag.")]
    return render(
        "source.html", source=facts, counts=_counts(facts), plots=[plot for plot in [*plots, *tags] if plot[1]],
        caveat=CAVEAT, site=site, group=_groups(catalogue, mask), private=bool(facts.get("private")),
    )  # fmt: skip


def _bars(facet: Facet, mask: Any) -> list[dict[str, Any]]:
    counts = facet.counts(mask)
    most = max(1, int(counts.max(initial=0)))
    order = sorted(np.flatnonzero(counts), key=lambda n: (-counts[n], facet.values[n]))
    return [
        {"name": facet.values[n], "facet": facet.name, "count": int(counts[n]),
         "shown": facet.values[n].replace("_", " ") if facet.name == "structure" else facet.values[n],
         "width": round(100 * int(counts[n]) / most, 2)}
        for n in order[:_BARS]
    ]  # fmt: skip


def _groups(catalogue: Catalogue, mask: Any) -> dict[str, Any]:
    sizes = np.unique(catalogue.groups[mask & (catalogue.images >= 0)], return_counts=True)[1]
    return {
        "count": len(sizes),
        "median": float(np.median(sizes)) if len(sizes) else 0,
        "largest": int(max(sizes, default=0)),
    }


def _counts(facts: dict[str, Any]) -> list[tuple[str, int, int | None]]:
    """Return (subject, number in the build, published number)."""
    counts = facts.get("counts") or {}
    published = counts.get("published") or {}
    names = (
        ("images", "images"),
        ("groups before near-duplicates are joined", "groups"),
        ("masks", "masks"),
        ("annotated", "annotated"),
    )
    rows = [
        (what, int(counts[name]), published.get(name))
        for what, name in names
        if isinstance(counts.get(name), int)
    ]  # fmt: skip
    if isinstance(counts.get("annotations"), int):
        rows.append(("annotations", int(counts["annotations"]), None))
    return rows
