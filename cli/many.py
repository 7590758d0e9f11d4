"""Doing one thing to several sources: go on past failures, end with one table and one exit code."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from us43d.atomic import storage_errors
from us43d.contract import Recipe
from us43d.errors import SomeFailed, Us43dError

from .output import Session
from .tables import Table

__all__ = ["Outcome", "attempt", "each", "failed", "finish"]


class Outcome(NamedTuple):
    """What came of one source. state: one word or two. said: one sentence. next: a command. data: for --json."""

    name: str
    state: str
    said: str = ""
    next: str = ""
    data: Any = None
    error: Us43dError | None = None


def each(session: Session, recipes: Iterable[Recipe], work: Callable[[Recipe], Outcome]) -> list[Outcome]:
    """Run `work` on every source; a known failure becomes an outcome, whatever else happens goes up."""
    return [attempt(session, recipe, work) for recipe in recipes]


def attempt(session: Session, recipe: Recipe, work: Callable[[Recipe], Outcome]) -> Outcome:
    """One source; says in a line what came of it."""
    try:
        with storage_errors(session.home.root, "What was done before stays."):
            outcome = work(recipe)
    except Us43dError as error:
        outcome = failed(recipe, error)
    session.say(f"{outcome.name}: {outcome.state}")
    return outcome


def failed(recipe: Recipe, error: Us43dError, state: str = "failed") -> Outcome:
    return Outcome(recipe.name, state, error.what, error.next, error=error)


def finish(session: Session, verb: str, outcomes: list[Outcome], also: Iterable[Outcome] = ()) -> None:
    """Answer with the table; `also` stands below the sources and is not counted as one.

    Raises the failure if there is but one source, SomeFailed if some of several failed.
    """
    bad = [outcome for outcome in outcomes if outcome.error]
    if len(outcomes) == 1 and bad and bad[0].error:
        raise bad[0].error
    data = [
        {"name": o.name, "state": o.state, "said": o.said, "next": o.next}
        | ({"error": type(o.error).__name__} if o.error else {"result": o.data})
        for o in (*outcomes, *also)
    ]
    rows = [(o.name, o.state, f"{o.said}\n{o.next}".strip() if o.error else o.said) for o in (*outcomes, *also)]
    session.answer(data, Table((("source", "left"), (verb, "left"), ("", "fold")), rows))
    if bad:
        names = " ".join(outcome.name for outcome in bad)
        raise SomeFailed(
            f"{len(bad)} of {len(outcomes)} sources failed.",
            disk="The others are done and stay.",
            next=f"us43d {verb} {names}",
        )
