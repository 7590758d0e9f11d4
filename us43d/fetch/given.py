"""Files a user has already: the right ones found among others, by name, size and digest; or a tree unpacked before."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from us43d.contract import RawFile, RawTree, Recipe, Route, paths_in
from us43d.errors import MissingRawFile, RawDataError, Us43dError, VerifyError, listed
from us43d.fetch import verify

__all__ = ["Given", "look"]


@dataclass(frozen=True, slots=True)
class Given:
    """What was found. files: raw file → where it lies. tree: path in the raw tree → file, where no archive was given.

    route: the way whose files these are. digests: of each of `files`, by name.
    """

    route: Route | None
    files: tuple[tuple[RawFile, Path], ...] = ()
    tree: tuple[tuple[str, Path], ...] = ()
    digests: tuple[tuple[str, dict[str, str]], ...] = ()


def look(recipe: Recipe, paths: Sequence[Path]) -> Given:
    """The files of `recipe` among `paths` (files, or folders searched to any depth).

    In order: all files of one route; an unpacked tree that the reader accepts; the archives named one by one, whatever
    they are called. Raises MissingRawFile with what was looked for, VerifyError if only damaged files were found.
    """
    for path in paths:
        if not path.exists():
            raise MissingRawFile(f"{path} does not exist.")
    files = [file for path in paths for file in _files(path)]
    damaged: list[VerifyError] = []
    for route in recipe.routes:
        if route.files and (found := _route(route, files, damaged)):
            return found
    refusals = []
    for path in paths:
        if path.is_dir():
            try:
                return Given(None, tree=tuple(_tree(recipe, path)))
            except Us43dError as error:
                refusals.append(f"{path} is no unpacked tree either: {error.what}")
    if damaged:
        damaged[0].next = f"us43d fetch {recipe.name}   (or --from with a good copy)"
        raise damaged[0]
    named = [path for path in paths if path.is_file()]
    if named:
        for path in named:
            try:
                verify.check_type(path, path.name)
            except VerifyError as error:
                error.next = f"us43d fetch {recipe.name}   (or --from with a good copy)"
                raise
        return Given(None, files=tuple((RawFile(name=path.name), path) for path in named))
    wanted = " or ".join(listed(file.name for file in route.files) for route in recipe.routes if route.files)
    raise MissingRawFile(
        f"{recipe.name}: {listed(paths)} holds neither {wanted or 'its files'} nor the unpacked tree. "
        + " ".join(refusals),
        next=f"us43d info {recipe.name}",
    )


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, inner, names in os.walk(path):
        inner.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _plain(name: str) -> str:
    """A name without what browsers add to a second copy: "a (1).zip", "a.zip.1"."""
    return re.sub(r"( \(\d+\)|\(\d+\))(?=(\.[^.]+)?$)", "", name).lower()


def _route(route: Route, files: list[Path], damaged: list[VerifyError]) -> Given | None:
    """All files of a route, or None; what was found but is damaged is noted."""
    chosen, digests = [], []
    for wanted in route.files:
        named = [path for path in files if _plain(path.name) == wanted.name.lower()]
        sized: list[Path] = []
        if not named and wanted.size and (wanted.sha256 or wanted.md5):
            sized = [path for path in files if path.stat().st_size == wanted.size]
        for path in named + sized:
            try:
                verify.check_type(path, wanted.name, wanted.size)
                found = verify.digests(path, md5=wanted.md5 is not None)
                verify.check_digests(str(path), found, md5=wanted.md5, sha256=wanted.sha256)
            except VerifyError as error:
                if path in named:
                    damaged.append(error)
            else:
                chosen.append((wanted, path))
                digests.append((wanted.name, found))
                break
        else:
            return None
    return Given(route, tuple(chosen), digests=tuple(digests))


def _tree(recipe: Recipe, folder: Path) -> Iterator[tuple[str, Path]]:
    """Files of an unpacked tree: whatever lies at its top beside files of other purpose is left out.

    Raises RawDataError where the reader does not know the tree.
    """
    tree = RawTree(folder)
    count = 0
    for sample in recipe.read(tree):
        tree.use(*paths_in(sample))
        count += 1
    if count == 0:
        raise RawDataError(f"the reader finds no sample in {folder}.")
    unread = set(tree.unread({}))
    tops = {key.partition("/")[0] for key in tree if key not in unread}
    for key in tree:
        if key.partition("/")[0] in tops:
            yield key, tree.path(key)
