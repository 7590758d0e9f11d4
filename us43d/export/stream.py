"""JSON written piece by piece, for indices with an entry per image."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Pairs", "write"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """A JSON object given as (name, value)."""

    entries: Iterable[tuple[str, Any]]


def write(path: Path, value: Any) -> None:
    """Write what `json.dump(value, indent=1)` would, without holding it whole.

    Args:
        path: The file.
        value: An iterator is an array, `Pairs` is an object; inside both, values may be iterators and `Pairs` again.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(_pieces(value, 0))


def _pieces(value: Any, depth: int) -> Iterator[str]:
    if not isinstance(value, Iterator | Pairs):
        yield _text(value).replace("\n", "\n" + " " * depth)
        return
    opening, closing = "{}" if isinstance(value, Pairs) else "[]"
    empty = True
    for entry in value.entries if isinstance(value, Pairs) else value:
        yield (opening if empty else ",") + "\n" + " " * (depth + 1)
        if isinstance(value, Pairs):
            yield f"{_text(entry[0])}: "
        yield from _pieces(entry[1] if isinstance(value, Pairs) else entry, depth + 1)
        empty = False
    yield opening + closing if empty else "\n" + " " * depth + closing


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)
