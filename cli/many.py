"""Run a verb on several sources: continue after failures, print one table, return one exit code."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from us43d.atomic import storage_errors
from us43d.contract import Recipe
from us43d.errors import LicenceError, SomeFailed, Us43dError, command, counted

from .errors import as_comment
from .output import Session
from .tables import Table

__all__ = ["Outcome", "attempt", "each", "failed", "finish"]


class Outcome(NamedTuple):
    """The outcome of a verb for one source.

    Attributes:
        name: Name of the source.
        state: One or two words, such as "built".
        said: One sentence for the table.
        next: A command to run next; empty if none is needed.
        data: Details for --json.
        error: The failure, if any.
    """

    name: str
    state: str
    said: str = ""
    next: str = ""
    data: Any = None
    error: Us43dError | None = None


def each(session: Session, recipes: Iterable[Recipe], work: Callable[[Recipe], Outcome]) -> list[Outcome]:
    """Run `work` on every source; a known failure becomes an outcome, other exceptions propagate."""
    return [attempt(session, recipe, work) for recipe in recipes]


def attempt(session: Session, recipe: Recipe, work: Callable[[Recipe], Outcome]) -> Outcome:
    """Run `work` on one source and print its state in a line."""
    try:
        with storage_errors(session.home.root, "Results of earlier steps are kept."):
            outcome = work(recipe)
    except Us43dError as error:
        outcome = failed(recipe, error)
    session.say(f"{outcome.name}: {outcome.state}")
    return outcome


def failed(recipe: Recipe, error: Us43dError, state: str = "failed") -> Outcome:
    return Outcome(recipe.name, state, error.what, as_comment(error.next), error=error)


def finish(
    session: Session, verb: str, outcomes: list[Outcome], also: Iterable[Outcome] = (), options: Iterable[object] = ()
) -> None:
    """Print the table of outcomes; rows of `also` follow the sources and are not counted.

    The next step is that of the only failure, or else repeats `verb` with `options` on the sources that failed.

    Raises:
        Us43dError: If there is one source and it failed.
        SomeFailed: If one or more of several sources failed.
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
        again = command(verb, *(outcome.name for outcome in bad), *options)
        if len(bad) < len(outcomes):
            what, disk = f"{len(bad)} of {counted(len(outcomes), 'source')} failed.", "The other sources are complete."
        else:  # one sentence if it holds for all; else the messages above have the state of each source
            states = {outcome.error.disk for outcome in bad if outcome.error}
            what, disk = f"All {len(bad)} sources failed.", states.pop() if len(states) == 1 else ""
        licences = verb == "fetch" and all(isinstance(outcome.error, LicenceError) for outcome in bad)
        accept = " --accept-licence all   (after reading the licences above)" if licences else ""
        steps = [outcome.error.next for outcome in bad if outcome.error and outcome.error.next]
        if accept:
            again += accept
        elif steps:
            again = steps[0] if len(bad) == 1 else f"{again}   (after the commands above)"
        raise SomeFailed(what, disk=disk, next=again)
