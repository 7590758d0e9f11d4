"""The builds that a verb reads: those of named sources, or with --all of every source whose build can be read."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from us43d.contract import Collection, Profile, Recipe
from us43d.errors import (
    BuildError,
    CheckError,
    LicenceError,
    SomeFailed,
    SplitError,
    Us43dError,
    UsageError,
    command,
    counted,
    listed,
)

from .many import Outcome, each
from .options import workers
from .output import Session
from .select import State, chosen, sources_on_disk

T = TypeVar("T")
#: Errors that no damaged build causes: the builds need not be checked.
NOT_OF_BUILDS = (LicenceError, SplitError, UsageError)


def is_fetched(state: State) -> bool:
    return state.fetched


def is_built(state: State) -> bool:
    return bool(state.builds)


def sources(
    session: Session,
    names: list[str] | None,
    every: bool,
    has: Callable[[State], bool],
    verb: str,
    collection: Collection | None = None,
) -> list[Recipe]:
    """Return the named sources, or with --all and --collection those on this disk.

    Raises:
        UsageError: If no source is on this disk.
    """
    if every or collection:
        present = sources_on_disk(session.home, has)
        if collection:
            present = [recipe for recipe in present if collection in recipe.collections]
        if not present and not names:
            what, before = ("fetched", "fetch") if has is is_fetched else ("built", "build")
            where = f" of the collection {collection}" if collection else ""
            raise UsageError(f"No {what} sources{where} found in {session.home.root}.", next=f"us43d {before} --all")
        return chosen(names, present, verb, session.home)
    return chosen(names, None, verb, session.home)


def newest(session: Session, recipe: Recipe, profile: Profile | None = None) -> Path:
    """Return the folder of the newest build of a source. Raises BuildError if it was not built."""
    from us43d.loading import latest

    build = latest(session.home, recipe.name, profile)
    if build is None:
        kind = f" with profile {profile}" if profile else ""
        raise BuildError(f"{recipe.name} is not built{kind}.", next=f"us43d build {recipe.name}")
    return build


def of_newest(
    session: Session,
    recipes: Sequence[Recipe],
    work: Callable[[list[Path]], T],
    bad: list[Outcome] | None,
    profile: Profile | None = None,
) -> T:
    """Return `work` of the newest builds of sources, or, if it fails, of those that can be read.

    Args:
        session: Of the command.
        recipes: The sources.
        work: Reads the builds; called again without those that are damaged or may not be read.
        bad: Takes an outcome for each of these, which is printed as well. None: their error is raised.
        profile: Of the builds; any if None.
    """
    try:
        return work([newest(session, recipe, profile) for recipe in recipes])
    except NOT_OF_BUILDS:
        raise
    except Us43dError:
        lost = [] if bad is None else unsound(session, recipes, profile)
        rest = without(recipes, lost)
        if bad is None or not lost or not rest:
            raise
    for outcome in lost:
        session.warn(f"{outcome.name} is not included: {outcome.said}\n{outcome.next}".rstrip())
    bad += lost
    return of_newest(session, rest, work, bad, profile)


def unsound(session: Session, recipes: Sequence[Recipe], profile: Profile | None) -> list[Outcome]:
    """Return an outcome for each source whose newest build cannot be opened, or else does not pass `us43d check`."""
    from us43d.harmonize.built import Build
    from us43d.harmonize.check import check as examine

    def opened(recipe: Recipe) -> Outcome:
        return Outcome(Build(newest(session, recipe, profile)).name, "opened")

    def checked(recipe: Recipe) -> Outcome:
        path = newest(session, recipe, profile)
        if problems := [f"{kind}: {where}: {what}" for kind, where, what in examine(path, jobs=workers(None))]:
            raise CheckError(f"{path} is damaged ({listed(problems, 1)}).", next=command("check", recipe.name))
        return Outcome(recipe.name, "sound")

    for work in (opened, checked):
        if lost := [outcome for outcome in each(session, recipes, work) if outcome.error]:
            return lost
    return []


def without(recipes: Sequence[Recipe], outcomes: Iterable[Outcome]) -> list[Recipe]:
    """Return the recipes that have no outcome."""
    names = {outcome.name for outcome in outcomes}
    return [recipe for recipe in recipes if recipe.name not in names]


def complain(recipes: Sequence[Recipe], bad: list[Outcome]) -> None:
    """Raise SomeFailed if `of_newest` did not include a source."""
    if bad:
        names = [outcome.name for outcome in bad]
        raise SomeFailed(
            f"{len(bad)} of {counted(len(recipes), 'source')} not included: {listed(names)}.",
            disk="The results are of the others.",
            next=command("check", *names),
        )
