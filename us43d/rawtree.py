"""The raw tree: a source's unpacked, read-only folder as a reader sees it.

Listed once, sorted, so that nothing depends on the file system's order; remembers what was read, so that unread
files are found.
"""

import fnmatch
import os
import posixpath
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from us43d import limits, rawtable
from us43d.errors import ASTRAY, MissingFolder, MissingRawFile, RawDataError, UnreadableFile, listed
from us43d.rawtable import Row, identifier

if TYPE_CHECKING:
    from xml.etree import ElementTree

__all__ = ["ALWAYS_IGNORED", "CONTROL", "RawTree", "Row", "Stop", "folded", "is_litter", "literal", "special"]

#: Names that desktops, drives and tools leave in any folder. They are in no listing, and match no pattern.
_LITTER = frozenset({
    "__macosx", ".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "@eadir", ".spotlight-v100",
    ".fseventsd", ".ipynb_checkpoints", ".git", "icon\r", "$recycle.bin", "system volume information", "lost+found",
})  # fmt: skip
#: How such names begin: AppleDouble, a table that is open in Excel or LibreOffice, the trash of a drive.
_LITTER_BEGINS = ("._", "~$", ".~lock.", ".trash")
#: Characters that no name may have, as a terminal may take them for commands: C0, DEL and C1.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LETTERS = re.compile(r"[^\W\d_]+")
#: Files about the data, in any source; not all archives were seen.
ALWAYS_IGNORED: Mapping[str, str] = {
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
def _pattern(glob: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """A glob on a relative path (see `RawTree.glob`), and its literals.

    Every wildcard is a group, between the literals: `literals[0] + group 1 + literals[1] + …` is the path.
    """
    expression, literals = [], [""]
    for token in re.split(r"(\*\*/|\*|\?|\[[^\]]+\]|\{[^}]+\})", glob):
        if token == "**/":
            expression.append("((?:.*/)?)")
        elif token == "*":
            expression.append("([^/]*)")
        elif token == "?":
            expression.append("([^/])")
        elif token.startswith("{") and token.endswith("}"):
            expression.append(f"({'|'.join(map(re.escape, token[1:-1].split(',')))})")
        elif token.startswith("[") and token.endswith("]"):
            expression.append(f"({token.replace('[!', '[^')})")
        else:
            expression.append(re.escape(token))
            literals[-1] += token
            continue
        literals.append("")
    return re.compile("".join(expression) + r"\Z", re.IGNORECASE), tuple(literals)


def _spelled(match: re.Match[str], literals: tuple[str, ...]) -> str:
    """The matched path with the case of the pattern where that has letters, and so the ending that was published."""
    text = literals[0]
    for literal, wild in zip(literals[1:], match.groups(), strict=True):
        ending = text.rpartition(".")[2]
        within = "." in text.rpartition("/")[2] and ending.islower() and not set(wild) & {".", "/"}
        text += (wild.lower() if within and not literal else wild) + literal
    return text


def _by_folded(files: Iterable[str], root: Path, unusable: dict[str, RawDataError] | None = None) -> dict[str, str]:
    """Return key as it is compared → key. Raises RawDataError where two files differ in nothing else, or notes it."""
    real: dict[str, str] = {}
    twice = []
    for key in files:
        if (other := real.setdefault(folded(key), key)) != key:
            twice.append((other, key))
    if twice:
        error = RawDataError(
            f"Files in {root} have names that differ only in upper and lower case: {listed(map(' and '.join, twice))}.",
            next=f"{shlex.join(['ls', '-l', *(str(root / key) for key in twice[0])])}   (then remove one)",
        )
        if unusable is None:
            raise error
        unusable.update({key: error for _, key in twice})
    return real


class _Index(dict[str, Row]):
    """Rows by one column, found in any case; a value that is not there is an error naming the table."""

    def __init__(self, table: str, by: str) -> None:
        super().__init__()
        self.table, self.by = table, by

    @cached_property
    def _spelled(self) -> dict[str, str]:
        return {folded(value): value for value in self}

    def __contains__(self, value: object) -> bool:
        return super().__contains__(value) or (isinstance(value, str) and folded(identifier(value)) in self._spelled)

    def __missing__(self, value: str) -> Row:
        if (spelled := self._spelled.get(folded(identifier(value)))) is not None:
            return self[spelled]
        raise UnreadableFile(f"{self.table} has no row with {self.by} {value!r}.")


class Stop(NamedTuple):
    """A sample, or a volume or video, that a reader cannot read."""

    key: str
    why: str


class RawTree:
    """Files below one folder. Paths given and returned as keys are relative, with `/`."""

    def __init__(
        self, root: Path, *, hide: Iterable[str] = (), collect: bool = False, note_unusable: bool = False
    ) -> None:
        """Walk `root`.

        hide: patterns (as those of `unread`) of files that are passed over as if they were not there.
        collect: a file that is asked for and missing is noted in `missing`, and a sample that cannot be read in
            `stopped`, for the caller to look at, not raised.
        note_unusable: links out and unusable names are noted in `unusable`, not raised, as in a folder that holds other
            things, too.
        Raises MissingRawFile if `root` is not a folder, RawDataError for links out and unusable names.
        """
        self.root = root
        self.prefix = ""
        #: Path of a file that was asked for and is not there → what to say of it.
        self.missing: dict[Path, str] = {}
        #: Pattern of `hide` → the files it hid.
        self.hidden: dict[str, list[str]] = {pattern: [] for pattern in hide}
        #: Samples that could not be read, in the reader's order.
        self.stopped: list[Stop] = []
        #: Path below the root of what cannot be used → the error.
        self.unusable: dict[str, RawDataError] = {}
        self._asked: dict[Path, None] = {}
        self._collect = collect
        if not root.is_dir():
            raise MissingRawFile(f"{root} is not a folder.")
        unusable = self.unusable if note_unusable else None
        listing = sorted(_walk(os.fspath(root), unusable))
        self._files = {key: Path(place) for key, place in listing if not self._hides(key)}
        self._real = _by_folded(self._files, root, unusable)
        self._used: set[str] = set()

    def _hides(self, key: str) -> bool:
        for pattern, keys in self.hidden.items():
            if fnmatch.fnmatchcase(key.lower(), pattern.lower()):
                keys.append(key)
                return True
        return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def at(self, *folders: str) -> "RawTree":
        """The same tree seen from the folder that holds `folders[0]` (the first of them that exists), at any depth.

        Archives differ in their top folder; keys taken from here do not. The shallowest match wins; two at one depth
        are an error. Of a folder in one of its own name, the inner one is meant. Raises MissingRawFile if no
        file matches.
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
            return self._from(nearest[0])._once(folder)
        error = MissingFolder(f"No folder in {self.root} is called {' or '.join(folders)}.")
        error.folders = folders
        raise error

    def _once(self, folder: str) -> "RawTree":
        """Return the view without the outer one of folders of one name, as archives unpacked into a folder make them.

        Folders beside `folder` count likewise. Files beside the outer one keep their place, such as a table.
        """
        inside: dict[str, list[str]] = {}
        for first, _, rest in (key.partition("/") for key in self._files):
            inside.setdefault(first, []).append(rest.lower())
        outer = {
            first for first, rests in inside.items() if all(rest.startswith(f"{first.lower()}/") for rest in rests)
        }
        if folder.lower() not in map(str.lower, outer):
            return self
        view = self._from("")
        parts = ((key, key.partition("/"), path) for key, path in self._files.items())
        view._files = {rest if first in outer else key: path for key, (first, _, rest), path in parts}
        view._real = _by_folded(view._files, self.root)
        return view._once(folder)

    def _from(self, prefix: str) -> "RawTree":
        view = object.__new__(RawTree)
        view.root = self.root
        view.prefix = self.prefix + prefix
        view._files = {key[len(prefix) :]: path for key, path in self._files.items() if key.startswith(prefix)}
        view._real = {folded(key): key for key in view._files}
        view._used, view.missing, view.hidden, view._collect = self._used, self.missing, self.hidden, self._collect
        view.stopped, view._asked, view.unusable = self.stopped, self._asked, self.unusable
        return view

    def spelled(self, words: Iterable[str], letters: Literal["lower", "upper"] | None) -> "RawTree":
        """The same tree with names as published, in whatever case, and with accents composed in whatever way, on disk.

        words: runs of letters as published. letters: the case of all others; None: as on disk.
        """
        published = {word.casefold(): word for word in words}

        def run(match: re.Match[str]) -> str:
            word = match[0]
            other = word.lower() if letters == "lower" else word.upper() if letters == "upper" else word
            if other.casefold() != word.casefold():  # upper() makes an I of the dotless i: another letter
                other = word
            return published.get(word.casefold(), other)

        view = self._from("")
        names = ((_LETTERS.sub(run, unicodedata.normalize("NFC", key)), path) for key, path in view._files.items())
        view._files = dict(sorted(names))
        view._real = {folded(key): key for key in view._files}
        return view

    def under(self, folder: str, top: str, *, beside: bool = False) -> "RawTree":
        """The files below one folder ("" or ending in `/`) as if they lay below `top` (likewise), on their own.

        beside: with all that lies beside the folder, where it is: a table of the source may.
        """
        above = folder.rpartition("/")[0].rpartition("/")[0]
        view = self._from((f"{above}/" if above else "") if beside else folder)
        own = folder.removeprefix(view.prefix)
        view._files = {
            f"{top}{key.removeprefix(own)}" if key.startswith(own) else key: path for key, path in view._files.items()
        }
        view._real = {folded(key): key for key in view._files}
        view.prefix, view._used, view.missing, view.stopped, view._asked = "", set(), {}, [], {}
        return view

    def without(self, *names: str) -> "RawTree":
        """The same view, on its own, without the files at these paths below the root."""
        view = self.under("", "")
        view._files = {key: path for key, path in view._files.items() if self.name(path) not in names}
        view._real = {folded(key): key for key in view._files}
        return view

    def has(self, key: str) -> bool:
        """Return whether there is a file under `key`, in whatever case."""
        return folded(key) in self._real

    def path(self, key: str) -> Path:
        """Return the file under `key`, in whatever case. Raises MissingRawFile, naming what lies beside it.

        With `collect`, a file that is missing gets the path at which it should be.
        """
        real = self._real.get(folded(key))
        if real is None and self._collect:
            path = self.root / f"{self.prefix}{key}"
            self._asked[path] = None
            self.missing[path] = f"{self.prefix}{key} is missing{self._saved_as(key)}"
            return path
        if real is None:
            folder = key.rpartition("/")[0]
            beside = [other for other in self._files if other.rpartition("/")[0] == folder]
            hint = f" The folder holds {listed(beside, 5)}." if beside else ""
            raise MissingRawFile(f"{self.prefix}{key} is missing in {self.root}.{hint}")
        path = self._files[real]
        self._asked.pop(path, None)  # asked for again, it is the last
        self._asked[path] = None
        return path

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Open a block that reads the files and rows of one sample; if it fails, the reader continues with the next.

        With `collect` the sample is noted in `stopped`, and the files that were asked for in the block count as read.

        Args:
            key: Of the sample, or file of its volume or video.
        """
        self._asked.clear()
        try:
            yield
        except (RawDataError, *ASTRAY) as error:
            if not self._collect:
                raise
            lacking = [self.missing.pop(path) for path in self._asked if path in self.missing]
            self.use(*self._asked)
            why = self.plain(error.what if isinstance(error, RawDataError) else f"{type(error).__name__}: {error}.")
            self.stopped.append(Stop(key, f"{listed(lacking)}." if lacking else why))

    def plain(self, message: str) -> str:
        """Return a message as on any machine: without the folder in which the raw tree lies."""
        return message.replace(f"{self.root.as_posix()}/", "").replace(f" in {self.root}", "")

    def _saved_as(self, key: str) -> str:
        """Return the hint that a missing file is there with another ending, as after a conversion; "" if not."""
        real = self._by_stem.get(folded(posixpath.splitext(key)[0]))
        return f" (there is {posixpath.basename(real)})" if real else ""

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        return {folded(posixpath.splitext(key)[0]): key for key in self._files}

    def glob(self, pattern: str) -> list[str]:
        """Return the keys that match, sorted. `*` stays inside a folder, `**/` is any folders; no regard to case.

        `{a,b}` is one of these names. Where the published folders are known it is better than `*`: files in a folder of
        another name (`a (1)`) stay unread, and the build reports them, while keys and groups would follow its name.

        Where the pattern has letters, the keys have its case, so that a file saved as .PNG has the key of the published
        .png.
        """
        expression, literals = _pattern(pattern)
        return sorted(_spelled(match, literals) for match in map(expression.match, self._files) if match)

    def one(self, pattern: str) -> str:
        """Return the only key that matches. Raises MissingRawFile if none does, RawDataError if several do."""
        keys = self.glob(pattern)
        if not keys:
            raise MissingRawFile(f"No file in {self.root} matches {self.prefix}{pattern}.")
        if len(keys) > 1:
            raise RawDataError(f"Several files in {self.root} match {self.prefix}{pattern}: {listed(keys)}.")
        return keys[0]

    @property
    def asked_last(self) -> str:
        """Path below the root of the last file asked for since a `reading` block began; "" if none."""
        return self.name(next(reversed(self._asked))) if self._asked else ""

    def use(self, *paths: Path) -> None:
        """Note that these files were read or are referred to by a sample."""
        self._used.update(map(self.name, paths))

    def is_used(self, key: str) -> bool:
        """Return whether the file under a key was read or is referred to by a sample."""
        return self.name(self.path(key)) in self._used

    def has_file(self, name: str) -> bool:
        """Return whether a file lies at this path below the root, in whatever case."""
        return folded(name.removeprefix(self.prefix)) in self._real

    def name(self, path: Path) -> str:
        """The path below the root; by `relative_to`, which is slow, only where it does not plainly begin with it."""
        text, base = path.as_posix(), self.root.as_posix() + "/"
        return text[len(base) :] if text.startswith(base) else path.relative_to(self.root).as_posix()

    def read(self, key: str) -> bytes:
        """Return the file's bytes. Raises UnreadableFile if the system cannot give them."""
        path = self.path(key)
        if path in self.missing:
            raise MissingRawFile(f"{self.missing[path]} in {self.root}.")
        self.use(path)
        try:
            return path.read_bytes()
        except OSError as error:
            raise UnreadableFile(
                f"{path} cannot be read: {error.strerror}.", next=shlex.join(["ls", "-l", str(path)])
            ) from error

    def text(self, key: str, encodings: tuple[str, ...] = ("utf-8-sig",)) -> str:
        """Return the decoded file, by the first of `encodings` that fits, or UTF-16 by its mark.

        Raises UnreadableFile, also for an empty file, and one of zero bytes as a full disk leaves it.
        """
        data = self.read(key)
        if not data.strip(b"\0"):
            why = f"holds {len(data):,} zero bytes" if data else "is empty"
            raise UnreadableFile(f"{self.prefix}{key} in {self.root} {why}.")
        if (text := rawtable.decoded(data, encodings)) is None:
            names = " or ".join(name.removesuffix("-sig").upper() for name in encodings)
            raise UnreadableFile(f"{self.prefix}{key} in {self.root} is not {names} text.")
        return text

    def json(self, key: str, encodings: tuple[str, ...] = ("utf-8-sig",)) -> Any:
        """Return the content of a JSON file. Raises UnreadableFile if it is damaged, or nested without end."""
        try:
            return limits.parsed_json(self.text(key, encodings))
        except ValueError as error:
            raise UnreadableFile(f"{self.prefix}{key} in {self.root} is not readable JSON: {error}.") from error

    def xml(self, key: str) -> "ElementTree.Element":
        """Return the root of an XML file. Raises UnreadableFile if it is damaged, or has entities, which could grow."""
        from xml.etree import ElementTree

        import defusedxml
        import defusedxml.ElementTree as safe

        try:
            root: ElementTree.Element = safe.fromstring(self.read(key), forbid_dtd=False)
        except (ElementTree.ParseError, defusedxml.DefusedXmlException, ValueError, LookupError) as error:
            raise UnreadableFile(f"{self.prefix}{key} in {self.root} is not readable XML: {error}.") from error
        return root

    def rows(
        self, key: str, columns: Iterable[str], *, sep: str = ",", encodings: tuple[str, ...] = ("utf-8-sig",)
    ) -> Iterator[Row]:
        """Return rows of a delimited table as text, in file order, cells stripped, one at a time.

        sep: as published; another one is understood, too, where a spreadsheet has saved the table again.
        Raises UnreadableFile if a column of `columns` is missing, or a row has more or fewer cells than the header.
        """
        return rawtable.text_rows(self.text(key, encodings), f"{self.prefix}{key} in {self.root}", columns, sep)

    def table(
        self, key: str, columns: Iterable[str], *, sep: str = ",", encodings: tuple[str, ...] = ("utf-8-sig",)
    ) -> list[Row]:
        """Return all `rows` of a table."""
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
        """Return rows of a table or workbook (.xlsx) by the value of column `by`, of which 12.0 is 12.

        A value is found in any case. Raises UnreadableFile where two different rows have one value, where a value is
        requested that is not there, and where another cell is read of a row with more or fewer cells than the header.
        """
        table = _Index(f"{self.prefix}{key} in {self.root}", by)
        wanted = (by, *columns)
        if key.lower().endswith(".xlsx"):
            rows: Iterable[Row] = self.sheet(key, wanted)
        else:
            rows = rawtable.text_rows(self.text(key, encodings), table.table, wanted, sep, by=by)
        for row in rows:
            if table.setdefault(row.identifier(by), row) != row:
                raise UnreadableFile(f"{table.table} has two different rows with {by} {row[by]!r}.")
        return table

    def sheet(self, key: str, columns: Iterable[str]) -> list[Row]:
        """Rows of an Excel workbook (.xlsx) as text: whole numbers without a point, None as "".

        Taken is the first sheet whose first lines have a header with all `columns`; titles may stand above it.
        Raises UnreadableFile as `rows` does.
        """
        return rawtable.sheet(self.read(key), f"{self.prefix}{key} in {self.root}", columns)

    def unread(self, ignore: Mapping[str, str]) -> list[str]:
        """Return the files that were not used and match no pattern of `ignore` or ALWAYS_IGNORED."""
        patterns = [re.compile(fnmatch.translate(pattern.lower())) for pattern in (*ALWAYS_IGNORED, *ignore)]
        whole = map(self.name, self._files.values())
        return [key for key in whole if key not in self._used and not any(p.match(key.lower()) for p in patterns)]


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name (without its folders) is what desktops, network drives and tools leave."""
    return name.casefold().startswith(_LITTER_BEGINS) or name.casefold() in _LITTER


def literal(file: str) -> str:
    """Return a name as a pattern of `hide` that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in file)


def special(path: str | Path) -> RawDataError:
    """Return the error for a pipe, socket or device, which nothing may open."""
    what = f"{path} is neither a file nor a folder (a pipe, socket or device)."
    return RawDataError(what, next=f"{shlex.join(['ls', '-l', str(path)])}   (then move it elsewhere)")


def folded(key: str) -> str:
    """Return a key as it is compared: without regard to case, and to how accents are composed."""
    return key.casefold() if key.isascii() else unicodedata.normalize("NFC", key).casefold()


def _walk(root: str, unusable: dict[str, RawDataError] | None) -> Iterator[tuple[str, str]]:
    """Yield (key, path) of every file below `root`. A link to a folder is listed as a file would be, and not entered.

    Raises RawDataError for links out of the tree and names that cannot be used, or notes them in `unusable` by key;
    and for what is neither file nor folder, which is not opened.
    """
    real = os.path.realpath(root)
    folders = [("", root)]
    while folders:
        prefix, folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                inside = [entry for entry in entries if not is_litter(entry.name)]
        except OSError as error:
            raise RawDataError(
                f"{folder} cannot be listed: {error.strerror}.", next=shlex.join(["ls", "-ld", folder])
            ) from error
        for entry in inside:
            key = prefix + entry.name
            if (fault := _fault(entry, root, real)) is not None:
                if unusable is None:
                    raise fault
                unusable[key] = fault
            elif entry.is_dir(follow_symlinks=False):
                folders.append((key + "/", entry.path))
            elif not (entry.is_file() or entry.is_dir()):
                raise special(entry.path)
            else:
                yield key, entry.path


def _fault(entry: os.DirEntry[str], root: str, real: str) -> RawDataError | None:
    """Return why an entry of a folder below `root` cannot be used. real: `root` without links."""
    fault = "has control characters" if CONTROL.search(entry.name) else ""
    try:
        entry.name.encode("utf-8")
    except UnicodeEncodeError:
        fault = "is not UTF-8"
    if fault:
        ls = shlex.join(["ls", "-b", str(Path(entry.path).parent)])
        return RawDataError(f"The name of {os.fsencode(entry.path)!r} {fault}.", next=f"{ls}   (then rename it)")
    if not entry.is_symlink():
        return None
    target = os.path.realpath(entry.path)
    if not Path(target).is_relative_to(real):
        return RawDataError(
            f"{entry.path} is a link out of the raw tree, to {target}.",
            next=shlex.join(["cp", "-rL", root, "COPY"]) + "   (then the same command --from COPY)",
        )
    if not Path(entry.path).exists():
        return RawDataError(f"{entry.path} is a broken link to {target}.", next=f"ls -l {shlex.quote(entry.path)}")
    return None
