"""Tables of a raw tree: delimited text, also as a spreadsheet saves it again, and Excel workbooks."""

import csv
import io
import itertools
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

from us43d.errors import UnreadableFile, listed

__all__ = ["Row", "agreed", "decoded", "identifier", "sheet", "text_rows"]

#: Separators that spreadsheets write; which of them depends on the country the machine is set to.
_SEPARATORS = (",", ";", "\t", "|")
#: Cells and unpacked bytes of a workbook. The largest of the sources has some thousands.
_MOST_CELLS, _MOST_BYTES = 5_000_000, 1 << 28
#: Lines of a sheet among which the header is looked for.
_TITLES = 20
#: What openpyxl raises for a workbook that is cut, damaged or made to mislead it; XML's errors are SyntaxError's.
_NOT_XLSX = (
    OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, SyntaxError,
    RecursionError, NotImplementedError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


Name = TypeVar("Name", bound=Hashable)
Value = TypeVar("Value")


class Row(dict[str, str]):
    """One row of a table: column → cell as text. Columns are found in any case. where: for messages.

    decimal_comma: whether "0,5" is a half, as where a comma does not separate cells.
    """

    def __init__(self, cells: Iterable[tuple[str, str]], where: str, *, decimal_comma: bool = False) -> None:
        super().__init__(cells)
        self.where, self.decimal_comma = where, decimal_comma

    def __missing__(self, column: str) -> str:
        for name, cell in self.items():
            if name.casefold() == column.casefold():
                return cell
        raise KeyError(column)

    def optional(self, column: str) -> str:
        """Return a cell; "" where the table has no such column."""
        try:
            return self[column]
        except KeyError:
            return ""

    def identifier(self, column: str) -> str:
        """Return a cell that names a patient, case or file: "12" where a spreadsheet has saved 12.0."""
        return identifier(self[column])

    def number(self, column: str, *, decimal_comma: bool | None = None) -> float:
        """Return a cell as a finite number. Raises UnreadableFile for anything else.

        decimal_comma: whether "0,5" is a half. None: as the row says.
        """
        cell = self[column]
        comma = re.fullmatch(r"[+-]?\d*,\d+", cell)
        if comma and (self.decimal_comma if decimal_comma is None else decimal_comma):
            cell = cell.replace(",", ".")
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UnreadableFile(f"{self.where}: {column} is {self[column]!r}, not a number.")
        return value

    def whole(self, column: str, *, decimal_comma: bool | None = None) -> int:
        """Return a cell as a whole number ("3" or "3.0"). Raises UnreadableFile for anything else."""
        value = self.number(column, decimal_comma=decimal_comma)
        if value != int(value):
            raise UnreadableFile(f"{self.where}: {column} is {self[column]!r}, not a whole number.")
        return int(value)


class _Damaged(Row):
    """A row with more or fewer cells than the header, so that they may lie under wrong headings: only `by` is given."""

    def __init__(self, cells: Iterable[tuple[str, str]], where: str, by: str, why: str) -> None:
        super().__init__(cells, where)
        self.by, self.why = by.casefold(), why

    def __getitem__(self, column: str) -> str:
        if column.casefold() == self.by:
            return next(cell for name, cell in self.items() if name.casefold() == self.by)
        raise UnreadableFile(f"{self.where}, {self.why}.")


def identifier(text: str) -> str:
    """Return the name of a patient, case or file as published: "12" of "12.0"."""
    return match[1] if (match := re.fullmatch(r"(\d+)\.0+", text)) else text


def agreed(pairs: Iterable[tuple[Name, Value]]) -> tuple[dict[Name, Value], set[Name]]:
    """Return what all rows of a name say, by name; and the names of which two rows say different things."""
    values, contradicted = dict[Name, Value](), set[Name]()
    for name, value in pairs:
        if values.setdefault(name, value) != value:
            contradicted.add(name)
    return {name: value for name, value in values.items() if name not in contradicted}, contradicted


def decoded(data: bytes, encodings: tuple[str, ...]) -> str | None:
    """Text in the first of `encodings` that fits, or in UTF-16 where the file begins with its mark; None if none."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ("utf-16",)
    for encoding in encodings:
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    return None


def text_rows(text: str, table: str, columns: Iterable[str], sep: str, *, by: str = "") -> Iterator[Row]:
    """Yield rows of delimited text, in file order, cells stripped, one at a time.

    Args:
        text: The whole table.
        table: Its name, for messages.
        columns: Columns that must be there, in any case.
        sep: The separator of the published file. Where the columns are there only with another one, that is taken.
        by: Column by which rows are found. A row that has it, and more or fewer cells than the header, raises
            UnreadableFile only where another of its cells is read, as it is of one sample.

    Cells missing at the end of a row are empty where complete rows have empty cells in those columns, or these have no
    heading: spreadsheets do not save empty cells there. Empty cells behind the last heading are ignored.

    Raises:
        UnreadableFile: If a column is missing, or a row has more or fewer cells than the header.
    """
    columns = tuple(columns)
    marked = re.match(r"sep=(.)\r?\n", text, re.IGNORECASE)  # Excel's own first line
    text = text[marked.end() :] if marked else text
    chosen = _separator(text, table, columns, sep)
    data = text.encode()
    header, empty = list[str](), None
    try:
        for number, cells in _lines(data, chosen):
            if not header:
                header = cells
                continue
            where = f"{table}, line {number}"
            if len(cells) < len(header):
                if empty is None:
                    empty = _empty_columns(data, chosen, header)
                if empty.issuperset(range(len(cells), len(header))):
                    cells += [""] * (len(header) - len(cells))
            while len(cells) > len(header) and not cells[-1]:
                cells.pop()
            named = zip(header, cells, strict=False)
            if len(cells) == len(header):
                yield Row(named, where, decimal_comma=chosen != ",")
                continue
            why = f"has {len(cells)} cells under {len(header)} headings"
            if not by or missing_columns(header[: len(cells)], (by,)):
                raise UnreadableFile(f"{where}, {why}.")
            yield _Damaged(named, where, by, why)
    except csv.Error as error:
        raise UnreadableFile(f"{table} is not a readable table: {error}.") from error


def _lines(data: bytes, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, stripped cells) of every line that is not empty. data: UTF-8; of a text, it takes a quarter."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""), delimiter=separator)
    for number, line in enumerate(reader, start=1):
        if any(cells := [cell.strip() for cell in line]):
            yield number, cells


def _empty_columns(data: bytes, separator: str, header: list[str]) -> set[int]:
    """Return the columns that are empty in the header or another complete line."""
    complete = (cells for _, cells in _lines(data, separator) if len(cells) == len(header))
    return {column for cells in complete for column, cell in enumerate(cells) if not cell}


def _separator(text: str, table: str, columns: tuple[str, ...], sep: str) -> str:
    """Return the separator with which the header has all `columns`: the published one if that fits, else another."""
    lines = text.lstrip("\r\n")
    line = re.split(r"\r\n|\r|\n", lines, maxsplit=1)[0][: 1 << 16]
    headers = {}
    for candidate in (sep, *(other for other in _SEPARATORS if other != sep)):
        try:
            headers[candidate] = [cell.strip() for cell in next(csv.reader([line], delimiter=candidate), [])]
        except csv.Error:
            continue
        if not missing_columns(headers[candidate], columns):
            return candidate
    header = headers.get(sep, [])
    met = max(_SEPARATORS, key=line.count)
    other = (
        f" Its cells are separated by {met!r} where the published table has {sep!r}, as in a table that a spreadsheet "
        "has saved again; take the original."
        if met != sep and line.count(met)
        else ""
    )
    raise UnreadableFile(
        f"{table} has no column {listed(missing_columns(header, columns))}; it has {listed(header)}.{other}"
    )


def missing_columns(header: Iterable[str], columns: Iterable[str]) -> list[str]:
    """Return the columns that a header lacks, whatever the case of its letters."""
    present = {name.casefold() for name in header}
    return [column for column in columns if column.casefold() not in present]


def sheet(data: bytes, table: str, columns: Iterable[str]) -> list[Row]:
    """Return rows of an Excel workbook (.xlsx) as text: whole numbers without a point, None as "".

    The header is the first line that has all `columns`, of the first sheet that has one in its first lines: titles may
    stand above it. Without `columns` it is the first line.

    Raises:
        UnreadableFile: If the file is not a workbook, is larger than any table of a source, or lacks a column.
    """
    columns, met = tuple(columns), []
    for lines in _sheets(data, table):
        for at, (_, header) in enumerate(lines[:_TITLES], start=1):
            if not missing_columns(header, columns):
                rows = ((f"{table}, line {number}", line) for number, line in lines[at:] if any(line))
                # Of empty cells at the end of a line, a workbook need not have any.
                return [
                    Row(itertools.zip_longest(header, line[: len(header)], fillvalue=""), where) for where, line in rows
                ]
            met.append(header)
    if not columns:
        return []
    header = min(met, key=lambda cells: len(missing_columns(cells, columns)), default=[])
    raise UnreadableFile(
        f"{table} has no column {listed(missing_columns(header, columns))}; it has {listed(filter(None, header))}."
    )


def _sheets(data: bytes, table: str) -> Iterator[list[tuple[int, list[str]]]]:
    """Yield the lines (number, cells) of every sheet that has any."""
    import openpyxl

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > _MOST_BYTES:
                raise UnreadableFile(f"{table} unpacks to {size:,} bytes, more than the {_MOST_BYTES:,} allowed.")
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        if not book.worksheets:
            raise UnreadableFile(f"{table} is not a readable Excel workbook: it has no sheet.")
        cells = 0
        for page in book.worksheets:
            lines = []
            for number, line in enumerate(page.values, start=1):
                cells += len(line)
                if cells > _MOST_CELLS:
                    raise UnreadableFile(f"{table} has more than the {_MOST_CELLS:,} cells allowed.")
                if any(value is not None for value in line):
                    lines.append((number, [_cell(value) for value in line]))
            if lines:
                yield lines
    except _NOT_XLSX as error:
        raise UnreadableFile(f"{table} is not a readable Excel workbook: {error}.") from error


def _cell(value: object) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
