"""Every generated page of docs/cards/: the cards, the table of all sources, the bibliography, the licences."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from us43d.bibliography import ULTRASAM, bibtex
from us43d.cards.card import card, cell, rounded, table
from us43d.contract import Facts
from us43d.errors import counted
from us43d.licences import CAVEAT, summary

__all__ = ["licence_page", "overview", "pages", "stale", "totals", "write"]

_NOTE = "<!-- Made from the recipes by `us43d card --write`; change the recipes, not this page. -->"


def overview(recipes: Iterable[Facts]) -> str:
    """Return the table of all sources as a Markdown page."""
    known = sorted(recipes, key=lambda recipe: recipe.name.lower())
    inside, beyond = [r for r in known if r.row], [r for r in known if not r.row]
    parts = [
        "# Sources",
        _NOTE,
        f"{len(inside)} sources of US-43d with {totals(inside)}. Unpublished counts are left empty; ≈ marks estimates.",
        _frames(inside),
        _rows(inside),
    ]
    if beyond:
        parts += ["## Beyond US-43d", _rows(beyond)]
    parts.append("[Licences of all sources](licences.md) · [bibliography](references.bib)")
    return "\n\n".join(parts) + "\n"


def totals(recipes: Sequence[Facts]) -> str:
    """Return the sum of the published images, and the number of sources without a published number."""
    known = [number for recipe in recipes if (number := recipe.stated("images"))]
    text = f"{sum(number.value for number in known):,} published frames, with and without masks"
    if estimates := sum(number.estimate for number in known):
        text += f" ({counted(estimates, 'number')} estimated)"
    missing = len(recipes) - len(known)
    return f"{text}; no number is published for {missing} of them" if missing else text


def _frames(recipes: Sequence[Facts]) -> str:
    """Return the paragraph that sets published frames against annotated ones."""
    annotated = [(recipe, number) for recipe in recipes if (number := recipe.stated("annotated"))]
    parts = [
        "*images*: frames that a source publishes, with or without a mask, slices of volumes included; "
        "`us43d list` prints their sum. *annotated*: those with a mask. "
    ]
    gaps = [(total.value - number.value, r, total, number) for r, number in annotated if (total := r.stated("images"))]
    if gaps:
        _, recipe, total, number = max(gaps, key=lambda gap: gap[0])
        parts.append(
            f"The two differ most for {cell(recipe.name)}: {rounded(total)} frames, of which {rounded(number)} are "
            "annotated. "
        )
    parts.append(
        f"{len(annotated)} sources publish the number of annotated images, in sum "
        f"{sum(number.value for _, number in annotated):,}; the other {len(recipes) - len(annotated)} do not. The "
        "UltraSam article states over 280,000 images with masks for US-43d."
    )
    return "".join(parts)


def download_sizes(recipes: Sequence[Facts]) -> str:
    """Return the number of sources with unknown and with estimated download sizes."""
    known = [size for recipe in recipes if (size := recipe.download)]
    text = f"download sizes are unknown for {len(recipes) - len(known)} of {len(recipes)}"
    estimates = sum(size.estimate for size in known)
    return text + (f" and estimates for {estimates}" if estimates else "")


def _count(recipe: Facts, what: Literal["images", "annotated", "masks"]) -> str:
    number = recipe.stated(what)
    return rounded(number) if number else ""


def _rows(recipes: Iterable[Facts]) -> str:
    heads = ("source", "organ", "images", "annotated", "masks", "structures", "licence", "access", "group")
    return table(
        heads,
        (
            (
                f"[{cell(recipe.name)}]({recipe.slug}.md)",
                cell(recipe.organ),
                _count(recipe, "images"),
                _count(recipe, "annotated"),
                _count(recipe, "masks"),
                ", ".join(f"`{name}`" for name in dict.fromkeys(recipe.labels.values())),
                recipe.licence.id,
                recipe.access,
                recipe.group_kind,
            )
            for recipe in recipes
        ),
        frozenset({2, 3, 4}),
    )


def licence_page(recipes: Iterable[Facts]) -> str:
    """Return the licence summary of a set of sources as a Markdown page."""
    permitted = summary({recipe.name: recipe.licence.terms for recipe in recipes})
    parts = ["# Licences", _NOTE, CAVEAT]
    for verdict in permitted.verdicts:
        parts.append(f"## Permitted: {verdict.meaning}")
        answers = (("Yes", verdict.allowed), ("No", verdict.forbidden), ("Unknown", verdict.unknown))
        parts.append(
            "\n".join(f"- **{answer}** ({len(names)}): {cell(', '.join(names)) or '–'}" for answer, names in answers)
        )
    parts.append("## Conditions")
    parts.append(f"- **Credit** ({len(permitted.attribution)}): {cell(', '.join(permitted.attribution)) or '–'}")
    parts[-1] += f"\n- **Share alike** ({len(permitted.share_alike)}): {cell(', '.join(permitted.share_alike)) or '–'}"
    parts.append("## By licence")
    parts.append(
        table(("licence", "sources"), ((cell(t), cell(", ".join(n))) for t, n in permitted.by_licence.items()))
    )
    return "\n\n".join(parts) + "\n"


def pages(recipes: Iterable[Facts]) -> dict[str, str]:
    """Return file name → text of all generated pages."""
    known = list(recipes)
    made = {f"{recipe.slug}.md": card(recipe) for recipe in known}
    made["README.md"] = overview(known)
    made["licences.md"] = licence_page(known)
    made["references.bib"] = f"{ULTRASAM}\n\n{bibtex(c for recipe in known for c in recipe.citations)}"
    return made


def stale(folder: Path, recipes: Iterable[Facts]) -> list[str]:
    """Return the files of the folder that differ from the recipes: changed, missing or left over."""
    wanted = pages(recipes)
    existing = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()
    return sorted(
        name
        for name in existing | set(wanted)
        if name not in wanted or name not in existing or (folder / name).read_text("utf-8") != wanted[name]
    )


def write(folder: Path, recipes: Iterable[Facts]) -> list[str]:
    """Write the generated pages; return the names of the files that changed or were removed."""
    known = list(recipes)
    changed = stale(folder, known)
    wanted = pages(known)
    folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in wanted:
            (folder / name).write_text(wanted[name], "utf-8")
        else:
            (folder / name).unlink()
    return changed
