"""Options that several verbs share, and what they mean."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

from us43d.contract import Recipe
from us43d.machine import processors

__all__ = ["Apart", "Commercial", "Every", "Include", "Jobs", "Names", "by_default", "workers"]


class Apart(StrEnum):
    """Kinds of sources that a corpus of --all excludes."""

    EXTERNAL = "external"
    ANIMAL = "animal"
    SYNTHETIC = "synthetic"
    DERIVED = "derived"
    PRIVATE = "private"


Names = Annotated[
    list[str] | None, typer.Argument(help="Sources, in any spelling.", metavar="NAME…", show_default=False)
]
Every = Annotated[bool, typer.Option("--all", help="All sources.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1, help="Number of parallel processes. Default: one per processor.", show_default=False
    ),
]
Commercial = Annotated[
    bool, typer.Option("--commercial", help="Refuse sources whose licence forbids commercial use, or is unknown.")
]


Include = Annotated[
    list[Apart] | None,
    typer.Option(
        help="Also include these in the corpus of --all (repeatable). Named sources are always included.",
        show_default=False,
    ),
]


def by_default(sources: Iterable[Recipe], include: Iterable[str]) -> tuple[list[Recipe], dict[str, list[str]]]:
    """Return the sources that a corpus of --all includes, and the excluded ones: kind or "external" → names."""
    kept, left = [], dict[str, list[str]]()
    for source in sources:
        why = "private" if source.private else "external" if source.external_tier else source.kind
        if why in set(Apart) and why not in include:
            left.setdefault(why, []).append(source.name)
        else:
            kept.append(source)
    return kept, left


def workers(jobs: int | None) -> int:
    """Return the given number of processes, or else that of the processors this process may use."""
    return processors() if jobs is None else jobs
