"""What travels with every export: README, licences, references, and the description of its sources."""

from collections.abc import Mapping
from typing import Any

from us43d.bibliography import ULTRASAM, bibtex
from us43d.cards.card import cell, link, table, yes_no
from us43d.contract import Citation
from us43d.errors import counted
from us43d.export.selection import Selection
from us43d.licences import CAVEAT, USES, allows, summary, terms_of

__all__ = ["LICENCES", "README", "REFERENCES", "source", "written"]

README, LICENCES, REFERENCES = "README.md", "LICENCES.md", "references.bib"


def source(entry: Mapping[str, Any], images: int) -> dict[str, Any]:
    """Return an entry of export.json: a source of `corpus.sources` with its number of exported images."""
    kept = {name: entry[name] for name in ("name", "slug", "version", "digest", "organ", "licence")}
    return kept | {"images": images}


def written(facts: Mapping[str, Any], selection: Selection, front: str = "") -> dict[str, str]:
    """Return file name → text of the documents. facts: content of export.json. front: text before the README."""
    return {
        README: front + _readme(facts),
        LICENCES: _licences(facts),
        REFERENCES: _references(selection),
    }


def _readme(facts: Mapping[str, Any]) -> str:
    names = [entry["name"] for entry in facts["sources"]]
    cut = ", ".join(f"{number:,} {split}" for split, number in facts["images"].items())
    lines = [
        f"# {facts['corpus']['release']}: ultrasound images with segmentation masks, as {facts['format']}",
        f"{counted(sum(facts['images'].values()), 'image')} ({cut}), {counted(facts['annotations'], 'annotation')} of "
        f"{counted(len(facts['categories']), 'structure')}, {counted(facts['units'], 'group')}, from "
        f"{counted(len(names), 'source')}. Exported by "
        f"{facts['tool']} from corpus {facts['corpus']['release']} (digest {facts['corpus']['digest'][:16]}).",
        "## Load it",
        f"```\n{facts['usage'].strip()}\n```",
        "## What comes back",
        facts["fidelity"],
    ]
    if facts["counts"]:
        lines += [table(("counted during the export", ""), ((cell(k), f"{n:,}") for k, n in facts["counts"].items()))]
    lines += [
        "## Splits",
        "Train, validation and test are those of the corpus. A group (a patient, video or volume where the source "
        "states it), united with its near-duplicates in other sources, is in one split only; `images.csv` lists the "
        "group and the unit of every image. Do not split the images again at random.",
    ]
    if facts["skipped"]:
        lines += [table(("images not exported", ""), ((cell(k), f"{n:,}") for k, n in facts["skipped"].items()))]
    lines += [f"**Note.** {note}" for note in facts["notes"]]
    lines += [
        "## Structures",
        "A structure that a source does not annotate may be visible in its images: unlabelled is not absent.",
        table(("structure", "organ"), ((f"`{c['name']}`", cell(c["organ"])) for c in facts["categories"])),
        "## Sources",
        table(
            ("source", "images", "licence", "commercial use"),
            (
                (
                    cell(s["name"]), f"{s['images']:,}", link(s["licence"]["title"], s["licence"]["url"]),
                    yes_no(allows(terms_of(s["licence"]), "commercial")),
                )
                for s in facts["sources"]
            ),
        ),
        "The licences stay those of the sources: `LICENCES.md`. Cite the sources: `references.bib`. "
        "`us43d check FOLDER` (or `sha256sum -c checksums.txt`) verifies the files.",
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def _licences(facts: Mapping[str, Any]) -> str:
    terms = {entry["name"]: terms_of(entry["licence"]) for entry in facts["sources"]}
    lines = ["# Licences of the sources", CAVEAT, "## What the whole may be used for"]
    rows = []
    for verdict in summary(terms).verdicts:
        cells = (", ".join(names) or "–" for names in (verdict.allowed, verdict.forbidden, verdict.unknown))
        rows.append((cell(USES[verdict.use]), *map(cell, cells)))
    lines += [table(("use", "allowed by", "forbidden by", "unknown for"), rows), "## Source by source"]
    for entry in facts["sources"]:
        licence = entry["licence"]
        lines += [f"**{cell(entry['name'])}**: {link(licence['title'], licence['url'])} ({licence['id']}). "
                  f"{cell(licence['evidence'])}"]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def _references(selection: Selection) -> str:
    """Return BibTeX of the collection and of the exported sources."""
    citations = (Citation(**citation) for entry in selection.exported_sources for citation in entry["citations"])
    return f"{ULTRASAM}\n\n{bibtex(citations)}"
