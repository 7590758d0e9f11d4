"""links: whether the addresses in the recipes still lead somewhere. It needs a network; no test or build runs it."""

import datetime
from pathlib import Path
from typing import Annotated

import typer

from us43d import facts, registry
from us43d.errors import SomeFailed, UsageError

from .options import Every, Names
from .output import Session
from .select import chosen
from .tables import Table
from .verb import verb


@verb(
    "links",
    panel="Contributing",
    examples=("us43d links BUSI", "us43d links --all --json > links.json", "us43d links --all --update"),
)
def links(
    session: Session,
    names: Names = None,
    every: Every = False,
    delay: Annotated[float, typer.Option("--delay", min=0.0, help="Seconds between two requests to one host.")] = 1.0,
    update: Annotated[
        bool,
        typer.Option("--update", help="Write today's date and new sizes into the facts of sources that still answer."),
    ] = False,
) -> None:
    """Check every address of the recipes with small requests; compare the file lists of hosts with the facts."""
    from us43d.fetch.http import Web
    from us43d.fetch.links import check, passed, report, stamp

    recipes = chosen(names, registry.recipes() if every else None, "links", session.home)
    folder = _facts() if update else None
    with session.progress("links", "links") as moved:
        results = check(recipes, Web(attempts=2), delay=delay, moved=moved)
    today = datetime.datetime.now(datetime.UTC).date()
    told = report(recipes, results, today)
    good = [recipe for recipe in recipes if passed(recipe, results)]
    told["updated"] = [path.name for path in stamp(good, results, folder, today)] if folder else []
    bad = [link for link in results if link.state in {"gone", "changed", "failed"}]
    shown = [link for link in results if link.state != "ok"]
    rows = [(link.source, link.what, link.state, f"{link.url}\n{link.said}".strip()) for link in shown]
    counts = ", ".join(f"{count} {state}" for state, count in told["states"].items())
    parts: list[str | Table] = [f"{told['links']} links: {counts}"]
    if rows:
        parts.append(Table((("source", "left"), ("link", "left"), ("state", "left"), ("", "fold")), rows))
    session.answer(told, *parts)
    count = len(told["updated"])
    files = f"{count} facts file{'s' * (count != 1)}"
    if count:
        session.say(f"{files} updated. Next: us43d card --write")
    if bad:
        raise SomeFailed(
            f"{len(bad)} of {len(results)} links are dead or changed.",
            disk=f"Updated: {files} of sources whose links work." if count else "Nothing was changed on disk.",
            next=f"us43d links {' '.join(dict.fromkeys(link.source for link in bad))}",
        )


def _facts() -> Path:
    """Return the folder of the facts in a checkout.

    Raises:
        UsageError: If us43d is installed as a package.
    """
    folder = facts.folder()
    if not (folder.parent.parent / "pyproject.toml").is_file():
        raise UsageError(
            f"--update changes facts files, which needs a checkout of us43d: {folder} belongs to an installed package."
        )
    return folder
