"""Where an export is written: a folder on this disk, or any URL that fsspec knows (s3://, gs://, hf://, memory://).

Everything is written to a staging folder beside the final one, whole files only, and published at the end: by renaming
the folder on a disk, by server-side copies (export.json last) on an object store, which cannot rename folders.
"""

import hashlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from us43d import atomic
from us43d.errors import StorageError, UsageError
from us43d.harmonize.remote import filesystem, is_url, of_client, remedy

__all__ = ["RECORDS", "Store", "Written", "digest", "read_file", "remote_errors", "staged"]

#: Folder of the staging folder that holds the records of finished blocks; not published.
RECORDS = ".us43d"
#: The file that is published last.
LAST = "export.json"
_CHUNK = 1000
#: Protocols without folders; making one there would make the bucket.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "hf"})
#: What a path on the Hugging Face Hub begins with, if not with the name of a model.
_HUB_KINDS = ("datasets/", "spaces/", "buckets/")


class Written(NamedTuple):
    """A file of an export: its name relative to the export, size in bytes and sha256."""

    name: str
    size: int
    sha256: str


class Store(ABC):
    """A staging folder and the final folder it becomes."""

    def write(self, name: str, data: bytes) -> Written:
        """Write a small file, whole or not at all."""
        with self.file(name) as path:
            path.write_bytes(data)
        return Written(name, len(data), hashlib.sha256(data).hexdigest())

    @abstractmethod
    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Give a local path to write to; the file gets its name only if the block ends without an exception."""

    @abstractmethod
    def add(self, name: str, source: Path, *, link: bool = False) -> None:
        """Copy a local file, or hard-link it where `link` is set and the disk allows it."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return the content of a staged file, or None if it does not exist."""

    @abstractmethod
    def published(self, name: str) -> bytes | None:
        """Return the content of a file of the final folder, or None if it does not exist."""

    @property
    @abstractmethod
    def begun(self) -> bool:
        """Whether anything is staged, by this run or an interrupted one."""

    @abstractmethod
    def occupied(self) -> bool:
        """Return whether the final folder contains anything."""

    @abstractmethod
    def link_folder(self, name: str, target: str) -> bool:
        """Make `name` a symbolic link to the folder `target`; False where that does not exist."""

    @abstractmethod
    def publish(self) -> None:
        """Make the staged files the final ones."""

    @abstractmethod
    def discard(self) -> None:
        """Remove the staging folder."""


class _Folder(Store):
    """On a disk of this machine."""

    def __init__(self, final: Path, inputs: str) -> None:
        self.final = final
        self.staging = final.with_name(f".{final.name}.{inputs[:16]}")
        self._made: set[Path] = set()

    def _place(self, name: str) -> Path:
        path = self.staging / name
        if path.parent not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent)
        return path

    @property
    def _parts(self) -> Path:
        return self._place(f"{RECORDS}/parts/x").parent

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        final = self._place(name)
        temporary = self._parts / name.replace("/", "!")
        try:
            yield temporary
            temporary.replace(final)
        except OSError as error:
            atomic.name_final(error, temporary, final)
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def add(self, name: str, source: Path, *, link: bool = False) -> None:
        target = self._place(name)
        if link:
            atomic.link_or_copy(source, target, parts=self._parts)
            return
        with self.file(name) as path:
            shutil.copyfile(source, path)

    def read(self, name: str) -> bytes | None:
        path = self.staging / name
        return path.read_bytes() if path.is_file() else None

    def published(self, name: str) -> bytes | None:
        path = self.final / name
        return path.read_bytes() if path.is_file() else None

    @property
    def begun(self) -> bool:
        return self.staging.exists()

    def occupied(self) -> bool:
        return self.final.exists() and (not self.final.is_dir() or any(self.final.iterdir()))

    def link_folder(self, name: str, target: str) -> bool:
        path = self._place(name)
        try:
            path.unlink(missing_ok=True)
            path.symlink_to(target)
        except (OSError, NotImplementedError):  # a file system without links; the caller states it
            return False
        return True

    def publish(self) -> None:
        shutil.rmtree(self.staging / RECORDS)
        atomic.replace_dir(self.staging, self.final)

    def discard(self) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)


class _Remote(Store):
    """On an fsspec file system: objects appear whole, folders cannot be renamed."""

    def __init__(self, url: str, inputs: str) -> None:
        self.url = url
        self.fs, path = filesystem(url)
        self.final = path.rstrip("/")
        parent, _, name = self.final.rpartition("/")
        if not parent or not name:
            raise UsageError(f"{url} names no folder below a bucket.", next="us43d export --help")
        if url.startswith("hf://") and len(self.final.split("/")) < (4 if self.final.startswith(_HUB_KINDS) else 3):
            # The staging folder would be another repository.
            raise UsageError(
                f"{url} names a repository, not a folder in it.",
                next=f"the same command with --out {url.rstrip('/')}/us43d",
            )
        self.staging = f"{parent}/.{name}.{inputs[:16]}"
        self._begun = False

    @property
    def begun(self) -> bool:  # without asking a server that may be why there is an error
        return self._begun

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="us43d-export-") as scratch:
            path = Path(scratch) / "part"
            yield path
            self._put(path, name)

    def _put(self, path: Path, name: str) -> None:
        with remote_errors(self.url):
            self._folder(f"{self.staging}/{name}")
            self.fs.put_file(str(path), f"{self.staging}/{name}")  # multipart where it is large
        self._begun = True

    def _folder(self, path: str) -> None:
        """Make the folder of a file, where the file system has folders."""
        if self.url.partition("://")[0] not in _OBJECT_STORES:
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def add(self, name: str, source: Path, *, link: bool = False) -> None:
        self._put(source, name)

    def read(self, name: str) -> bytes | None:
        data = self._read(f"{self.staging}/{name}")
        self._begun = self._begun or data is not None
        return data

    def published(self, name: str) -> bytes | None:
        return self._read(f"{self.final}/{name}")

    def _read(self, path: str) -> bytes | None:
        with remote_errors(self.url):
            try:
                data: bytes = self.fs.cat_file(path)
            except FileNotFoundError:
                return None
            return data

    def occupied(self) -> bool:
        with remote_errors(self.url):
            self.fs.invalidate_cache()
            return bool(self.fs.exists(self.final) and self.fs.find(self.final, maxdepth=None))

    def link_folder(self, name: str, target: str) -> bool:
        return False

    def publish(self) -> None:
        with remote_errors(self.url):
            self.fs.invalidate_cache()
            staged = [path for path in self.fs.find(self.staging) if f"/{RECORDS}/" not in path]
            last = [path for path in staged if path.endswith(f"/{LAST}")]
            first = [path for path in staged if path not in last]
            length = len(self.staging.lstrip("/"))
            for names in (*(first[at : at + _CHUNK] for at in range(0, len(first), _CHUNK)), last):
                for path in names:
                    self._folder(self._target(path, length))
                self.fs.copy(names, [self._target(path, length) for path in names])
            self.discard()

    def _target(self, path: str, length: int) -> str:
        return self.final + path.lstrip("/")[length:]

    def discard(self) -> None:
        with remote_errors(self.url):
            self.fs.invalidate_cache()
            if self.fs.exists(self.staging):
                self.fs.rm(self.staging, recursive=True)


@contextmanager
def remote_errors(url: str) -> Iterator[None]:
    """Turn what a remote file system reports into StorageError."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{url}: {error or 'the bucket does not exist'}.") from error
    except Exception as error:
        if not of_client(error):
            raise
        raise StorageError(f"{url} cannot be reached or written: {error}.", next=remedy(url, error)) from error


def read_file(out: str, name: str) -> bytes | None:
    """Return the content of a file of a finished export at a path or URL, or None if it does not exist."""
    if not is_url(out):
        path = Path(out) / name
        return path.read_bytes() if path.is_file() else None
    fs, root = filesystem(out)
    with remote_errors(out):
        try:
            data: bytes = fs.cat_file(f"{root.rstrip('/')}/{name}")
        except FileNotFoundError:
            return None
        return data


def digest(out: str, name: str) -> str | None:
    """Return the SHA-256 of a file of a finished export, read in pieces, or None if it does not exist."""
    with ExitStack() as stack:
        try:
            if is_url(out):
                fs, root = filesystem(out)
                stack.enter_context(remote_errors(out))
                file = stack.enter_context(fs.open(f"{root.rstrip('/')}/{name}", "rb"))
            else:
                file = stack.enter_context((Path(out) / name).open("rb"))
            return hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, IsADirectoryError):
            return None


def staged(out: str | Path, inputs: str) -> Store:
    """Return the store of an export. inputs: digest of what it is made from, which names the staging folder.

    Staging folders of other inputs beside the same final folder are left alone.
    """
    if is_url(out):
        return _Remote(str(out), inputs)
    return _Folder(Path(os.path.abspath(Path(out).expanduser())), inputs)  # noqa: PTH100  (resolve would follow links)
