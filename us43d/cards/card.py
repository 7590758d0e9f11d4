"""The card of a source: one Markdown page, from its facts alone."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from us43d.contract import Facts, Route, Stated
from us43d.errors import listed
from us43d.licences import USES, allows

__all__ = ["ACCESS", "KINDS", "card", "cell", "corrected", "counts", "left_out", "link", "rounded", "table", "yes_no"]

#: What an access state means for the person who wants the data.
ACCESS = {
    "open": "open: downloads without an account",
    "login": "login: downloads with a free account",
    "agreement": "agreement: registration or signed terms at the source",
    "request": "request: the owners decide on each request",
    "unavailable": "unavailable: no working way is known",
    "private": "private: imported from a folder of your own; not published",
    "unknown": "unknown: whether and how the owners give it out could not be established",
}


#: Kind of data → row of the card; `human` (scans of people, masks drawn by experts) has none.
KINDS = {
    "phantom": "phantom, not a patient",
    "animal": "animal",
    "synthetic": "synthetic images",
    "derived": "masks or images derived from other data",
}


def cell(text: object) -> str:
    """Escape text for a cell of a Markdown table."""
    escaped = re.sub(r"([\\|*<\[\]`]|(?<!\w)_|_(?!\w))", r"\\\1", str(text))
    return re.sub(r"\s+", " ", escaped).strip()


def link(text: str, url: str | None) -> str:
    return f"[{cell(text)}]({url.replace(' ', '%20').replace(')', '%29')})" if url else cell(text)


def yes_no(answer: bool | None) -> str:
    return "unknown" if answer is None else "yes" if answer else "no"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], right: frozenset[int] = frozenset()) -> str:
    """Return a Markdown table of cells that are Markdown already; `right`: columns aligned to the right."""
    heads = list(heads)
    rule = ["--:" if n in right else "---" for n in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in ([*heads], rule, *map(list, rows)))


def counts(recipe: Facts) -> dict[str, int]:
    """Return the published counts that a build must reach, by name."""
    expect = recipe.expect
    named = {"images": expect.images, "annotated images": expect.annotated, "masks": expect.masks}
    named[f"groups ({recipe.group_kind})"] = expect.groups
    known = {what: number for what, number in named.items() if number is not None}
    return known | {f"images with {tag}": number for tag, number in sorted(expect.tags.items())}


def rounded(number: Stated) -> str:
    """Format a stated number; an estimate with ≈."""
    return f"≈ {number.value:,}" if number.estimate else f"{number.value:,}"


def card(recipe: Facts) -> str:
    """Return the card as Markdown."""
    return "\n\n".join(_sections(recipe)) + "\n"


def left_out(dataset: Mapping[str, Any]) -> str:
    """Return a section on the samples and files a build (its dataset.json) skipped on request; "" if none."""
    skipped = dataset.get("skipped")
    if not skipped:
        return ""
    lines = [f"- {skipped['samples']:,} samples are dropped, each with its reason in the manifest"]
    lines += [f"- `{file}`{f': {cell(why)}' if why else ''}" for file, why in sorted(skipped["files"].items())]
    for pattern, files in sorted(skipped["ignored"].items()):
        lines.append(f"- `{pattern}` ignores {len(files):,} files: {cell(listed(files, 5))}")
    head = f"## Skipped on request in the build {cell(dataset['version'])}"
    return f"\n{head}\n\n" + "\n".join(lines) + "\n"


def corrected(dataset: Mapping[str, Any]) -> str:
    """Return a section on what people corrected or marked wrong in a build (its dataset.json); "" without any."""
    fixes = dataset.get("corrections")
    if not fixes:
        return ""
    lines = [
        f"Images whose masks were corrected in review: {fixes['images']:,}; excluded, because their masks were marked "
        f"wrong: {fixes.get('excluded', 0):,}. `provenance.json` names each image, who decided and when; its row in "
        f"the manifest carries a remark. `--no-fixes` builds without."
    ]
    if stale := fixes.get("stale", ()):
        lines.append(
            f"Not applied, because the image or its published masks have changed since: {cell(listed(stale, 5))}."
        )
    return f"\n## Masks corrected in the build {cell(dataset['version'])}\n\n" + "\n\n".join(lines) + "\n"


def _sections(recipe: Facts) -> Iterator[str]:
    yield f"# {recipe.name}"
    if recipe.private:
        yield "**Private source of this home, not part of any published collection.**"
    else:
        yield "<!-- Made from the recipe by `us43d card --write`; change the recipe, not this page. -->"
    yield cell(recipe.title)
    yield table(("", ""), _overview(recipe))
    yield "## Contents"
    yield table(("label in the source", "structure", "diagnosis"), _labels(recipe))
    counted = counts(recipe)
    if counted:
        head = "counted at import" if recipe.private else "published count"
        yield table((head, ""), ((cell(what), f"{n:,}") for what, n in counted.items()), frozenset({1}))
        yield "A build that finds fewer fails; `--partial` reports the difference instead."
    if recipe.expect.evidence:
        yield "\n".join(f"- {name}: {cell(why)}" for name, why in recipe.expect.evidence.items())
    stated = dict(_stated(recipe))
    if stated:
        rows = ((what, rounded(number), cell(number.source)) for what, number in stated.items())
        yield table(("stated, not checked by a build", "", "by"), rows, frozenset({1}))
    if not counted and not stated:
        yield "No counts are published."
    yield "## Download"
    yield f"{ACCESS[recipe.access]} (checked {recipe.access_checked}). {cell(recipe.access_note)}".strip()
    yield (
        f"    us43d build {recipe.name}"
        if recipe.private
        else f"    us43d fetch {recipe.name}\n    us43d build {recipe.name}"
    )
    yield "\n".join(f"{n}. {_route(route)}" for n, route in enumerate(recipe.routes, start=1))
    yield "## Licence"
    terms = recipe.licence.terms
    yield f"**{link(terms.title, terms.url)}** ({recipe.licence.id}). {cell(recipe.licence.evidence)}"
    uses = [(meaning, yes_no(allows(terms, use))) for use, meaning in USES.items()]
    bound = [("credit required", yes_no(terms.attribution)), ("share alike required", yes_no(terms.share_alike))]
    yield table(("permitted uses", ""), (*uses, *bound))
    yield "## Groups and splits"
    yield f"Group: **{recipe.group_kind}**. {cell(recipe.group_rule)}"
    yield f"Official split: {cell(recipe.official_split or 'none is published')}"
    if recipe.shares_with:
        yield "## Shared with other sources"
        yield "\n".join(
            f"- {shared.what} of `{shared.source}`{'' if shared.certain else ' (likely)'}: {cell(shared.evidence)}"
            for shared in recipe.shares_with
        )
    if recipe.known_issues:
        yield "## Known issues"
        yield "\n".join(f"- {cell(issue)}" for issue in recipe.known_issues)
    if recipe.fixes:
        yield "## Corrections"
        yield "Applied by default, disabled by `--no-fixes`."
        yield "\n".join(f"- `{fix.key}`: {cell(fix.reason)}" for fix in recipe.fixes)
    if recipe.ignore:
        yield "## Ignored files"
        yield "\n".join(f"- `{pattern}`: {cell(why)}" for pattern, why in recipe.ignore.items())
    yield "## Paper profile"
    yield f"`--profile paper`: {cell(recipe.paper.note)}"
    renamed = {a: b for a, b in recipe.paper.renamed.items() if a != b}
    if renamed:
        yield table(("label", "label in the paper"), ((cell(a), cell(b or "excluded")) for a, b in renamed.items()))
    if recipe.citations:
        yield "## Citation"
        yield "\n\n".join(f"```bibtex\n{citation.bibtex.strip()}\n```" for citation in recipe.citations)
    yield "## Evidence"
    yield cell(recipe.confidence)
    yield "\n".join(f"- {cell(source)}" for source in recipe.sources)
    if recipe.changes:
        yield "## Changes to the recipe"
        yield "\n".join(f"- revision {n}: {cell(what)}" for n, what in sorted(recipe.changes.items()))


def _stated(recipe: Facts) -> Iterator[tuple[str, Stated]]:
    names = {"images": "images", "annotated": "annotated images", "masks": "masks", "groups": "groups"}
    for name, what in (names | {"bytes": "bytes to download"}).items():
        if number := getattr(recipe.published, name):
            yield what, number


def _overview(recipe: Facts) -> Iterator[tuple[str, str]]:
    yield "organ", cell(recipe.organ)
    yield "application", cell(recipe.application)
    yield "kind of data", {
        "image2d": "still images", "video": "video", "volume3d": "volumes", "hdf5": "HDF5", "npy": "NumPy arrays",
    }[recipe.media]  # fmt: skip
    yield (
        "row of the US-43d table",
        cell(recipe.row) if recipe.row else "none, private" if recipe.private else "none, beyond US-43d",
    )
    yield "collections", ", ".join(recipe.collections)
    if recipe.kind != "human":
        yield "kind", KINDS[recipe.kind]
    if recipe.external_tier:
        yield "external tier", "kept for comparing models; training refuses it without `--allow-external`"
    if recipe.aliases:
        yield "also called", cell(", ".join(recipe.aliases))
    if recipe.homepage:
        yield "homepage", f"<{recipe.homepage}>"
    if recipe.doi:
        yield "DOI", f"[{cell(recipe.doi)}](https://doi.org/{recipe.doi})"
    yield "licence", cell(recipe.licence.terms.title)
    yield "access", recipe.access
    yield "recipe revision", str(recipe.revision)


def _labels(recipe: Facts) -> Iterator[tuple[str, str, str]]:
    for label, structure in recipe.labels.items():
        yield cell(label), f"`{structure}`", cell(_said(recipe.diagnoses.get(label, "")))


def _said(diagnosis: str) -> str:
    name = diagnosis.removeprefix("tag:")
    return diagnosis if name == diagnosis else f"the image's {name}"


def _route(route: Route) -> str:
    text = f"{'mirror: ' if route.mirror else ''}{link(route.kind.replace('_', ' '), route.url)}"
    text += f" ({cell(route.record)})" if route.record else ""
    files = "".join(f"\n   - `{file.name}`{_bytes(file.size)}{_digest(file)}" for file in route.files)
    return text + (f". {cell(route.note)}" if route.note else "") + files


def _bytes(size: int | None) -> str:
    return f", {size:,} bytes" if size is not None else ", size not published"


def _digest(file: object) -> str:
    for kind in ("sha256", "md5"):
        if value := getattr(file, kind):
            return f", {kind} `{value}`"
    return ", generated by the server on the fly" if getattr(file, "generated", False) else ", no digest published"
