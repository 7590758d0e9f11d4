"""Which sources a command means, and what of them lies on this disk."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from us43d import registry
from us43d.contract import Facts, Recipe
from us43d.errors import StorageError, UsageError
from us43d.paths import Home

__all__ = ["State", "chosen", "sources_on_disk", "state"]

#: In place of the builds of a source whose folder may not be read.
UNREADABLE = "(unreadable)"


class State(NamedTuple):
    """builds: names of the finished builds, sorted."""

    fetched: bool
    builds: tuple[str, ...]

    @property
    def word(self) -> str:
        return "built" if self.builds else "fetched" if self.fetched else ""


def state(home: Home, recipe: Facts) -> State:
    try:
        builds = tuple(path.name for path in home.finished(recipe.name))
    except StorageError:  # reported by whatever reads the build; omitted, it would go unnoticed
        builds = (UNREADABLE,)
    return State(home.raw(recipe.name).is_dir(), builds)


def sources_on_disk(home: Home, has: Callable[[State], object] = lambda s: s.fetched or s.builds) -> list[Recipe]:
    """Return the sources of which the home has files; `has` decides which files count."""
    return [recipe for recipe in registry.recipes(home) if has(state(home, recipe))]


def chosen(names: Sequence[str] | None, every: Iterable[Recipe] | None, command: str, home: Home) -> list[Recipe]:
    """Return the named sources, once each, or `every` with --all.

    Raises:
        UsageError: If names and --all are combined, or both are missing.
        UnknownName: If a name is unknown.
    """
    if every is not None:
        if names:
            raise UsageError(
                f"--all and source names ({', '.join(names)}) cannot be combined.", next=f"us43d {command} --all"
            )
        return list(every)
    if not names:
        raise UsageError("Missing source names.", next=f"us43d {command} --all   (or source names, see us43d list)")
    return list({recipe.slug: recipe for recipe in (registry.find(name, home) for name in names)}.values())
