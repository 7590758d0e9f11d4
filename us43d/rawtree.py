"""The raw tree: a source's unpacked, read-only folder as a reader sees it.

Listed once, sorted, so that nothing depends on the file system's order; remembers what was read, so that a file nobody
accounts for is found.
"""

import csv
import fnmatch
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from us43d.errors import MissingRawFile, RawDataError, UnreadableFile, listed

__all__ = ["ALWAYS_IGNORED", "RawTree", "Row"]

#: Left by desktops and archivers, or about the data, in any source: nobody has seen all archives.
ALWAYS_IGNORED: Mapping[str, str] = {
    "__macosx/*": "resource forks written by macOS",
    "*/__macosx/*": "resource forks written by macOS",
    "._*": "resource fork written by macOS",
    "*/._*": "resource fork written by macOS",
    ".ds_store": "written by macOS",
    "*/.ds_store": "written by macOS",
    "thumbs.db": "written by Windows",
    "*/thumbs.db": "written by Windows",
    "desktop.ini": "written by Windows",
    "*/desktop.ini": "written by Windows",
    **{
        f"{folder}{name}{ending}": "text about the data"
        for folder in ("", "*/")
        for name in ("readme", "license", "licence")
        for ending in ("", ".txt", ".md", ".pdf", ".docx", ".html")
    },
    ".gitattributes": "settings of a repository",
    "*/.gitattributes": "settings of a repository",
    ".gitignore": "settings of a repository",
    "*/.gitignore": "settings of a repository",
}


@lru_cache(maxsize=512)
def _pattern(glob: str) -> re.Pattern[str]:
    """A glob on a relative path: `*` stays inside a folder, `**/` is any folders, no regard to case."""
    parts = []
    for part in re.split(r"(\*\*/|\*|\?|\[[^\]]+\])", glob):
        if part == "**/":
            parts.append("(?:.*/)?")
        elif part == "*":
            parts.append("[^/]*")
        elif part == "?":
            parts.append("[^/]")
        elif part.startswith("[") and part.endswith("]"):
            parts.append(part.replace("[!", "[^"))
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts) + r"\Z", re.IGNORECASE)


class Row(dict[str, str]):
    """One row of a table: column → cell as text."""

    def __init__(self, cells: Iterable[tuple[str, str]], where: str) -> None:
        super().__init__(cells)
        self.where = where

    def number(self, column: str) -> float:
        """A cell as a finite number. Raises UnreadableFile for anything else."""
        try:
            value = float(self[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UnreadableFile(f"{self.where}: {column} is {self[column]!r}, not a number.")
        return value

    def whole(self, column: str) -> int:
        """A cell as a whole number ("3" or "3.0"). Raises UnreadableFile for anything else."""
        value = self.number(column)
        if value != int(value):
            raise UnreadableFile(f"{self.where}: {column} is {self[column]!r}, not a whole number.")
        return int(value)


class _Index(dict[str, Row]):
    """Rows by one column; a value that is not there is an error naming the table."""

    def __init__(self, table: str, by: str) -> None:
        super().__init__()
        self.table, self.by = table, by

    def __missing__(self, value: str) -> Row:
        raise MissingRawFile(f"{self.table} has no row with {self.by} {value!r}.")


class RawTree:
    """Files below one folder. Paths given and returned as keys are relative, with `/`."""

    def __init__(self, root: Path) -> None:
        """Walk `root`. Raises MissingRawFile if it is no folder, RawDataError for links out and unusable names."""
        self.root = root
        self.prefix = ""
        if not root.is_dir():
            raise MissingRawFile(f"{root} is not a folder.")
        self._files = {key: Path(place) for key, place in sorted(_walk(os.fspath(root)))}
        self._used: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def at(self, *folders: str) -> "RawTree":
        """The same tree seen from the folder that holds `folders[0]` (the first of them that exists), at any depth.

        Archives differ in their top folder; keys taken from here do not. The shallowest match wins; two at one depth
        are an error. Raises MissingRawFile if there is none.
        """
        for folder in folders:
            wanted = f"/{folder.lower()}/"
            hits = {
                whole[: ("/" + whole.lower()).index(wanted)]
                for key in self._files
                if wanted in "/" + (whole := key).lower()
            }
            if not hits:
                continue
            least = min(hit.count("/") + bool(hit) for hit in hits)
            nearest = sorted(hit for hit in hits if hit.count("/") + bool(hit) == least)
            if len(nearest) > 1:
                raise RawDataError(f"Several folders in {self.root} are called {folder}: {listed(nearest)}.")
            return self._from(nearest[0])
        raise MissingRawFile(f"No folder in {self.root} is called {' or '.join(folders)}.")

    def _from(self, prefix: str) -> "RawTree":
        view = object.__new__(RawTree)
        view.root = self.root
        view.prefix = self.prefix + prefix
        view._files = {key[len(prefix) :]: path for key, path in self._files.items() if key.startswith(prefix)}
        view._used = self._used
        return view

    def has(self, key: str) -> bool:
        return key in self._files

    def path(self, key: str) -> Path:
        """The file under `key`. Raises MissingRawFile, naming what lies beside it."""
        if key not in self._files:
            folder = key.rpartition("/")[0]
            beside = [other for other in self._files if other.rpartition("/")[0] == folder]
            hint = f" The folder holds {listed(beside, 5)}." if beside else ""
            raise MissingRawFile(f"{self.prefix}{key} is missing in {self.root}.{hint}")
        return self._files[key]

    def glob(self, pattern: str) -> list[str]:
        """Keys that match, sorted. `*` stays inside a folder, `**/` is any folders; no regard to case."""
        match = _pattern(pattern).match
        return [key for key in self._files if match(key)]

    def one(self, pattern: str) -> str:
        """The only key that matches. Raises MissingRawFile if none does, RawDataError if several do."""
        keys = self.glob(pattern)
        if not keys:
            raise MissingRawFile(f"No file in {self.root} matches {self.prefix}{pattern}.")
        if len(keys) > 1:
            raise RawDataError(f"Several files in {self.root} match {self.prefix}{pattern}: {listed(keys)}.")
        return keys[0]

    def use(self, *paths: Path) -> None:
        """Note that these files were read or are referred to by a sample."""
        self._used.update(map(self._whole, paths))

    def _whole(self, path: Path) -> str:
        """The path below the root; by `relative_to`, which is slow, only where it does not plainly begin with it."""
        text, base = path.as_posix(), self.root.as_posix() + "/"
        return text[len(base) :] if text.startswith(base) else path.relative_to(self.root).as_posix()

    def read(self, key: str) -> bytes:
        """The file's bytes. Raises UnreadableFile if the system cannot give them."""
        path = self.path(key)
        self.use(path)
        try:
            return path.read_bytes()
        except OSError as error:
            raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error

    def text(self, key: str, encodings: tuple[str, ...] = ("utf-8-sig",)) -> str:
        """The decoded file, trying `encodings` in order. Raises UnreadableFile if none fits."""
        data = self.read(key)
        for encoding in encodings:
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                continue
        raise UnreadableFile(f"{self.prefix}{key} in {self.root} is not {' or '.join(encodings)} text.")

    def rows(
        self, key: str, columns: Iterable[str], *, sep: str = ",", encodings: tuple[str, ...] = ("utf-8-sig",)
    ) -> Iterator[Row]:
        """Rows of a delimited table as text, in file order, cells stripped, one at a time.

        Raises UnreadableFile if a column of `columns` is missing, or a row has more or fewer cells than the header.
        """
        table = f"{self.prefix}{key} in {self.root}"
        data = io.BytesIO(self.text(key, encodings).encode())  # a StringIO takes four bytes for every character
        reader = csv.reader(io.TextIOWrapper(data, "utf-8", newline=""), delimiter=sep)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            if missing := [column for column in columns if column not in header]:
                raise UnreadableFile(f"{table} has no column {listed(missing)}; it has {listed(header)}.")
            for number, cells in enumerate(reader, start=2):
                if not any(cell.strip() for cell in cells):
                    continue
                where = f"{table}, line {number}"
                if len(cells) != len(header):
                    raise UnreadableFile(f"{where}, has {len(cells)} cells under {len(header)} headings.")
                yield Row(zip(header, map(str.strip, cells), strict=True), where)
        except csv.Error as error:
            raise UnreadableFile(f"{table} is no readable table: {error}.") from error

    def table(
        self, key: str, columns: Iterable[str], *, sep: str = ",", encodings: tuple[str, ...] = ("utf-8-sig",)
    ) -> list[Row]:
        """All `rows` of a table."""
        return list(self.rows(key, columns, sep=sep, encodings=encodings))

    def index(
        self,
        key: str,
        by: str,
        columns: Iterable[str] = (),
        *,
        sep: str = ",",
        encodings: tuple[str, ...] = ("utf-8-sig",),
    ) -> dict[str, Row]:
        """Rows of a table by the value of column `by`.

        Raises UnreadableFile where a value comes twice, and MissingRawFile when one is asked for that is not there.
        """
        found = _Index(f"{self.prefix}{key} in {self.root}", by)
        for row in self.rows(key, (by, *columns), sep=sep, encodings=encodings):
            if row[by] in found:
                raise UnreadableFile(f"{found.table} has two rows with {by} {row[by]!r}.")
            found[row[by]] = row
        return found

    def sheet(self, key: str, columns: Iterable[str]) -> list[Row]:
        """Rows of the first sheet of an Excel workbook (.xlsx) as text: whole numbers without a point, None as "".

        Raises UnreadableFile as `rows` does.
        """
        import zipfile

        import openpyxl

        table = f"{self.prefix}{key} in {self.root}"
        try:
            book = openpyxl.load_workbook(io.BytesIO(self.read(key)), read_only=True, data_only=True)
            lines = [[_cell(value) for value in line] for line in book.worksheets[0].values]
        except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
            raise UnreadableFile(f"{table} is no readable Excel workbook: {error}.") from error
        header = lines[0] if lines else []
        if missing := [column for column in columns if column not in header]:
            raise UnreadableFile(f"{table} has no column {listed(missing)}; it has {listed(header)}.")
        return [
            Row(zip(header, line, strict=False), f"{table}, line {number}")
            for number, line in enumerate(lines[1:], start=2)
            if any(line)
        ]

    def unread(self, ignore: Mapping[str, str]) -> list[str]:
        """Files that were neither used nor match a pattern of `ignore` or ALWAYS_IGNORED."""
        patterns = [re.compile(fnmatch.translate(pattern.lower())) for pattern in (*ALWAYS_IGNORED, *ignore)]
        whole = map(self._whole, self._files.values())
        return [key for key in whole if key not in self._used and not any(p.match(key.lower()) for p in patterns)]


def _cell(value: object) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _walk(root: str) -> Iterator[tuple[str, str]]:
    """(key, path) of every file below `root`; links to folders are not entered."""
    real = os.path.realpath(root)
    folders = [("", root)]
    while folders:
        prefix, folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError as error:
            raise RawDataError(f"{folder} cannot be listed: {error.strerror}.") from error
        for entry in found:
            key = prefix + entry.name
            try:
                key.encode("utf-8")
            except UnicodeEncodeError as error:
                raise RawDataError(f"The name of {os.fsencode(entry.path)!r} is not UTF-8.") from error
            if not entry.is_symlink():
                if entry.is_dir():
                    folders.append((key + "/", entry.path))
                else:
                    yield key, entry.path
                continue
            if Path(entry.path).is_dir():
                continue
            target = os.path.realpath(entry.path)
            if not Path(target).is_relative_to(real):
                raise RawDataError(f"{entry.path} is a link that leads out of the raw tree, to {target}.")
            if not Path(entry.path).exists():
                raise RawDataError(f"{entry.path} is a link that leads nowhere, to {target}.")
            yield key, entry.path
