"""Read a corpus from a URL of fsspec (s3://, gs://, …) through a local cache of bounded size.

    <cache>/<digest of the URL>/<digest of the corpus>/    the corpus's own files, memory-mapped, and remote.json
    <cache>/images/<digest of the URL>/…                   image files; the oldest are removed above the bound

The cache is $US43D_CACHE (default ~/.cache/us43d), bounded by $US43D_CACHE_GB (default 20) for images. Several
processes may share it.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from us43d.errors import BuildError, StorageError, UsageError

__all__ = ["MARKER", "Remote", "fetched_index", "filesystem", "is_url", "of_client", "remedy"]

MARKER = "remote.json"
#: There for corpora with volumes.
_SLICES = "slices.npy"
_INDEX = ("images.npy", "annotations.npy", "strings.bin", "rle.bin")
#: Seconds for which a file is kept after its last use, as another process may be about to open it.
_GRACE = 60.0
#: Packages of the protocols' clients, whose exceptions are not OSErrors.
_CLIENTS = frozenset(
    {"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "httpx", "httpx2", "huggingface_hub"}
)
#: Protocol → command that stores credentials.
_LOGIN = {
    "s3": "aws configure", "gs": "gcloud auth application-default login", "hf": "hf auth login", "az": "az login",
    "abfs": "az login",
}  # fmt: skip
#: Protocol → package that fsspec needs for it.
_PACKAGES = {"s3": "'us43d[export]'", "gs": "gcsfs", "hf": "huggingface_hub", "az": "adlfs", "abfs": "adlfs"}
_SAME = {"s3a": "s3", "gcs": "gs", "abfss": "abfs"}


def is_url(place: object) -> bool:
    """Return whether a place is a URL of fsspec rather than a path."""
    return "://" in str(place)


def filesystem(url: str) -> tuple[Any, str]:
    """Return (fsspec file system, path on it) of a URL.

    Raises:
        UsageError: If the protocol is unknown or its package is missing.
        StorageError: If its client finds no credentials or no network.
    """
    package = _PACKAGES.get(_protocol(url))
    try:
        import fsspec

        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        step = f"pip install {package}" if package else "us43d export --help"
        raise UsageError(f"{url} cannot be opened: {str(error).rstrip('.')}.", next=step) from error
    except Exception as error:
        if not of_client(error):
            raise
        raise StorageError(f"{url} cannot be opened: {error}.", next=remedy(url, error)) from error
    return fs, str(path).rstrip("/")


def of_client(error: Exception) -> bool:
    """Return whether an exception is one of the system or of a protocol's client, rather than a bug."""
    kinds = type(error).__mro__
    return isinstance(error, OSError) or any(kind.__module__.partition(".")[0] in _CLIENTS for kind in kinds)


def remedy(url: str, error: Exception) -> str:
    """Return the next step after an error of a protocol's client."""
    refused = isinstance(error, PermissionError) or "Credential" in type(error).__name__
    return _LOGIN.get(_protocol(url), "the same command again") if refused else "the same command again"


def _protocol(url: str) -> str:
    name = url.partition("://")[0]
    return _SAME.get(name, name)


def _cache() -> Path:
    return Path(os.environ.get("US43D_CACHE") or Path.home() / ".cache" / "us43d").expanduser().absolute()


def _limit() -> int:
    """Return bytes of images the cache may hold. Raises UsageError if the variable is not a positive number."""
    text = os.environ.get("US43D_CACHE_GB") or "20"
    try:
        size = float(text)
    except ValueError:
        size = -1.0
    if not 0 < size < float("inf"):
        raise UsageError(f"US43D_CACHE_GB={text!r} is not a positive number of gigabytes.")
    return int(size * 1e9)


@contextmanager
def _errors(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise BuildError(
            f"{url} is missing: {error}.", next="us43d corpus --all   (and copy the home again)"
        ) from error
    except Exception as error:
        if not of_client(error):
            raise
        raise StorageError(f"{url} cannot be read: {error}.", next=remedy(url, error)) from error


def fetched_index(url: str) -> Path:
    """Fetch the files of <home URL>/corpora/<release> other than images; those of an unchanged corpus are reused.

    Returns:
        A local folder that `Corpus` opens.

    Raises:
        BuildError: If no corpus is at the URL.
        StorageError: If it cannot be read.
    """
    fs, root = filesystem(url)
    with _errors(url):
        text = fs.cat_file(f"{root}/corpus.json")
        try:
            digest = str(json.loads(text)["digest"])
        except (ValueError, KeyError, TypeError) as error:
            raise BuildError(f"{url} is not a corpus: {error!r}.", next="us43d corpus --all") from error
        name = hashlib.sha256(text + digest.encode()).hexdigest()[:16]
        folder = _cache() / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16] / name
        if (folder / MARKER).is_file():
            return folder
        temporary = folder.with_name(f".{name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            for file in _INDEX:
                fs.get_file(f"{root}/{file}", str(temporary / file))
            if fs.exists(f"{root}/{_SLICES}"):
                fs.get_file(f"{root}/{_SLICES}", str(temporary / _SLICES))
            (temporary / "corpus.json").write_bytes(text)
            (temporary / MARKER).write_text(json.dumps({"home": url.rstrip("/").rpartition("/corpora/")[0]}), "utf-8")
            with suppress(FileExistsError, OSError):  # another process was first
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    if not (folder / MARKER).is_file():
        raise StorageError(f"{folder} could not be written.", next="df -h")
    return folder


class Remote:
    """The image files of a home at a URL, through the cache."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.folder = _cache() / "images" / hashlib.sha256(home.encode()).hexdigest()[:16]
        self.limit = _limit()
        self._fs: Any = None
        self._root, self._fetched, self._process = "", 0, 0

    @classmethod
    def of(cls, corpus: Path) -> "Remote | None":
        """Return the remote home of a corpus folder; None for a corpus on this disk."""
        try:
            return cls(str(json.loads((corpus / MARKER).read_text("utf-8"))["home"]))
        except FileNotFoundError:
            return None

    def file(self, name: str) -> Path:
        """Return a local copy of a file. name: relative to the home. Raises BuildError for one outside of it."""
        path = self.folder / name
        if ".." in Path(name).parts or not path.is_relative_to(self.folder):
            raise BuildError(
                f"A corpus in {self.home} names the file {name!r}, which is outside of it.",
                next="us43d corpus --all   (and copy the home again)",
            )
        with suppress(FileNotFoundError):
            os.utime(path)
            return path
        if self._process != os.getpid():  # connections do not survive a fork
            self._fs, self._root = filesystem(self.home)
            self._process = os.getpid()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with _errors(f"{self.home}/{name}"):
            try:
                self._fs.get_file(f"{self._root}/{name}", str(temporary))
                self._fetched += temporary.stat().st_size
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        if self._fetched > self.limit // 20:
            self._fetched = 0
            self._evict(path)
        return path

    def find(self, name: str) -> Path | None:
        """Return what `file` does, or None if the home does not have the file."""
        try:
            return self.file(name)
        except BuildError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def origin(self, path: Path) -> str:
        """Return the URL of a file that `file` returned."""
        return f"{self.home}/{path.relative_to(self.folder).as_posix()}"

    def _evict(self, kept: Path) -> None:
        """Remove the files used longest ago until the cache is below its bound."""
        files = []
        for path in self.folder.parent.rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file():
                    status = path.stat()
                    files.append((status.st_mtime, status.st_size, path))
        total, now = sum(size for _, size, _ in files), time.time()
        for used, size, path in sorted(files):
            if total <= self.limit or now - used < _GRACE:
                return
            if path != kept:
                path.unlink(missing_ok=True)
                total -= size
