"""Whether what arrived is what was meant: type by first bytes, size, digests; and what is on disk against receipts."""

import hashlib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from us43d.contract import Recipe
from us43d.errors import MissingRawFile, UnreadableFile, VerifyError
from us43d.fetch import store
from us43d.fetch.http import page_title
from us43d.paths import Home
from us43d.rawtree import is_litter

__all__ = ["Finding", "check_digests", "check_type", "digests", "verify"]

Progress = Callable[[int, int | None], None]

#: Ending of a name → (what it is, bytes it begins with). Sources: the formats' own specifications.
_MAGIC: dict[str, tuple[str, tuple[bytes, ...]]] = {
    ".gz": ("gzip file", (b"\x1f\x8b",)),
    ".tgz": ("gzip file", (b"\x1f\x8b",)),
    ".bz2": ("bzip2 file", (b"BZh",)),
    ".xz": ("xz file", (b"\xfd7zXZ\0",)),
    ".zst": ("zstandard file", (b"\x28\xb5\x2f\xfd",)),
    ".7z": ("7z archive", (b"7z\xbc\xaf\x27\x1c",)),
    ".rar": ("RAR archive", (b"Rar!\x1a\x07",)),
    ".xlsx": ("Excel workbook", (b"PK\x03\x04",)),
    ".npz": ("NumPy archive", (b"PK",)),
    ".npy": ("NumPy array", (b"\x93NUMPY",)),
    ".h5": ("HDF5 file", (b"\x89HDF\r\n\x1a\n",)),
    ".hdf5": ("HDF5 file", (b"\x89HDF\r\n\x1a\n",)),
    ".png": ("PNG image", (b"\x89PNG\r\n\x1a\n",)),
    ".jpg": ("JPEG image", (b"\xff\xd8\xff",)),
    ".jpeg": ("JPEG image", (b"\xff\xd8\xff",)),
}
_PAGE = re.compile(rb"<(!doctype\s+html|html|head|title|body)[\s>]", re.IGNORECASE)
#: The record that ends every zip, and the longest comment that may follow it.
_ZIP_END, _ZIP_TAIL = b"PK\x05\x06", 22 + 0xFFFF


def check_type(path: Path, name: str, size: int | None = None) -> None:
    """Raise VerifyError if the file at `path` cannot be what `name` promises: an HTML page, a truncated zip, …

    size: bytes it must have. A download ends at the first bytes beyond it.
    """
    suffix = Path(name).suffix.lower()
    has = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(4096)
        if suffix not in {".html", ".htm"} and begin.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" and _PAGE.search(begin):
            title = page_title(begin.decode("utf-8", errors="replace"))
            kind = "zip" if suffix == ".zip" else _MAGIC[suffix][0] if suffix in _MAGIC else "data file"
            called = f", title {title!r}" if title else ""
            raise VerifyError(f"{name} is an HTML page ({has:,} bytes{called}), not a {kind}.")
        if size is not None and has != size:
            more = " or more" * (has > size)
            raise VerifyError(f"{name} has {has:,} bytes{more}; the published size is {size:,}.")
        if suffix == ".zip":
            file.seek(max(0, has - _ZIP_TAIL))
            if _ZIP_END not in file.read():
                raise VerifyError(
                    f"{name} is a truncated zip: its directory at the end is missing ({has:,} bytes are there)."
                    if begin.startswith(b"PK")
                    else f"{name} is not a zip archive: it begins with {begin[:8]!r}."
                )
        elif suffix in _MAGIC and not begin.startswith(_MAGIC[suffix][1]):
            raise VerifyError(f"{name} is not a valid {_MAGIC[suffix][0]}: it begins with {begin[:8]!r}.")


def digests(path: Path, *, md5: bool = False) -> dict[str, str]:
    """Compute the sha256 of a file, and md5 on request. Raises UnreadableFile."""
    hashes = {"sha256": hashlib.sha256()} | ({"md5": hashlib.md5(usedforsecurity=False)} if md5 else {})
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(1 << 20):
                for digest in hashes.values():
                    digest.update(block)
    except OSError as error:
        raise UnreadableFile(
            f"{path} cannot be read: {error.strerror}.", next=shlex.join(["ls", "-l", str(path)])
        ) from error
    return {name: digest.hexdigest() for name, digest in hashes.items()}


def check_digests(
    name: str, digests: Mapping[str, str], *, md5: str | None, sha256: str | None, who: str = "published"
) -> None:
    """Raise VerifyError where a digest is another than the one that `who` gave out."""
    for kind, expected in (("sha256", sha256), ("md5", md5)):
        if expected is not None and digests[kind] != expected:
            raise VerifyError(
                f"{name} has the {kind} digest {digests[kind]}; the {who} one is {expected}. "
                "Either it was damaged on the way, or it is another version."
            )


# -------------------------------------------------------------------------------------------- what is on disk already


class Finding(NamedTuple):
    """One file of a source. path: below the home. state: as it was received, or what is wrong."""

    path: str
    state: Literal["ok", "missing", "changed", "extra", "removed"]


def verify(home: Home, recipe: Recipe, progress: Progress | None = None) -> Iterator[Finding]:
    """Hash what is on disk of a source, downloads and raw tree, and compare it with the receipts.

    "removed" is an archive that `us43d clean` took away after it was unpacked. What desktops leave is not "extra".
    Raises MissingRawFile without a file.
    """
    entries = store.receipt(home, recipe.name)["files"]
    bases = (
        (home.downloads(recipe.name), {name: entry["sha256"] for name, entry in entries.items()}),
        (home.raw(recipe.name), store.listing(home, recipe.name)),
    )
    listings = [dict(store.walk(folder)) for folder, _ in bases]
    if not any(expected for _, expected in bases):  # an attempt that ended before the first file
        raise MissingRawFile(f"{recipe.name} has no file yet.", next=f"us43d fetch {recipe.name}")
    total = sum(path.lstat().st_size for files in listings for path in files.values())
    done = 0
    for (folder, expected), files in zip(bases, listings, strict=True):
        for name in sorted(set(expected) | set(files)):
            where = f"{folder.relative_to(home.root).as_posix()}/{name}"
            if name not in files:
                gone = folder == bases[0][0] and "removed" in entries[name]
                yield Finding(where, "removed" if gone else "missing")
                continue
            if name not in expected:
                if not any(map(is_litter, name.split("/"))) and (folder != bases[0][0] or not store.is_ours(name)):
                    yield Finding(where, "extra")
                continue
            yield Finding(where, "ok" if digests(files[name])["sha256"] == expected[name] else "changed")
            done += files[name].stat().st_size
            if progress:
                progress(done, total)
