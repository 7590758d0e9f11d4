"""Names as people type them, matched without regard to case, spaces and punctuation, and as they count them."""

import difflib
import re
from collections.abc import Iterable, Sequence

from us43d.errors import UnknownName, listed

__all__ = ["choose", "counting", "nearest", "normalised"]


def normalised(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def counting(name: str) -> list[str | tuple[int, str]]:
    """Return what orders names as people count: numbers in them by their value."""
    parts = re.split(r"0*([0-9]+)", name)
    return [(len(text), text) if n % 2 else text for n, text in enumerate(parts)]


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three normalised names that are close to a name, the closest first."""
    return difflib.get_close_matches(normalised(name), list(known), n=3, cutoff=0.6)


def choose(names: Sequence[str], spellings: Sequence[Sequence[str]], what: str, *, next: str) -> list[int]:
    """Find which things are asked for.

    Args:
        names: Names in any spelling; everything if empty.
        spellings: The names of each thing, the one to show first.
        what: What the things are, for the message: "source".
        next: Command that lists them.

    Returns:
        Indices into `spellings`, ascending, each once.

    Raises:
        UnknownName: If a name fits none of them.
    """
    if not names:
        return list(range(len(spellings)))
    known = {normalised(name): index for index, row in reversed([*enumerate(spellings)]) for name in reversed(row)}
    if unknown := [name for name in names if normalised(name) not in known]:
        shown = [row[0] for row in spellings]
        close = dict.fromkeys(shown[known[name]] for text in unknown for name in nearest(text, known))
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UnknownName(f"Unknown {what} {listed(map(repr, unknown))}.{hint} Known: {listed(shown, 60)}.", next=next)
    return sorted({known[normalised(name)] for name in names})
