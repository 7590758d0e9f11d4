"""What a source takes on disk, and removing of it what can be had again."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple

from us43d import atomic
from us43d.contract import Recipe
from us43d.errors import Busy, MissingRawFile, StorageError
from us43d.fetch import owner, store
from us43d.paths import Home

__all__ = ["Taken", "look", "remove"]


class Taken(NamedTuple):
    """kind "by hand": files that a person had to get, which are never removed. files: the archives meant."""

    name: str
    kind: Literal["archives", "by hand", "leftovers", "raw tree", "builds"]
    bytes: int
    path: Path
    files: tuple[str, ...] = ()


def look(home: Home, recipe: Recipe) -> Iterator[Taken]:
    """List the files of a source. Archives count as such only after they were unpacked."""
    folder, raw = home.downloads(recipe.name), home.raw(recipe.name)
    try:
        entries = store.receipt(home, recipe.name)["files"]
    except MissingRawFile:
        entries = {}
    sizes = {name: _bytes(path) for name, path in store.walk(folder)}
    fetched = {name: size for name, size in sizes.items() if "url" in entries.get(name, {}) and raw.is_dir()}
    if fetched:
        yield Taken(recipe.name, "archives", sum(fetched.values()), folder, tuple(fetched))
    mine = {name: size for name, size in sizes.items() if name not in fetched and not store.is_ours(name)}
    if mine:
        yield Taken(recipe.name, "by hand", sum(mine.values()), folder, tuple(mine))
    for left in _leftovers(home, recipe.name):
        yield Taken(recipe.name, "leftovers", _size(left), left)
    if raw.is_dir():
        yield Taken(recipe.name, "raw tree", _size(raw), raw)
    if home.builds(recipe.name).is_dir():
        yield Taken(recipe.name, "builds", _size(home.builds(recipe.name)), home.builds(recipe.name))


def _leftovers(home: Home, name: str) -> Iterator[Path]:
    """Return partial files and temporary folders whose process has ended."""
    for folder, prefix in ((home.downloads(name) / store.PARTS, ""), (home.raw(name).parent, f".{name}.")):
        if folder.is_dir():
            yield from (path for path in sorted(folder.glob(f"{prefix}*")) if owner.ended(path.name) is not False)


def _size(path: Path) -> int:
    return _bytes(path) if path.is_file() or path.is_symlink() else sum(_bytes(file) for _, file in store.walk(path))


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # another process has removed it
        return 0


def remove(home: Home, going: Sequence[Taken]) -> None:
    """Remove what `look` found. The receipt stays and notes which archives are gone. Raises Busy, StorageError."""
    with ExitStack() as locks:
        for name in sorted({item.name for item in going}):
            busy = Busy(
                f"{name} is being fetched or built by another process.", next="us43d clean   (when it has ended)"
            )
            for folder in filter(Path.is_dir, (home.downloads(name), home.builds(name))):
                locks.enter_context(atomic.alone(folder / ".lock", busy))
        for item in going:
            try:
                _remove(home, item)
            except PermissionError as error:  # which names a file within a folder, without that
                raise StorageError(
                    f"{item.path} cannot be removed: permission is denied.",
                    disk="Some files may have been removed.",
                    next=shlex.join(["ls", "-ld", str(item.path.parent), str(item.path)]),
                ) from error


def _remove(home: Home, item: Taken) -> None:
    if item.kind == "archives":
        record = store.Receipt(home, item.name)
        for name in item.files:
            (item.path / name).unlink(missing_ok=True)
            record.data["files"][name]["removed"] = store.now()
        record.save()
    elif item.path.is_dir():
        store.remove_tree(item.path)
    else:
        item.path.unlink(missing_ok=True)
