"""Files a user has already: the right ones found among others, by name, size and digest; or a tree unpacked before."""

import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from us43d import specimen
from us43d.atomic import is_dir
from us43d.contract import RawFile, RawTree, Recipe, Route, paths_in
from us43d.errors import (
    ArchiveError,
    MissingFolder,
    MissingRawFile,
    RawDataError,
    RecipeError,
    UnreadableFile,
    Us43dError,
    VerifyError,
    command,
    counted,
    listed,
)
from us43d.fetch import store, verify, zips
from us43d.fetch.parts import completed
from us43d.fetch.unpack import is_nested
from us43d.rawtree import folded, is_litter, literal, special

__all__ = ["Given", "Layout", "is_archive", "layout", "look"]

#: Folders of a tree that are tried as its top, and how deep they may lie.
_MOST_TOPS, _DEPTH = 40, 3
#: What browsers, file managers and hosts add to the name of a second copy.
_COPY = re.compile(r"( ?\(\d+\)| - copy| copy|[ _-]\d{1,2}|-master|-main|-[0-9a-f]{40})$", re.IGNORECASE)
#: First bytes of zip, RAR, 7z, gzip, xz, bzip2 and zstandard; and where a tar has its own.
_ARCHIVES = (
    b"PK\x03\x04", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd",
)  # fmt: skip
_TAR = slice(257, 262)
#: Endings of files that are zip or gzip inside, and no archives of a source.
_PACKED_OTHERS = (
    ".xlsx",
    ".xlsm",
    ".docx",
    ".pptx",
    ".ods",
    ".odt",
    ".npz",
    ".nii.gz",
    ".svgz",
    ".json.gz",
    ".pth",
    ".pt",
)
#: Endings of other files that a source may have beside its archives.
_DATA = (".csv", ".tsv", ".txt", ".json", ".xml", ".npy", ".mat", ".h5", ".hdf5")
#: Pattern of a nested archive that names no more than its ending.
_ANY = re.compile(r"[*/]*\.\w+")
_ENDING = re.compile(r"(\.tar)?\.\w{1,5}$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Given:
    """Files that were found. files: raw file → its path. tree: path in the raw tree → file, where no archive was given.

    packed: archives that lay inside the published one are still to be unpacked in that tree.
    route: the way whose files these are. digests: of each of `files`, by name. candidates: archives of other names that
    may hold the tree, one or several together, the likeliest first; the first that do are taken, with `files`, which
    the source has beside its archive, and before a `tree`, which then lacks files.
    doubt: what speaks against the files. remarks: on samples and tables of the tree that cannot be read.
    """

    route: Route | None
    files: tuple[tuple[RawFile, Path], ...] = ()
    tree: tuple[tuple[str, Path], ...] = ()
    packed: bool = False
    digests: tuple[tuple[str, dict[str, str]], ...] = ()
    candidates: tuple[tuple[Path, ...], ...] = ()
    doubt: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tree lies for the reader. files: path in the raw tree → file.

    lacking: samples that lack a file or cannot be read. remarks: on the samples and tables that cannot be read.
    """

    files: tuple[tuple[str, Path], ...]
    samples: int
    lacking: int
    remarks: tuple[str, ...] = ()


def look(recipe: Recipe, paths: Sequence[Path], passed: Collection[Path] = ()) -> Given:
    """Return the files of `recipe` among `paths` (files, or folders searched to any depth), without those `passed`.

    In order: all files of one route; an unpacked tree that the reader accepts and that is complete; the archives named
    one by one, whatever they are called; a tree whose inner archives nobody has unpacked; archives in the folders that
    list what the source's tree has, or its inner archives; an unpacked tree that lacks files. Raises MissingRawFile
    with what was looked for, VerifyError if only damaged files were found.
    """
    for path in paths:
        if not path.exists():
            nearest = next(place for place in path.parents if is_dir(place))
            raise MissingRawFile(f"{path} does not exist.", next=shlex.join(["ls", str(nearest)]))
    files = [file for path in paths for file in _files(path) if file not in passed]
    damaged: list[VerifyError] = []
    others = []
    for route in recipe.routes:
        if route.files and (offer := _route(route, files, damaged)):
            if not offer.doubt:
                return offer
            others.append(offer)
    if others:
        return others[0]
    refusals: list[tuple[Path, Us43dError]] = []
    trees = []
    for path in paths:
        if path.is_dir():
            try:
                trees.append(layout(recipe, path))
            except Us43dError as error:
                refusals.append((path, error))
    whole = [
        tree for tree in trees if not (tree.lacking or tree.remarks) and tree.samples >= (recipe.expect.images or 0)
    ]
    if whole:
        return Given(None, tree=whole[0].files)
    archives = [path for path in files if is_archive(path)]
    if trees:
        candidates, remarks = tuple(_likely(recipe, archives)), trees[0].remarks
        return Given(None, _beside(recipe, files), trees[0].files, candidates=candidates, remarks=remarks)
    again = f"us43d fetch {recipe.name}   (or --from with a good copy)"
    if damaged:
        damaged[0].next = again
        raise damaged[0]
    if named := [path for path in paths if path.is_file() and path not in passed]:
        try:
            for path in named:
                verify.check_type(path, path.name)
            parts = completed(named, zips.disks_before)
        except (VerifyError, ArchiveError) as error:
            error.next = again
            raise
        return Given(None, files=tuple((RawFile(name=path.name, unpack=not _is_data(path)), path) for path in parts))
    for path in paths:
        if path.is_dir() and (packed := _packed(recipe, path)):
            return Given(None, tree=packed, packed=True)
    if likely := _likely(recipe, archives):
        return Given(None, _beside(recipe, files), candidates=tuple(likely))
    for _, refusal in refusals:
        if isinstance(refusal, UnreadableFile):  # the tree is there
            raise UnreadableFile(f"{recipe.name}: {refusal.what}", next=refusal.next or again)
    names = dict.fromkeys(listed(file.name for file in route.files) for route in recipe.routes if route.files)
    wanted = " or ".join(names)
    hint = f" Archives there: {listed(archives, 3)}; to take one of them, name it." if archives else ""
    next_ = f"us43d info {recipe.name}   (its download sources)"
    if archives:
        words = [word for path in _together(recipe, archives) or archives[:1] for word in ("--from", path)]
        next_ = command("fetch", recipe.name, *words)
    raise MissingRawFile(
        f"{recipe.name}: {listed(paths)} holds neither {wanted or 'its files'} nor the unpacked tree.{hint} "
        + " ".join(f"{path} is not the unpacked tree either: {refusal.what}" for path, refusal in refusals),
        next=next((refusal.next for _, refusal in refusals if refusal.next), next_),
    )


def _files(path: Path) -> Iterator[Path]:
    """Return the regular files at or below a path. Raises RawDataError for a pipe, socket or device."""
    if not path.is_dir():
        if not path.is_file():
            raise special(path)
        yield path
        return
    for name, file in store.walk(path):
        if file.is_file() and not any(is_litter(step) for step in name.split("/")):
            yield file


def _spellings(name: str) -> Iterator[str]:
    """Yield a name as it is, and without what is added to copies: "a (1).zip", "a 2.zip", "a - Copy.zip", "a.zip.1"."""
    name = name.lower()
    yield name
    name = re.sub(r"\.\d{1,2}$", "", name)
    ending = match[0] if (match := _ENDING.search(name)) else ""
    stem = name.removesuffix(ending)
    yield f"{stem}{ending}"
    while (shorter := _COPY.sub("", stem)) not in (stem, ""):
        stem = shorter
        yield f"{stem}{ending}"


def _called(files: list[Path], wanted: str, others: Iterable[str]) -> list[Path]:
    """The files of that name; then those of its name but for what is added to copies, and of none of the others."""
    names = {wanted.lower(), re.sub(r"-[0-9a-f]{40}(?=\.\w+$)", "", wanted.lower())}  # a branch instead of a commit
    taken_names = {other.lower() for other in others}
    exact = [path for path in files if path.name.lower() == wanted.lower()]
    copies = (path for path in files if path not in exact and path.name.lower() not in taken_names)
    return exact + [path for path in copies if names.intersection(_spellings(path.name))]


def _route(route: Route, files: list[Path], damaged: list[VerifyError]) -> Given | None:
    """Return all files of a route, or None; add damaged files to `damaged`."""
    chosen, digests, doubts = [], [], []
    for wanted in route.files:
        named = _called(files, wanted.name, (file.name for file in route.files))
        sized: list[Path] = []
        if not named and wanted.size and (wanted.sha256 or wanted.md5):
            sized = [path for path in files if path.stat().st_size == wanted.size]
        sound: list[tuple[Path, dict[str, str], str]] = []
        for path in named + sized:
            try:
                verify.check_type(path, wanted.name)
            except VerifyError as error:
                damaged.append(error)
                continue
            digest = verify.digests(path, md5=wanted.md5 is not None)
            doubt = _doubt(wanted, path, digest)
            if path in named or not doubt:
                sound.append((path, digest, doubt))
            if not doubt:
                break
        if not sound:
            return None
        path, digest, doubt = min(sound, key=lambda candidate: bool(candidate[2]))
        chosen.append((wanted, path))
        digests.append((wanted.name, digest))
        doubts += [doubt] if doubt else []
    return Given(route, tuple(chosen), digests=tuple(digests), doubt="; ".join(doubts))


def _doubt(wanted: RawFile, path: Path, digest: dict[str, str]) -> str:
    """Return how a file of the right name differs from the published one; "" without a known difference."""
    if wanted.size is not None and path.stat().st_size != wanted.size:
        return f"{path.name} has {path.stat().st_size:,} bytes, the published file {wanted.size:,}"
    try:
        verify.check_digests(path.name, digest, md5=wanted.md5, sha256=wanted.sha256)
    except VerifyError:
        return f"{path.name} has another digest than the published file"
    return ""


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive by its first bytes, and not one of the other formats that begin so."""
    if path.name.lower().endswith(_PACKED_OTHERS):
        return False
    with path.open("rb") as file:
        begin = file.read(_TAR.stop)
    return begin.startswith(_ARCHIVES) or begin[_TAR] == b"ustar"


def _is_data(path: Path) -> bool:
    """Return whether a file is data to place as it is, not an archive or a part of one."""
    return path.name.lower().endswith((*_PACKED_OTHERS, *_DATA)) and not is_archive(path)


def _beside(recipe: Recipe, files: list[Path]) -> tuple[tuple[RawFile, Path], ...]:
    """Return the files that the source has beside its archives, such as a table, by their published names."""
    plain = {
        name: RawFile(name=name, unpack=False)
        for name in _published(recipe.slug)
        if "/" not in name and name.lower().endswith((".xlsx", *_DATA))
    }
    plain |= {file.name: file for route in recipe.routes for file in route.files if not file.unpack}
    return tuple((file, called[0]) for file in plain.values() if (called := _called(files, file.name, plain)))


def _packed(recipe: Recipe, folder: Path) -> tuple[tuple[str, Path], ...]:
    """Return the files of a folder that holds the source's inner archives; none if there are no such archives.

    A pattern that names an ending alone, such as *.zip, would take any download: there, nothing else may lie beside.
    """
    names = [name for name, file in store.walk(folder) if file.is_file()]
    own = [pattern for pattern in recipe.nested if not _ANY.fullmatch(pattern.rstrip("/"))]
    if any(is_nested(name, own) for name in names) or all(is_nested(name, recipe.nested) for name in names):
        return tuple((name, folder / name) for name in names)
    return ()


def _likely(recipe: Recipe, archives: list[Path]) -> list[tuple[Path, ...]]:
    """Return the zips that list what the source's tree has, or its inner archives; the best first.

    All of them together come first where each has something that the others lack, else last.
    """
    wanted = set(map(_kind, _published(recipe.slug)))
    alike: dict[Path, set[tuple[str, str]]] = {}
    for path, names in _listings(archives):
        kinds = set(map(_kind, names)) & wanted
        if any(is_nested(name, recipe.nested) for name in names) or (wanted and len(kinds) * 2 >= len(wanted)):
            alike[path] = kinds
    best = sorted(alike, key=lambda path: (-len(alike[path]), path))
    single = [(path,) for path in best]
    together = [tuple(best)] if len(best) > 1 else []
    apart = together and len(set().union(*alike.values())) > len(alike[best[0]])
    return [*together, *single] if apart else [*single, *together]


def _together(recipe: Recipe, archives: list[Path]) -> list[Path]:
    """Return the zips that add something that the source's tree has, such as one of its folders in each."""
    lacking, paths = set(map(_kind, _published(recipe.slug))), list[Path]()
    for path, names in _listings(archives):
        if kinds := lacking.intersection(map(_kind, names)):
            lacking -= kinds
            paths.append(path)
    return paths


def _listings(archives: list[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Yield the zips among archives, each with the names of its members."""
    for path in archives:
        with suppress(ArchiveError, OSError):
            yield path, list(zips.names(path))


def _kind(name: str) -> tuple[str, str]:
    """Return (folder a file lies in, ending): what copies of one tree have in common."""
    path = Path(name.replace("\\", "/"))
    return path.parent.name.lower(), path.suffix.lower()


@lru_cache(maxsize=1)
def _published(slug: str) -> tuple[str, ...]:
    """Return the paths of a tree as published, as the specimen has them; none without a specimen."""
    import tempfile

    import numpy as np

    try:
        make = specimen.of_source(slug)
    except RecipeError:
        return ()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), np.random.default_rng(0))
        return tuple(name for name, _ in store.walk(Path(folder)))


# ------------------------------------------------------------------------------------------------------ unpacked trees


def layout(recipe: Recipe, folder: Path) -> Layout:
    """Return the layout of the tree in a folder that the reader accepts: as it is, or below another top folder.

    Files outside the folder that holds the source's are ignored, also those that cannot be used. Raises RawDataError if
    the reader accepts no layout.
    """
    tree = RawTree(folder, collect=True, note_unusable=True)
    try:
        return _arranged(recipe, tree)
    except UnreadableFile:
        raise
    except RawDataError as error:
        raise next(iter(tree.unusable.values()), error) from error


def _arranged(recipe: Recipe, tree: RawTree) -> Layout:
    """Return the fullest layout that the reader accepts. Raises RawDataError."""
    tops, as_it_is = list(_tops(tree)), tree.under("", "")
    try:
        return _accepted(recipe, as_it_is)
    except MissingFolder as error:
        ways = [(top, f"{name}/", [True, False]) for name in error.folders for top in tops]
        first: RawDataError = error
    except UnreadableFile as error:  # the tree, or a copy of it: a folder in it that can be read may be only a part
        if as_it_is.missing:  # the reader stumbled over that
            error.what = f"{listed(as_it_is.missing.values(), 3)} in {tree.root}."
        raise
    except RawDataError as error:  # of a tree that holds several copies, each for itself may do
        ways = [(top, "", [False]) for top in tops[1:]]
        first = error
    best: Layout | None = None
    unread: RawDataError | None = None
    for top, name, choices in ways:
        for beside in choices:
            try:
                accepted = _accepted(recipe, tree.under(top, name, beside=beside))
            except MissingRawFile:
                continue
            except UnreadableFile as error:  # without what lies beside it, a table would silently be missing
                unread = unread or error
                break
            except RawDataError as error:  # all that the tree should have is there
                unread = unread or error
                continue
            if best is None or accepted.samples - accepted.lacking > best.samples - best.lacking:
                best = accepted
            break
    if best is None:
        raise unread or first
    return best


def _tops(tree: RawTree) -> Iterator[str]:
    """Yield folders that may be the top, the outer ones first, each as a prefix of keys."""
    prefixes = {""}
    for key in tree:
        steps = key.split("/")[:-1]
        prefixes |= {"/".join(steps[:depth]) + "/" for depth in range(1, min(len(steps), _DEPTH) + 1)}
    yield from sorted(prefixes, key=lambda top: (top.count("/"), top))[:_MOST_TOPS]


def _accepted(recipe: Recipe, tree: RawTree) -> Layout:
    """Return the layout of a tree that the reader knows, if need be without a table that cannot be read.

    Raises RawDataError where the reader does not know it, or hardly.
    """
    folders = [path for path in map(tree.path, tree) if path.is_dir()]  # links, which are not entered
    damaged, readable, first = dict[str, str](), tree, None
    while True:
        try:
            samples, lacking = _read(recipe, readable)
            break
        except RawDataError as error:
            first = first or error
            file = readable.asked_last
            key = next((key for key in readable if readable.name(readable.path(key)) == file), "")
            if not (key and isinstance(error, UnreadableFile)):
                raise first from None
            damaged[key] = tree.plain(error.what)
            readable = readable.without(file)
    unreadable = [f"{stop.key}: {stop.why}" for stop in readable.stopped]
    samples, lacking = samples + len(unreadable), lacking + len(unreadable)
    if samples == 0:
        raise RawDataError(f"the reader finds no sample in {tree.root}.")
    if 2 * lacking > samples:
        few = listed([*readable.missing.values(), *unreadable], 3)
        kind = UnreadableFile if unreadable else RawDataError
        raise kind(f"{lacking} of {samples} samples in {tree.root} lack a file or cannot be read: {few}.")
    used = [key for key in tree if key in damaged or readable.is_used(key)]
    files = tuple((key, tree.path(key)) for key in filter(_around(used), tree))
    here = _around([tree.name(tree.path(key)) for key in used])
    if unusable := [error for name, error in tree.unusable.items() if here(name)]:
        raise UnreadableFile(unusable[0].what, next=unusable[0].next)
    _require_whole(tree, {path for _, path in files}, folders)
    files = tuple((key, path) for key, path in files if path not in folders)
    remark = (
        f"{counted(len(unreadable), 'sample')} cannot be read: {listed(unreadable, 3)}"
        f" (skipped and recorded by: us43d build {recipe.name} --skip-bad)"
    )
    remarks: tuple[str, ...] = (remark,) if unreadable else ()
    if damaged:
        ignored = command("build", recipe.name, *(word for key in damaged for word in ("--ignore", literal(key))))
        remarks += (f"{' '.join(damaged.values())} (built without {listed(damaged)} by: {ignored})",)
    return Layout(files, samples, lacking, remarks)


def _around(names: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a path lies in the folder that these have in common; where they have none, in a top folder of one.

    Other folders are of something else.
    """
    top = posixpath.commonpath([posixpath.dirname(name) for name in names])
    tops = {name.partition("/")[0] for name in names}
    return lambda name: name.startswith(f"{top}/") if top else name.partition("/")[0] in tops


def _require_whole(tree: RawTree, chosen: set[Path], folders: Iterable[Path]) -> None:
    """Raise UnreadableFile for a link to a folder among the chosen files whose own files are not all chosen."""
    for link in chosen.intersection(folders):
        target = link.resolve()
        inside = (path for path in map(tree.path, tree) if path.resolve().is_relative_to(target))
        if not chosen.issuperset(inside):
            raise UnreadableFile(
                f"{link} is a link to the folder {target}, whose files would be missing.",
                next=f"{shlex.join(['cp', '-rL', str(tree.root), 'COPY'])}   (then the same command --from COPY)",
            )


def _read(recipe: Recipe, tree: RawTree) -> tuple[int, int]:
    """Return the number of samples that can be read, and of those that lack a file. Raises RawDataError."""
    samples = lacking = 0
    keys = set[str]()
    for sample in recipe.samples(tree):
        if (key := folded(sample.key)) in keys:
            raise RawDataError(f"{sample.key} is there twice in {tree.root}.")
        keys.add(key)
        tree.use(*paths_in(sample))
        samples += 1
        lacking += any(path in tree.missing for path in paths_in(sample))
    return samples, lacking
