"""Finds sources by listing the package of recipes; a module is imported only when it is asked for.

Where a home is given, its private sources (`us43d.private`) are found, too.
"""

import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from us43d import atomic
from us43d.contract import Facts, Recipe
from us43d.errors import RecipeError, UnknownName, command
from us43d.facts import every, facts, slugs
from us43d.paths import Home
from us43d.specimen import of_source as specimen
from us43d.spelling import nearest, normalised

if TYPE_CHECKING:
    from us43d.private.record import Record

__all__ = ["find", "look_up", "recipe", "recipes", "slugs", "sources", "specimen"]


def sources(home: Home | None = None) -> list[Facts]:
    """The facts of all sources, in the order of their slugs, then of a home's private ones; no recipe is imported.

    Raises RecipeError for facts that do not fit, and for a name that two sources have.
    """
    _by_name()
    return [*every(slugs()), *(entry.facts for entry in _private(home).values())]


def _private(home: Home | None) -> "Mapping[str, Record]":
    """Return slug → record of the private sources of a home; none without one."""
    if home is None or not (home.root / "private").is_dir():
        return {}
    from us43d.private import record

    return record.every(home)


@cache
def recipe(slug: str) -> Recipe:
    """Return the recipe in module `slug`. Raises RecipeError if the module cannot be imported or has none."""
    try:
        module = importlib.import_module(f"us43d.recipes.{slug}")
    except (SyntaxError, ImportError) as error:
        raise RecipeError(f"recipes/{slug}.py cannot be imported: {error}.") from error
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe) or recipe.slug != slug:
        raise RecipeError(f"recipes/{slug}.py has no RECIPE with slug {slug!r}.")
    return recipe


def recipes(home: Home | None = None) -> Iterator[Recipe]:
    """Yield all recipes, in the order of their slugs, then those of a home's private sources."""
    yield from map(recipe, slugs())
    if private := _private(home):
        from us43d.private.recipe import recipe_of

        yield from map(recipe_of, private.values())


@cache
def _by_name() -> dict[str, str]:
    table: dict[str, str] = {}
    for source in every(slugs()):
        for name in source.names:
            other = table.setdefault(normalised(name), source.slug)
            if other != source.slug:
                files = f"recipes/facts/{other}.toml and recipes/facts/{source.slug}.toml"
                raise RecipeError(f"{name!r} is a name or alias in both {files}.")
    return table


def look_up(name: str, home: Home | None = None) -> Facts:
    """Return the facts of the source a user means, by any of its names, without regard to case, spaces or punctuation.

    Raises UnknownName with the nearest names.
    """
    wanted = normalised(name)
    if wanted in slugs():  # no need to read the others
        return facts(wanted)
    known = {normalised(entry.facts.name): entry.facts for entry in _private(home).values()}
    if wanted in known:
        return known[wanted]
    table = _by_name()
    if wanted in table:
        return facts(table[wanted])
    close = nearest(wanted, [*known, *table])
    names = list(dict.fromkeys((known[n] if n in known else facts(table[n])).name for n in close))
    hint = f" Did you mean {' or '.join(names)}?" if names else ""
    place = Path(name)
    if not names and atomic.exists(place):  # the user's folder
        folder = place if place.is_dir() else place.parent
        raise UnknownName(
            f"No source is called {name!r}.", next=f"{command('import', folder)}   (makes a private source of it)"
        )
    raise UnknownName(f"No source is called {name!r}.{hint}", next="us43d list")


def find(name: str, home: Home | None = None) -> Recipe:
    """Return the recipe of the source a user means. Raises UnknownName as `look_up` does."""
    slug = look_up(name, home)
    if not slug.private:
        return recipe(slug.slug)
    from us43d.private.recipe import recipe_of

    return recipe_of(_private(home)[slug.slug])
