"""Writing so that a final name never holds partial content: a temporary name beside it, fsync, rename."""

import errno
import hashlib
import itertools
import json
import os
import platform
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from us43d.errors import Busy, StorageError

__all__ = [
    "alone", "denied", "exists", "free_beside", "is_dir", "link_or_copy", "name_final", "new_folder", "open_to_others",
    "replace_dir", "require_free", "storage_errors", "write_bytes", "write_files", "write_results",
]  # fmt: skip

_WHAT = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EEXIST: "a file, or a link that leads nowhere, stands where a folder is needed",
    errno.EFBIG: "the file would be too large",
    errno.EIO: "the drive reports an input/output error",
    errno.ESTALE: "the network drive has vanished",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.ELOOP: "links lead in a circle",
    errno.EISDIR: "a folder stands where a file is needed",
    errno.ENOLCK: "the file system has no locks",
    errno.ENOTSUP: "the file system lacks this function, such as locks",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}
#: Hidden file of a folder of results: the digests of those that were written.
RESULTS = ".us43d-results"
#: Faults of the name rather than of the drive.
_PLACE = (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOENT)
#: Folders in which the kernel, not a disk, answers that no such file exists where one is made.
_KERNEL = ("proc", "sys")


@contextmanager
def storage_errors(path: Path, disk: str) -> Iterator[None]:
    """Turn the system's complaints about storage into StorageError; `disk` says what is left there."""
    try:
        yield
    except OSError as error:
        name = error.filename2 or error.filename  # of two files, the second is the one that is written
        where = _final(Path(os.fsdecode(name)), path) if name else path
        of_kernel = error.errno == errno.ENOENT and where.absolute().parts[1] in _KERNEL
        if error.errno not in _WHAT and not of_kernel:
            raise
        if error.errno in (errno.EACCES, errno.EPERM) and (missing := denied(where) or denied(where.parent)):
            mode = "g+rwX" if missing.endswith("writable") else "g+rX"
            next_ = f"ls -ld {where if exists(where) else where.parent}   (its owner can open it: chmod -R {mode})"
            raise StorageError(f"Permission is denied: {missing}.", disk=disk, next=next_) from error
        if error.errno in _PLACE:
            next_ = f"{shlex.join(['ls', '-ld', str(_nearest(where))])}   (then the same command with another place)"
        elif error.errno in (errno.ENOLCK, errno.ENOTSUP):
            next_ = "export US43D_HOME=FOLDER   (on another drive; then the same command)"
        else:
            next_ = "df -h"
        what = _WHAT.get(error.errno or 0, "the folder belongs to the system and holds no files of users")
        raise StorageError(f"{where} cannot be written: {what}.", disk=disk, next=next_) from error


def _final(place: Path, path: Path) -> Path:
    """Return the name that the user knows of a place: that of `path` for its temporary `.NAME.*`, which is removed."""
    for outer in (place, *place.parents):
        if outer.name.startswith(f".{path.name}."):
            return path / place.relative_to(outer)
    return place


def write_bytes(path: Path, data: bytes, *, durable: bool = True, parts: Path | None = None) -> None:
    """Write a file under a temporary name and rename it.

    Args:
        path: Final path.
        data: Content.
        durable: Wait until the disk has the data (fsync).
        parts: Folder of the same file system for the temporary file, so that a killed process leaves no file next to
            `path`.
    """
    replace_by(path, _temporary(path, parts), data, durable=durable)


def replace_by(path: Path, temporary: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a temporary file of the same file system and rename it. durable: wait for the disk before."""
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        name_final(error, temporary, path)
        raise


def name_final(error: BaseException, temporary: Path, path: Path) -> None:
    """Let an error of the system name the file that a user knows in place of the temporary one that becomes it."""
    if not isinstance(error, OSError):
        return
    if error.filename2 and Path(os.fsdecode(error.filename2)) == temporary:
        error.filename2 = str(path)
    elif not error.filename or Path(os.fsdecode(error.filename)) == temporary:
        error.filename = str(path)


def write_files(folder: Path, files: Mapping[str, bytes | str], disk: str) -> Path:
    """Write files into a folder, which is made, and return the folder. Raises StorageError.

    Args:
        folder: Destination.
        files: Name → content; text is written as UTF-8.
        disk: State of the folder after an error, for the message.
    """
    with storage_errors(folder if len(files) > 1 else folder / next(iter(files)), disk):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_bytes(folder / name, content.encode() if isinstance(content, str) else content)
    return folder


def write_results(folder: Path, files: Mapping[str, bytes | str], disk: str) -> Path:
    """Write files as `write_files` does, but replace none that a user wrote or edited. Raises StorageError.

    Their digests are recorded in a hidden file of the folder before they are written.
    """
    require_free(folder, files)
    with storage_errors(folder / RESULTS, disk):
        folder.mkdir(parents=True, exist_ok=True)
        digests = {_digest(content.encode() if isinstance(content, str) else content) for content in files.values()}
        write_bytes(folder / RESULTS, json.dumps(sorted(_recorded(folder) | digests), indent=1).encode())
    return write_files(folder, files, disk)


def require_free(folder: Path, names: Iterable[str]) -> None:
    """Raise StorageError if a folder cannot be made, or a file in it has a result's name and is not recorded as one."""
    nearest = _nearest(folder)
    with storage_errors(folder, "Nothing was changed on disk."):
        if not is_dir(nearest):
            raise FileExistsError(errno.EEXIST, "", str(nearest))
        if not _may(nearest, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "", str(nearest))
    recorded = _recorded(folder)
    for path in (folder / name for name in names):
        with storage_errors(path, "Nothing was changed on disk."):
            if not exists(path) or (path.is_file() and _digest_of(path) in recorded):
                continue
        raise StorageError(
            f"{path} exists, and is not recorded as a result of us43d.",
            next=f"the same with --out {free_beside(folder)}",
        )


def free_beside(folder: Path) -> str:
    """Return a folder beside this one that does not exist, quoted for a shell: out-2; of "." one inside."""
    named = folder if folder.name else folder / "results"
    return shlex.quote(
        str(next(place for n in itertools.count(2) if not exists(place := named.with_name(f"{named.name}-{n}"))))
    )


def _recorded(folder: Path) -> set[str]:
    try:
        return set(json.loads((folder / RESULTS).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return set()  # nothing is recorded; a damaged record protects every file


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_to_others(path: Path) -> None:
    """Give a file or folder the mode that the umask allows, where a library made it for its owner alone."""
    probe = path.with_name(f".{path.name}.mode")
    try:
        probe.touch()
        mode = probe.stat().st_mode & 0o777
        path.chmod(mode | (mode & 0o444) >> 2 if path.is_dir() else mode)  # a folder is entered where it may be read
    finally:
        probe.unlink(missing_ok=True)


def exists(path: Path) -> bool:
    """Return whether a path exists; False where it cannot be examined, for which Path.exists raises."""
    with suppress(OSError):
        return path.exists()
    return False


def is_dir(path: Path) -> bool:
    """Return whether a path is a folder; False where it cannot be examined, for which Path.is_dir raises."""
    return exists(path) and path.is_dir()


def _nearest(path: Path) -> Path:
    """Return the path, or the nearest place above it that exists; a link that leads nowhere does."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))


def denied(path: Path) -> str:
    """Return the missing permission for a path, in words; "" if none is missing."""
    for folder in reversed(path.parents):
        if is_dir(folder) and not _may(folder, os.X_OK):
            return f"the folder {folder} cannot be entered"
    if is_dir(path) and not _may(path, os.R_OK | os.X_OK):
        return f"the folder {path} cannot be listed"
    if exists(path) and not _may(path, os.R_OK):
        return f"the file {path} cannot be read"
    nearest = next((ancestor for ancestor in (path, *path.parents) if exists(ancestor)), path)
    return "" if _may(nearest, os.W_OK) else f"{nearest} is not writable"


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _temporary(path: Path, parts: Path | None) -> Path:
    # The machine's name, as processes of several may write one shared folder. File systems take 255 bytes of a name.
    name = path.name if len(os.fsencode(path.name)) <= 150 else _digest(os.fsencode(path.name))
    return (parts or path.parent) / f".{name}.{platform.node()}.{os.getpid()}.tmp"


def link_or_copy(source: Path, target: Path, *, parts: Path | None = None) -> None:
    """Make `target` the same bytes as `source`: a hard link where the file system allows it, else a copy.

    A `target` that is there already stays. parts: as in `write_bytes`.
    """
    with suppress(FileExistsError):
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES):
                raise
            temporary = _temporary(target, parts)
            try:
                shutil.copy2(source, temporary)
                temporary.replace(target)
            except BaseException as failure:
                with suppress(OSError):
                    temporary.unlink()
                name_final(failure, temporary, target)
                raise


def replace_dir(temporary: Path, final: Path) -> None:
    """Rename a finished folder into place; a folder already there is moved aside first and then removed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    old = final.with_name(f".{final.name}.old-{os.getpid()}")
    if final.exists():
        final.rename(old)
    temporary.rename(final)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name; it takes its final name when the block ends, and is removed if it fails.

    Raises:
        StorageError: The folder cannot be written; nothing is left of it.
    """
    with storage_errors(final, "Nothing was written."):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        try:
            yield temporary
            for path in (*temporary.iterdir(), temporary):
                open_to_others(path)
            replace_dir(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def alone(lock: Path, busy: Busy) -> Iterator[None]:
    """Keep other processes off while a lock file is held. It saves double work; correctness does not rest on it.

    Raises `busy` if another process holds it.
    """
    from filelock import FileLock, Timeout  # training runs without it

    file_lock = FileLock(lock, mode=0o666)  # as far as the umask lets others of a shared home use it
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        raise busy from None
    except (NotImplementedError, PermissionError):  # no locks here, or another user's
        yield
        return
    try:
        yield
    finally:
        file_lock.release()
