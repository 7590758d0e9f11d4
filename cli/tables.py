"""Text tables. Rich draws the progress bars; importing it for a table would cost a sixth of `us43d list`'s start-up."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Columns", "Table", "draw"]

#: A column that folds is never made narrower than this.
_NARROW = 14
_GAP = "  "

Columns: TypeAlias = Sequence[tuple[str, Literal["left", "right", "fold"]]]


class Table(NamedTuple):
    """columns: (heading, how); "fold" wraps its text where the table is wider than the screen.

    Cells are text, whole numbers (thousands separated), other numbers (three decimals) or None (empty).
    """

    columns: Columns
    rows: Iterable[Sequence[str | int | float | None]]


def _text(value: str | int | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _wrapped(text: str, width: int) -> list[str]:
    lines = []
    for line in text.split("\n"):
        indent = "  " if line.startswith("• ") else ""
        lines += textwrap.wrap(line, max(1, width), subsequent_indent=indent, break_on_hyphens=False) or [""]
    return lines


def draw(table: Table, width: int, *, bold: bool = False) -> str:
    """Return the table as lines of at most `width` columns if its folding columns allow it.

    Args:
        table: Headings and rows.
        width: Columns of the screen.
        bold: Print headings in bold, by escape codes.
    """
    heads = [heading for heading, _ in table.columns]
    cells = [[_text(value) for value in row] for row in table.rows]
    wide = [
        max((len(line) for row in (heads, *cells) for line in row[n].split("\n")), default=0) for n in range(len(heads))
    ]
    folding = [n for n, (_, how) in enumerate(table.columns) if how == "fold"]
    while folding and sum(wide) + len(_GAP) * (len(wide) - 1) > width:
        widest = max(folding, key=lambda n: wide[n])
        if wide[widest] <= _NARROW:
            break
        wide[widest] -= 1

    def line(texts: Sequence[str]) -> str:
        placed = (
            cell.rjust(w) if how == "right" else cell.ljust(w)
            for cell, w, (_, how) in zip(texts, wide, table.columns, strict=True)
        )
        return _GAP.join(placed).rstrip()

    lines = []
    if any(heads):
        lines.append(f"\x1b[1m{line(heads)}\x1b[0m" if bold else line(heads))
        lines.append(_GAP.join("─" * w for w in wide))
    for row in cells:
        parts = [_wrapped(text, w) for text, w in zip(row, wide, strict=True)]
        high = max(map(len, parts))
        lines += (line([text_lines[n] if n < len(text_lines) else "" for text_lines in parts]) for n in range(high))
    return "\n".join(lines)
