"""Options that several verbs share, and what they mean."""

from collections.abc import Iterable
from typing import Annotated

import typer

from us43d.contract import Recipe
from us43d.errors import LicenceError, listed
from us43d.machine import processors

__all__ = ["Commercial", "Every", "Jobs", "Names", "refuse_uncommercial", "workers"]

Names = Annotated[
    list[str] | None, typer.Argument(help="Sources, in any spelling.", metavar="NAME…", show_default=False)
]
Every = Annotated[bool, typer.Option("--all", help="Every source there is.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="How many at once; by default one per processor.", show_default=False),
]
Commercial = Annotated[
    bool, typer.Option("--commercial", help="Refuse sources whose licence forbids commercial use, or is unknown.")
]


def workers(jobs: int | None) -> int:
    """The number asked for, else the processors this process may use."""
    return processors() if jobs is None else jobs


def refuse_uncommercial(recipes: Iterable[Recipe], verb: str) -> None:
    """With --commercial: raise LicenceError naming the sources that are not known to allow commercial use."""
    from us43d.cards.licences import allows

    recipes = list(recipes)
    verdicts = {recipe.name: allows(recipe.licence.terms, "commercial") for recipe in recipes}
    forbidden = [name for name, verdict in verdicts.items() if verdict is False]
    unknown = [name for name, verdict in verdicts.items() if verdict is None]
    if not forbidden and not unknown:
        return
    parts = [
        f"{listed(names, 50)} ({why})"
        for names, why in ((forbidden, "non-commercial"), (unknown, "licence unknown or unsettled"))
        if names
    ]
    allowed = " ".join(name for name, verdict in verdicts.items() if verdict is True)
    raise LicenceError(
        f"--commercial refuses {len(forbidden) + len(unknown)} of {len(recipes)} sources: {'; '.join(parts)}.",
        next=f"us43d {verb} {allowed} --commercial" if allowed else "us43d licences --all --commercial",
    )
