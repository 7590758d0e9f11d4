"""What fetching keeps on disk: receipts, the raw tree, room for both.

downloads/<Name>/receipt.json   where each file came from: URL, date, bytes, sha256, ETag, how far it is trusted
downloads/<Name>/raw.sha256     digest of every file of the raw tree, in the form `sha256sum -c` reads
downloads/<Name>/.parts/        what is still arriving
raw/<Name>/                     the raw tree, read-only; made under another name and renamed when complete
"""

import datetime
import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from us43d import atomic
from us43d.errors import Busy, MissingRawFile, StorageError, UnreadableFile
from us43d.fetch import owner
from us43d.paths import Home
from us43d.rawtree import is_litter, special

__all__ = [
    "PARTS", "RECEIPT", "Receipt", "alone", "check_room", "finish_raw", "is_ours", "listing", "making_raw", "now",
    "receipt", "remove_tree", "sweep", "walk", "write",
]  # fmt: skip

SCHEMA = 1
RECEIPT = "receipt.json"
LISTING = "raw.sha256"
PARTS = ".parts"
_OURS = frozenset({RECEIPT, LISTING, ".lock"})


def now() -> str:
    """Return the moment, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def is_ours(name: str) -> bool:
    """Return whether a path below downloads/<Name>/ is fetch's own."""
    return name in _OURS or name.startswith((f"{PARTS}/", f".{RECEIPT}.", f".{LISTING}."))


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Return (path below `folder` with `/`, path) of every file, sorted; nothing for a missing folder.

    Raises RawDataError for a pipe, socket or device, which nothing may open, and StorageError for a folder that may
    not be listed, unless it is one that systems leave on drives.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) and not is_litter(Path(error.filename).name):
            raise StorageError(
                f"{error.filename} cannot be listed: {error.strerror}.",
                next=shlex.join(["ls", "-ld", str(error.filename)]),
            )

    entries = []
    for where, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            path = Path(where, name)
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise special(path)
            entries.append((path.relative_to(folder).as_posix(), path))
    return iter(sorted(entries))


def write(path: Path, data: bytes) -> None:
    """Write a file under a name of this process and rename it; what killed processes left of it is removed."""
    sweep(path.parent, f".{path.name}.")
    with owner.claim() as token:
        atomic.replace_by(path, path.with_name(f".{path.name}.{token}.tmp"), data)


# ------------------------------------------------------------------------------------------------------------ receipts


def receipt(home: Home, name: str) -> dict[str, Any]:
    """Return the receipt of a source. Raises MissingRawFile if missing, UnreadableFile if damaged.

    kind: "download", "given" (files a user had) or "specimen". route: the download source. licence: the
    accepted licence. files: name → entry. raw: count, bytes and digest of the raw tree's listing.
    """
    path = home.downloads(name) / RECEIPT
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if content["schema"] != SCHEMA or not isinstance(content["files"], dict):
            raise ValueError("of another form")
    except FileNotFoundError:
        raise MissingRawFile(f"{name} has no receipt at {path}.", next=f"us43d fetch {name}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(
            f"{path} is damaged ({error}).", next=f"remove it, then: us43d fetch {name} --force"
        ) from error
    return content


class Receipt:
    """The receipt of one source while it is being fetched; may be used from several threads."""

    def __init__(self, home: Home, name: str) -> None:
        self._path = home.downloads(name) / RECEIPT
        try:
            self.data = receipt(home, name)
        except MissingRawFile:
            self.data = {"schema": SCHEMA, "source": name, "kind": "download", "files": {}}
        self._lock = threading.Lock()
        self._saved = 0.0

    def entry(self, name: str) -> dict[str, Any] | None:
        recorded = self.data["files"].get(name)
        return dict(recorded) if recorded else None

    def note(self, name: str, entry: dict[str, Any]) -> None:
        """Record a file. Written at most once a second, as sources of thousands of files would rewrite it each time."""
        with self._lock:
            self.data["files"][name] = entry
            if time.monotonic() - self._saved > 1:
                self._save()

    def save(self, **changes: Any) -> None:
        with self._lock:
            self.data.update(changes)
            self._save()

    def _save(self) -> None:
        text = json.dumps(self.data, indent=1, sort_keys=True, ensure_ascii=False)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write(self._path, text.encode())
        self._saved = time.monotonic()


# ------------------------------------------------------------------------------------------------------------ the tree


def listing(home: Home, name: str) -> dict[str, str]:
    """Return path → sha256 of every file the raw tree had when it was made; empty if the list is missing."""
    try:
        lines = (home.downloads(name) / LISTING).read_text("utf-8").split("\n")
    except FileNotFoundError:
        return {}
    digests = {}
    for line in filter(None, lines):
        digest, _, path = line.removeprefix("\\").partition("  ")
        escaped = line.startswith("\\")
        digests[re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], path) if escaped else path] = digest
    return digests


def _line(path: str, digest: str) -> str:
    """Return a line as sha256sum writes it: with a backslash in front where the name had to be escaped."""
    safe = path.replace("\\", "\\\\").replace("\n", "\\n")
    return f"{'' if safe == path else chr(92)}{digest}  {safe}\n"


@contextmanager
def making_raw(home: Home, name: str) -> Iterator[Path]:
    """Make a folder beside raw/<Name>; it is removed at the end unless `finish_raw` has renamed it."""
    final = home.raw(name)
    final.parent.mkdir(parents=True, exist_ok=True)
    sweep(final.parent, f".{name}.")
    with owner.claim() as token:
        temporary = final.with_name(f".{name}.{token}.tmp")
        temporary.mkdir()
        try:
            yield temporary
        finally:
            remove_tree(temporary)


def finish_raw(home: Home, name: str, temporary: Path, record: Receipt, **facts: Any) -> None:
    """Hash every file of a complete tree, make it read-only, write the list and the receipt, and rename it into place.

    Files that have other names, too, are a user's own, whose permissions are left alone. facts: go into the receipt.
    """
    total = count = 0
    lines = []
    for path, file in walk(temporary):
        with file.open("rb", buffering=0) as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            status = os.fstat(opened.fileno())
        total += status.st_size
        if status.st_nlink == 1:
            file.chmod(stat.S_IMODE(status.st_mode) & ~0o222)
        lines.append(_line(path, digest))
        count += 1
    for folder, _, _ in os.walk(temporary, topdown=False):
        Path(folder).chmod(stat.S_IMODE(Path(folder).stat().st_mode) & ~0o222)
    final = home.raw(name)
    if final.exists():
        # Moved away before the new list is written, so that list and tree never disagree.
        with owner.claim() as token:
            old = final.with_name(f".{name}.{token}.old")
            _rename(final, old)
            remove_tree(old)
    text = "".join(lines).encode()
    home.downloads(name).mkdir(parents=True, exist_ok=True)
    write(home.downloads(name) / LISTING, text)
    digest = hashlib.sha256(text).hexdigest()
    record.save(raw={"files": count, "bytes": total, "sha256": digest, "made": now()}, **facts)
    try:
        _rename(temporary, final)
    except OSError as error:
        # Another process, which no lock kept away, was first with a tree of the same files.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not final.is_dir():
            raise


def _rename(source: Path, target: Path) -> None:
    """Rename a read-only folder, or a link to one; some systems want to be allowed to write into it for that."""
    if source.is_symlink():
        source.rename(target)
        return
    mode = stat.S_IMODE(source.stat().st_mode)
    source.chmod(mode | stat.S_IWUSR)
    source.rename(target)
    target.chmod(mode)


def remove_tree(folder: Path) -> None:
    """Remove a folder though it is read-only; do nothing if it is missing. Of a link, what it leads to stays."""
    if folder.is_symlink():
        folder.unlink()
        return
    for where, _, _ in os.walk(folder):
        with suppress(OSError):
            Path(where).chmod(0o700)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def sweep(folder: Path, prefix: str) -> None:
    """Remove temporary files and folders that begin so and whose process has ended."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(prefix) and path.suffix in {".tmp", ".old"} and owner.abandoned(path):
            if path.is_dir():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------------ room and turns


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise StorageError if the file system that will hold `folder` has fewer free bytes than `needed`."""
    existing = next(candidate for candidate in (folder, *folder.parents) if candidate.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StorageError(
            f"{what} needs {needed / 1e9:,.1f} GB, and {existing} has {free / 1e9:,.1f} GB free.",
            next="us43d clean   (or another folder: --home, US43D_HOME)",
        )


@contextmanager
def alone(home: Home, name: str) -> Iterator[None]:
    """Keep a second process off a source. Raises Busy."""
    folder = home.downloads(name)
    folder.mkdir(parents=True, exist_ok=True)
    busy = Busy(f"{name} is being fetched by another process.", next=f"us43d fetch {name}   (when it has ended)")
    with atomic.alone(folder / ".lock", busy):
        yield
