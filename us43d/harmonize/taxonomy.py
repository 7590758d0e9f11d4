"""The shared names and ids of structures, from manifests/taxonomy.json. An id never changes its meaning."""

import json
from collections import Counter
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from us43d.contract import Recipe
from us43d.errors import RecipeError, UnknownName, listed

__all__ = ["Category", "Taxonomy", "category", "mapping", "taxonomy"]


class Category(NamedTuple):
    """One structure. organ: COCO's supercategory. codes: ({"system", "code", "source"}, …)."""

    id: int
    name: str
    organ: str
    synonyms: tuple[str, ...]
    codes: tuple[dict[str, str], ...]


class Taxonomy(NamedTuple):
    version: int
    categories: tuple[Category, ...]

    def coco(self) -> list[dict[str, Any]]:
        """Return COCO's `categories`, all of them, so that every shard and corpus has the same list."""
        return [{"id": c.id, "name": c.name, "supercategory": c.organ} for c in self.categories]


@cache
def taxonomy() -> Taxonomy:
    """Return the taxonomy this version of us43d carries. Raises RecipeError if an id or a name is used twice."""
    text = resources.files("us43d.manifests").joinpath("taxonomy.json").read_text("utf-8")
    content = json.loads(text)
    categories = [
        Category(c["id"], c["name"], c["organ"], tuple(c["synonyms"]), tuple(c["codes"])) for c in content["categories"]
    ]
    for key in ("id", "name"):
        counts = Counter(getattr(category, key) for category in categories)
        if twice := [value for value, count in counts.items() if count > 1]:
            raise RecipeError(f"manifests/taxonomy.json has two structures of the {key} {listed(map(repr, twice))}.")
    return Taxonomy(content["version"], tuple(sorted(categories)))


def category(name: str) -> Category:
    """Find a structure by its name or a synonym, in any case, with spaces, hyphens or underscores.

    Raises:
        UnknownName: With the nearest names.
    """
    from difflib import get_close_matches

    def plain(text: str) -> str:
        return text.casefold().replace("_", " ").replace("-", " ").strip()

    names = {plain(spelling): one for one in taxonomy().categories for spelling in (*one.synonyms, one.name)}
    if plain(name) in names:
        return names[plain(name)]
    near = dict.fromkeys(names[close].name for close in get_close_matches(plain(name), names, 3))
    suggestion = f" Did you mean {listed(near)}?" if near else ""
    raise UnknownName(f"Unknown structure {name!r}.{suggestion}", next="us43d taxonomy")


def mapping(recipe: Recipe) -> dict[str, int]:
    """Return source label → category id. Raises RecipeError for a structure the taxonomy lacks."""
    ids = {category.name: category.id for category in taxonomy().categories}
    if unknown := sorted({to for to in recipe.labels.values() if to not in ids}):
        raise RecipeError(
            f"{recipe.name} maps labels to structures that manifests/taxonomy.json lacks: {listed(unknown)}."
        )
    return {label: ids[to] for label, to in recipe.labels.items()}
