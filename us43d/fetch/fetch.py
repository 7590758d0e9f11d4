"""Fetching a source: its ways in order, download, verify, unpack, receipt.

The order: files on disk, files the user gave, the origin, then mirrors. A licence must have been accepted
before the first byte (`us43d.fetch.ledger`).
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Literal, TypeAlias

from us43d import atomic
from us43d.contract import RawFile, Recipe, Route
from us43d.errors import (
    ArchiveError,
    DamagedArchive,
    FetchError,
    LoginError,
    ManualFileError,
    MissingRawFile,
    RawDataError,
    UnreadableFile,
    Us43dError,
    UsageError,
    VerifyError,
    counted,
    listed,
)
from us43d.fetch import download, given, ledger, owner, store, verify
from us43d.fetch.hosts import by_hand, resolve
from us43d.fetch.hosts.common import unnamed
from us43d.fetch.http import Remote, Web
from us43d.fetch.unpack import unpack
from us43d.paths import Home
from us43d.rawtree import folded
from us43d.specimen import Specimen

__all__ = ["Fetched", "Plan", "fetch", "fetch_specimen", "here", "plan"]

Progress: TypeAlias = Callable[[int, int | None], None]
#: Opens a progress bar, from a description and a unit.
Bars: TypeAlias = Callable[[str, str], AbstractContextManager[Progress]]


#: What the hosts' steps call the folder that they do not know.
_FOLDER = "the downloads folder of this source"


@contextmanager
def _no_bar(what: str, unit: str) -> Iterator[Progress]:
    yield lambda done, total: None


@dataclass(frozen=True, slots=True)
class Fetched:
    """state: "done", or "already there". said: one sentence, which way it came and how far it is trusted."""

    name: str
    state: Literal["done", "already there"]
    said: str
    raw: Path
    receipt: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What fetching a source would do, from the facts alone.

    size: bytes, of all files or as stated of the whole; None where neither is published. estimate: size is one.
    least: bytes that are known to be needed: size, or the sum over the files whose size is published.
    """

    name: str
    way: str
    files: tuple[str, ...]
    size: int | None
    least: int
    estimate: bool
    here: bool


def here(home: Home, recipe: Recipe) -> dict[str, Any] | None:
    """Return the receipt of a source whose real raw tree is on disk; {} for a tree put there by hand; else None."""
    if not home.raw(recipe.name).is_dir():
        return None
    try:
        receipt = store.receipt(home, recipe.name)
    except MissingRawFile:
        return {}
    return None if receipt["kind"] == "specimen" else receipt


def plan(recipe: Recipe, home: Home) -> Plan:
    """Return what `fetch` would do first, without network access."""
    route = next(iter(recipe.ways), None)
    download = recipe.download
    try:
        present = here(home, recipe) is not None
    except PermissionError:  # of another user; the fetch itself reports it
        present = False
    return Plan(
        recipe.name,
        _called(route) if route else "no known download source",
        tuple(file.name for file in route.files) if route else (),
        download.value if download else None,
        download.value if download else sum(file.size or 0 for file in route.files) if route else 0,
        download is not None and download.estimate,
        present,
    )


def fetch(
    recipe: Recipe,
    home: Home,
    web: Web,
    *,
    from_: Sequence[Path] = (),
    jobs: int = 4,
    force: bool = False,
    bars: Bars = _no_bar,
) -> Fetched:
    """Bring a source to raw/<Name>, or find it there.

    Args:
        recipe: The recipe of the source.
        home: Home to download into.
        web: Session for all requests.
        from_: Files or folders the user has.
        jobs: Number of files of the source that are downloaded at once.
        force: Check and unpack files on disk again, download damaged ones, and accept files that their host has changed
            since the first download.
        bars: Opens a progress bar.

    Returns:
        State, trust and receipt of the raw tree.

    Raises:
        LicenceError: If the licence was not accepted.
        ManualFileError: If a person must download files; the message has the steps.
        FetchError: If all download sources failed.
        VerifyError: If a file has a wrong size or digest.
        ArchiveError: If an archive is damaged or refused.
        StorageError: If the disk is full or cannot be written.
        Busy: If another process fetches the source.
    """
    if not force and not from_ and (receipt := here(home, recipe)) is not None:
        return _there(recipe, home, receipt)
    licence = ledger.require(home, recipe)
    with (
        atomic.storage_errors(
            home.root, "No raw tree was written." if from_ else "The received bytes are kept; the next run resumes."
        ),
        store.alone(home, recipe.name),
    ):
        if not force and not from_ and (receipt := here(home, recipe)) is not None:  # another process was quicker
            return _there(recipe, home, receipt)
        work = _Work(recipe, home, web, jobs, force, bars, store.Receipt(home, recipe.name))
        try:
            summary = work.from_given(from_, licence) if from_ else work.from_routes(licence)
        finally:
            _tidy(home.downloads(recipe.name))
        return Fetched(recipe.name, "done", summary, home.raw(recipe.name), work.record.data)


def fetch_specimen(
    recipe: Recipe, make: Specimen, home: Home, *, scale: int = 1, force: bool = False, bars: Bars = _no_bar
) -> Fetched:
    """Write the specimen of a source as its raw tree: equal on every machine; its receipt has kind "specimen".

    force: though real data are there. Raises UsageError if they are, and StorageError.
    """
    import numpy as np

    if here(home, recipe) is not None and not force:
        raise UsageError(
            f"{home.raw(recipe.name)} holds the real data of {recipe.name}; a specimen would replace them.",
            next=f"us43d fetch {recipe.name} --specimen --home OTHER_FOLDER",
        )
    with (
        atomic.storage_errors(home.root, "No raw tree was written."),
        store.alone(home, recipe.name),
        bars(f"{recipe.name}: specimen", "files"),
        store.making_raw(home, recipe.name) as tree,
    ):
        seed = int.from_bytes(hashlib.sha256(recipe.slug.encode()).digest()[:8], "big")
        make(tree, np.random.default_rng(seed), scale)
        summary = "specimen: simulated images in the published form, no real data"
        record = store.Receipt(home, recipe.name)
        store.finish_raw(home, recipe.name, tree, record, kind="specimen", said=summary, licence=None, route=None)
    return Fetched(recipe.name, "done", summary, home.raw(recipe.name), record.data)


def _there(recipe: Recipe, home: Home, receipt: Mapping[str, Any]) -> Fetched:
    summary = receipt.get("said") or "without a receipt, so put there by hand"
    return Fetched(recipe.name, "already there", summary, home.raw(recipe.name), receipt)


def _called(route: Route) -> str:
    name = f"{route.kind} {route.record or route.url or ''}".strip()
    return f"{name} (mirror)" if route.mirror else name


def _tidy(folder: Path) -> None:
    """Remove what ended processes left among the parts, but not parts that can still be resumed.

    A part and its note need each other; a process killed while it finishes a file leaves the note alone.
    """
    parts = folder / store.PARTS
    with suppress(OSError):
        for path in parts.iterdir():
            other = path.with_suffix("") if path.suffix == ".json" else path.with_name(f"{path.name}.json")
            lone = path.suffix in (".part", ".json") and not other.exists()
            if (lone or path.suffix == ".tmp") and owner.abandoned(path):
                path.unlink(missing_ok=True)
        parts.rmdir()


class _Work:
    """One source being fetched by this process."""

    def __init__(
        self, recipe: Recipe, home: Home, web: Web, jobs: int, force: bool, bars: Bars, record: store.Receipt
    ) -> None:
        self.recipe, self.home, self.web, self.jobs, self.force, self.bars = recipe, home, web, jobs, force, bars
        self.record = record
        self.folder = home.downloads(recipe.name)

    # ------------------------------------------------------------------------------------------------- download sources

    def from_given(self, paths: Sequence[Path], licence: dict[str, Any]) -> str:
        """Take what a user has; archives of a published name that are damaged or of something else are passed over."""
        paths = [path.expanduser().absolute() for path in paths]
        passed, faults = set[Path](), list[Us43dError]()
        offer = given.look(self.recipe, paths)
        while True:
            try:
                summary = self._from_offer(offer, licence)
                return "; passed over: ".join([summary, *(fault.what.rstrip(".") for fault in faults)])
            except (RawDataError, ArchiveError) as error:
                faults.append(error)
                if offer.route is None:
                    raise faults[0] from None
            passed |= {path for _, path in offer.files}
            try:
                offer = given.look(self.recipe, paths, passed)
            except Us43dError:
                raise faults[0] from None

    def _from_offer(self, offer: given.Given, licence: dict[str, Any]) -> str:
        ways = [
            (*((RawFile(name=path.name), path) for path in archives), *beside)
            for archives in offer.candidates
            for beside in dict.fromkeys((offer.files, ()))  # an archive may hold what lies beside it, too
        ]
        for number, files in enumerate(ways, start=1):
            try:
                return self._from_files(given.Given(None, files), licence)
            except (RawDataError, ArchiveError):
                if number == len(ways) and not offer.tree:
                    raise
        if offer.tree:
            return self._raw_from_tree(offer, licence)
        return self._from_files(offer, licence)

    def _from_files(self, offer: given.Given, licence: dict[str, Any]) -> str:
        """Take archives that the user has. Archives without a published digest must have content the reader knows."""
        digests = dict(offer.digests)
        places = {file.name: path for file, path in offer.files}
        remotes = [Remote.of(file) for file, _ in offer.files]
        entries = {}
        for file, path in offer.files:
            digest = digests.get(file.name) or verify.digests(path)
            trust = "published digest" if file.sha256 or file.md5 else "published size" if file.size else "first use"
            if offer.doubt or not offer.route:
                trust = "first use"
            entries[file.name] = {
                "date": store.now(), "bytes": path.stat().st_size, **digest, "trust": trust, "from": "the user",
            }  # fmt: skip

        def keep() -> None:
            """Put the archives among the downloads, now that they are known to be of use."""
            for name, path in places.items():
                target = self.folder / name
                if not (target.exists() and target.samefile(path)):
                    target.unlink(missing_ok=True)
                    atomic.link_or_copy(path, target)
                self.record.note(name, entries[name])

        names = listed((file.name for file, _ in offer.files), 3)
        how = _trust(entries, remotes)
        if offer.doubt or not offer.route:
            how = f"UNVERIFIED: {offer.doubt or 'under no name that is published'}"
        summary = f"from {names} as given, {how}"
        known = all(file.sha256 or file.md5 for file, _ in offer.files if file.unpack)
        arrange = not known or how.startswith("UNVERIFIED")
        return self._raw_from_archives(
            remotes, "given", offer.route, summary, licence, places=places, keep=keep, arrange=arrange
        )

    def from_routes(self, licence: dict[str, Any]) -> str:
        """Return the first way that works. Raises what went wrong with all of them."""
        for route in self.recipe.ways:
            if (remotes := self._downloaded(route)) is not None:
                summary = f"from {_called(route)}, already downloaded, {_trust(self.record.data['files'], remotes)}"
                return self._raw_from_archives(remotes, "download", route, summary, licence)
        if any(route.kind in by_hand.KINDS for route in self.recipe.ways) and self._placed():
            with suppress(MissingRawFile):  # under other names than the published ones, or unpacked
                return self.from_given([self.folder], licence)
        failures: list[tuple[Route, Us43dError]] = []
        for route in self.recipe.ways:
            try:
                remotes = self._by_network(route)
                summary = (
                    f"from {_called(route)}, {_trust(self.record.data['files'], remotes)}{self._mirror(route, remotes)}"
                )
                return self._raw_from_archives(remotes, "download", route, summary, licence)
            except (FetchError, ManualFileError, ArchiveError) as error:
                failures.append((route, error))
                if self.web.stopped.is_set():
                    raise
        raise self._failed(failures)

    def _downloaded(self, route: Route) -> list[Remote] | None:
        """Return the files of a route, if all are in the downloads folder and in order."""
        remembered = self.record.data.get("route")
        if route.files:
            remotes = [Remote.of(file) for file in route.files]
        elif remembered and remembered["way"] == _called(route):
            remotes = [Remote(**file) for file in remembered["files"]]
        elif route.kind in by_hand.KINDS:  # the names are unpublished: take the files that a person put there
            remotes = [unnamed(name) for name in self._placed()]
        else:
            remotes = []
        return remotes if remotes and all(self._has(remote) for remote in remotes) else None

    def _placed(self) -> list[str]:
        """Return the names of what is in the downloads folder, without the command's own files."""
        return [name for name, _ in store.walk(self.folder) if not store.is_ours(name)]

    def _has(self, remote: Remote) -> bool:
        """Return whether the downloads folder has the right file; record a file that is new there.

        Raises VerifyError for a wrong file that was put there by hand, as the command does not replace those.
        """
        path = self.folder / remote.name
        if not path.is_file():
            return False
        entry = self.record.entry(remote.name)
        size = path.stat().st_size
        if entry and entry["bytes"] == size and not self.force:
            return remote.sha256 in (None, entry["sha256"])
        try:
            if remote.unpack or remote.url or remote.size:  # what lies in an unpacked tree, the reader sees
                verify.check_type(path, remote.name, remote.size)
            digests = verify.digests(path, md5=remote.md5 is not None)
            verify.check_digests(remote.name, digests, md5=remote.md5, sha256=remote.sha256)
        except VerifyError as error:
            if entry:
                return False
            error.what = f"{self.recipe.name}: {error.what}"
            error.disk = f"{path} was left as it is."
            error.next = f"replace or remove {path}, then: us43d fetch {self.recipe.name}"
            raise
        if entry and entry["sha256"] != digests["sha256"]:
            return False
        if entry is None:
            trust = "published digest" if remote.sha256 or remote.md5 else "first use"
            entry = {"date": store.now(), "bytes": size, "trust": trust, "from": "found in the folder", **digests}
            self.record.note(remote.name, entry)
        return True

    def _by_network(self, route: Route) -> list[Remote]:
        remotes = resolve(route, self.web)
        if not remotes:
            raise FetchError(f"{_called(route)} lists no file.")
        todo = [remote for remote in remotes if not self._has(remote)]
        size = sum(remote.size or 0 for remote in todo)
        # Unpacked, an archive takes at least its own size once more.
        store.check_room(self.home.root, 2 * size, f"{self.recipe.name} ({size / 1e9:,.1f} GB, and as much unpacked)")
        with self.bars(self.recipe.name, "B") as progress:
            self._download(todo, progress)
        return remotes

    def _download(self, todo: Sequence[Remote], progress: Progress) -> None:
        """Download several files at once. The first failure ends the others after their current block."""
        lock = threading.Lock()
        done, unsized = 0, sum(remote.size is None for remote in todo)
        total = sum(remote.size or 0 for remote in todo)

        def one(remote: Remote) -> None:
            mine, size = 0, remote.size

            def moved(now: int, length: int | None) -> None:
                nonlocal done, unsized, total, mine, size
                with lock:
                    if size is None and length is not None:
                        size, unsized, total = length, unsized - 1, total + length
                    done, mine = done + now - mine, now
                    progress(done, None if unsized else total)

            entry = self.record.entry(remote.name)
            known = entry["sha256"] if entry and not self.force else None
            got = download.download(remote, self.folder, self.web, moved, known=known)
            self.record.note(remote.name, got.entry())

        try:
            with ThreadPoolExecutor(max(1, min(self.jobs, len(todo) or 1)), thread_name_prefix="fetch") as pool:
                futures = [pool.submit(one, remote) for remote in todo]
                try:
                    for future in futures:
                        future.result()
                except BaseException as error:
                    if not isinstance(error, Exception):  # Ctrl-C: let no thread go on
                        self.web.stop()
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
        finally:
            if todo:
                self.record.save()

    def _mirror(self, route: Route, remotes: Sequence[Remote]) -> str:
        """Return the remark on files that did not come from their origin."""
        if not route.mirror:
            return ""
        origin = {digest for way in self.recipe.ways if not way.mirror for file in way.files
                  for digest in (file.sha256, file.md5) if digest}  # fmt: skip
        got = [verify.digests(self.folder / remote.name, md5=True) for remote in remotes] if origin else []
        agree = bool(got) and all(origin & set(digests.values()) for digests in got)
        return ", the same as the origin's" if agree else "; UNVERIFIED: not known to be what the origin has"

    # ------------------------------------------------------------------------------------------------- to the raw tree

    def _raw_from_archives(
        self,
        remotes: Sequence[Remote],
        kind: str,
        route: Route | None,
        summary: str,
        licence: dict[str, Any],
        *,
        places: Mapping[str, Path] | None = None,
        keep: Callable[[], None] = lambda: None,
        arrange: bool = False,
    ) -> str:
        """Unpack into the raw tree.

        places: where archives lie that are not among the downloads. keep: called when they have proved to be of use.
        arrange: the reader must know the tree, perhaps under another top folder.
        """
        places = places or {}
        archives: dict[str, list[Path]] = {}
        for remote in remotes:
            if remote.unpack:
                archives.setdefault(remote.into, []).append(places.get(remote.name, self.folder / remote.name))
        before = store.listing(self.home, self.recipe.name) if self.record.data["kind"] != "specimen" else {}
        remarks: list[str] = []
        with store.making_raw(self.home, self.recipe.name) as tree:
            try:
                for into, paths in sorted(archives.items()):
                    target = tree / into
                    target.mkdir(parents=True, exist_ok=True)
                    with self.bars(f"{self.recipe.name}: unpacking", "B") as progress:
                        moved = self._stoppable(progress)
                        remarks += unpack(paths, target, nested=self.recipe.nested, progress=moved)
            except ArchiveError as error:
                self._distrust(remotes)
                self._explain(error, by_user=kind == "given")
                raise
            for remote in remotes:
                if not remote.unpack:
                    target = tree / remote.into / remote.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    atomic.link_or_copy(places.get(remote.name, self.folder / remote.name), target)
            if arrange:
                remarks += self._arrange(tree)
            keep()
            summary += "".join(f"; {remark}" for remark in remarks)
            way = {
                "way": _called(route) if route else "given",
                "url": route.url if route else None,
                "files": [{**_plain(remote), "headers": {}} for remote in remotes],
            }
            store.finish_raw(
                self.home, self.recipe.name, tree, self.record, kind=kind, said=summary, licence=licence, route=way
            )
        generated = any(remote.generated for remote in remotes)
        return summary + (self._compared(before) if before and generated else "")

    def _arrange(self, tree: Path) -> Sequence[str]:
        """Move the files of a tree to where the reader looks for them; return remarks on samples that cannot be read.

        Raises RawDataError where the reader knows no file.
        """
        try:
            layout = given.layout(self.recipe, tree)
        except RawDataError as error:
            what, next_ = error.what.replace(str(tree), "it"), f"us43d info {self.recipe.name}"
            inside = listed(name for name, path in store.walk(tree) if path.is_file() and given.is_archive(path))
            if inside:
                what += f" It holds archives: {inside}."
                next_ = f"us43d fetch {self.recipe.name} --from FOLDER   (after unpacking it: the one with {inside})"
            raise RawDataError(
                f"{self.recipe.name}: the unpacked files are not this source's data: {what}",
                disk="No raw tree was written.",
                next=next_,
            ) from error
        for key, path in layout.files:
            target = tree / key
            if path != target:
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
        for folder, _, _ in os.walk(tree, topdown=False):
            with suppress(OSError):  # those that are not empty stay
                Path(folder).rmdir()
        tree.mkdir(exist_ok=True)
        return layout.remarks

    def _stoppable(self, progress: Progress) -> Progress:
        """Return a bar whose work ends when the session is stopped."""

        def moved(done: int, total: int | None) -> None:
            if self.web.stopped.is_set():
                self.web.wait(0)  # raises
            progress(done, total)

        return moved

    def _raw_from_tree(self, offer: given.Given, licence: dict[str, Any]) -> str:
        """Link or copy a tree. Once its inner archives are unpacked, the reader must know it."""
        files, remarks = offer.tree, list(offer.remarks)
        how = "; its inner archives were unpacked" if offer.packed else ""
        summary = f"from {counted(len(files), 'file')} of an unpacked tree as given, {self._digests_of(files)}{how}"
        before = store.listing(self.home, self.recipe.name) if self.record.data["kind"] != "specimen" else {}
        with store.making_raw(self.home, self.recipe.name) as tree, self.bars(self.recipe.name, "files") as progress:
            for n, (key, path) in enumerate(files, start=1):
                target = tree / key
                if not os.access(path, os.R_OK):
                    raise UnreadableFile(
                        f"{path} cannot be read: permission is denied.", next=f"ls -l {quote(str(path))}"
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                atomic.link_or_copy(path.resolve(), target)  # of a link, the file
                progress(n, len(files))
            if offer.packed:
                try:
                    remarks += unpack([], tree, nested=self.recipe.nested, present=[key for key, _ in files])
                except ArchiveError as error:
                    self._explain(error, by_user=True)
                    raise
                remarks += self._arrange(tree)
            summary += "".join(f"; {remark}" for remark in remarks)
            facts = {"kind": "given", "said": summary, "licence": licence, "route": None}
            store.finish_raw(self.home, self.recipe.name, tree, self.record, **facts)
        return summary + (self._compared(before) if before else "")

    def _digests_of(self, files: Sequence[tuple[str, Path]]) -> str:
        """Compare a tree with the published digests of single files."""
        paths = {folded(key): path for key, path in files}
        known = {
            folded(f"{file.into}/{file.name}".strip("/")): file
            for route in self.recipe.routes
            for file in route.files
            if not file.unpack and (file.sha256 or file.md5)
        }
        wrong = []
        for key in sorted(known.keys() & paths.keys()):
            file, digests = known[key], verify.digests(paths[key], md5=True)
            if file.sha256 not in (None, digests["sha256"]) or file.md5 not in (None, digests["md5"]):
                wrong.append(file.name)
        if wrong:
            differ = counted(len(wrong), "file has", "files have")
            return f"UNVERIFIED: {differ} another digest than published: {listed(wrong, 3)}"
        count = len(known.keys() & paths.keys())
        return f"{count:,} of them with digests as published" if count else "not verified against anything published"

    def _explain(self, error: ArchiveError, *, by_user: bool) -> None:
        """Add the source's name and a next command to the error of an archive, which the user gave or not."""
        error.what = f"{self.recipe.name}: {error.what}"
        options = "" if by_user else " --force"
        if isinstance(error, DamagedArchive):
            options += "   (or --from with a good copy)"
        elif by_user:
            options = " --from FOLDER   (after unpacking it with another program)"
        error.next = error.next or f"us43d fetch {self.recipe.name}{options}"

    def _distrust(self, remotes: Sequence[Remote]) -> None:
        """Forget files without published digest that cannot be unpacked; the next run fetches them again."""
        for remote in remotes:
            entry = self.record.entry(remote.name)
            if entry and "url" in entry and entry["trust"] not in {"published digest", "same as before"}:
                (self.folder / remote.name).unlink(missing_ok=True)
                self.record.data["files"].pop(remote.name)
        self.record.save()

    def _compared(self, before: Mapping[str, str]) -> str:
        """Return how the raw tree differs from the previous one, file by file."""
        after = store.listing(self.home, self.recipe.name)
        missing, extra = set(before) - set(after), set(after) - set(before)
        changed = [path for path in set(before) & set(after) if before[path] != after[path]]
        if not (missing or extra or changed):
            return "; its content is the same, file by file, as before"
        return f"; its content CHANGED: {len(changed)} files changed, {len(missing)} missing, {len(extra)} new"

    # --------------------------------------------------------------------------------------------------- what to say

    def _failed(self, failures: Sequence[tuple[Route, Us43dError]]) -> Us43dError:
        """Return one error for all download sources: the manual steps if only those remain, else the failures."""
        name, recipe = self.recipe.name, self.recipe
        by_hand = [error for _, error in failures if isinstance(error, ManualFileError)]
        if len(by_hand) == len(failures):
            kind = LoginError if any(isinstance(error, LoginError) for error in by_hand) else ManualFileError
            state = "not available" if recipe.access == "unavailable" else "only to be got by hand"
            summary = f"{name} is {state} (access: {recipe.access}, checked {recipe.access_checked})."
            steps = [error.what.replace(_FOLDER, f"{self.folder}/") for error in by_hand]
            if not steps:
                steps = [f"See {recipe.homepage}. Where you have the files: us43d fetch {name} --from FOLDER"]
            return kind(
                "\n".join(filter(None, (summary, recipe.access_note, "\nOr:\n".join(steps)))),
                disk=f"The folder {self.folder} was made; nothing else changed.",
                next=f"us43d fetch {name}   (or, from any other folder: us43d fetch {name} --from FOLDER)",
            )
        worst = next(error for _, error in failures if not isinstance(error, ManualFileError))
        reasons = [f"{_called(route)}: {error.what.replace(_FOLDER, f'{self.folder}/')}" for route, error in failures]
        if len(failures) == 1:
            what = worst.what if worst.what.startswith(f"{name}:") else f"{name}: {worst.what}"
        else:
            lines = "\n".join(f"  - {reason}" for reason in reasons)
            what = f"All {len(failures)} download sources for {name} failed:\n{lines}"
        again = f"us43d fetch {name}"
        page = failures[0][0].url or recipe.homepage
        if isinstance(worst, VerifyError) or "browser" in worst.next or not worst.next:
            next_ = f"fetch it in a browser from {page}, put it into {self.folder}/, then: {again}"
        else:
            next_ = worst.next.replace("the same command", again)
        return type(worst)(what, disk=worst.disk, next=next_)


def _plain(remote: Remote) -> dict[str, Any]:
    kept = ("name", "url", "size", "md5", "sha256", "generated", "unpack", "into")
    return {name: getattr(remote, name) for name in kept}


def _trust(entries: Mapping[str, Mapping[str, Any]], remotes: Sequence[Remote]) -> str:
    """Return the trust in the files, in words; the least trusted file decides."""
    words = {
        "first use": "digest recorded at this first use",
        "content": "made on the fly, content recorded file by file",
        "published size": "size as published, digest recorded at this first use",
        "same as before": "digest as at the first download",
        "published digest": "digest as published",
    }
    kinds = {entries.get(remote.name, {}).get("trust", "first use") for remote in remotes}
    return next((sentence for kind, sentence in words.items() if kind in kinds), "")
