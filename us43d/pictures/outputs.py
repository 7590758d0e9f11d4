"""The results of `predict` in a folder that may hold a user's own files: which they are, and writing them."""

import contextlib
import json
import re
from pathlib import Path
from typing import IO, Any

from us43d import atomic
from us43d.errors import Busy, StorageError

__all__ = ["JOURNAL", "PREDICTIONS", "Outputs", "journal", "results"]

#: What `predict` writes into a folder: a COCO file that names the other results.
PREDICTIONS = "predictions.json"
#: The results of a run that was interrupted, and those of weights without predictions.json: a name per line, as JSON.
JOURNAL = ".us43d-predict"


def journal(folder: Path) -> set[str]:
    """Return the names in the journal of `predict` in a folder, without a last line that was cut."""
    try:
        lines = (folder / JOURNAL).read_text("utf-8").splitlines()
        names = [json.loads(line) for line in lines if line.endswith('"')]
    except (OSError, ValueError):
        return set()
    return {name for name in names if isinstance(name, str)}


def results(folder: Path) -> set[str]:
    """Return the results of `predict` in a folder, by its predictions.json and the journal of an interrupted run."""
    file = folder / PREDICTIONS
    known: Any = []
    if file.is_file():  # not a pipe that would be waited for
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):  # a file of others
            known = json.loads(file.read_bytes())["files"]
    root = folder.resolve()
    return {
        name
        for name in (*(known if isinstance(known, list) else ()), *journal(folder))
        if isinstance(name, str)
        and re.fullmatch(r"(?:masks|overlays)/.+\.png|.+_labels\.nii\.gz", name)
        and (root / name).resolve().is_relative_to(root)
    }


class Outputs:
    """The results in a folder: those of earlier predictions are replaced, a user's own files never.

    Names are recorded in a hidden journal before the files are written, so that the files of an interrupted run are
    known to the next one. The journal is locked while results are written, as two runs would remove each other's.

    Args:
        folder: Destination; created by the first file.

    Raises:
        Busy: Another run writes into the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: set[str] = set()  # of files written now
        self._journal: IO[str] | None = None
        if (folder / JOURNAL).is_file():
            self._journal = self._opened()
        self._look()

    def _look(self) -> None:
        self.earlier = results(self.folder)
        known = self.earlier | journal(self.folder) | ({PREDICTIONS} if self.earlier else set())
        self._known = {name.casefold() for name in known}  # one file on disks that ignore case

    def __del__(self) -> None:
        self._unlock()

    def _unlock(self) -> None:
        if self._journal is not None:
            self._journal.close()
        self._journal = None

    def _opened(self) -> IO[str]:
        """Open the journal, locked until it is closed or the process ends. Raises Busy or StorageError."""
        with atomic.storage_errors(self.folder / JOURNAL, "Nothing was changed on disk."):
            file = (self.folder / JOURNAL).open("a", encoding="utf-8")
        try:
            import fcntl  # not on Windows; atomic.alone would empty the journal

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise Busy(
                f"Another us43d predict writes into {self.folder}.",
                next=f"the same with --out {atomic.free_beside(self.folder)}",
            ) from error
        except (ImportError, OSError):  # a file system without locks
            return file
        return file

    def claim(self, name: str) -> Path:
        """Return the path of a result. Raises StorageError if a file of the user has it."""
        path = self.folder / name
        if name.casefold() not in self._known and atomic.exists(path):
            raise StorageError(
                f"{path} exists, and was not written by us43d predict.",
                disk="It was not replaced. Files written before are complete."
                if self.names
                else "Nothing was changed on disk.",
                next=f"the same with --out {atomic.free_beside(self.folder)}",
            )
        return path

    def record(self, name: str) -> Path:
        """Make the folder of a result, enter the name in the journal, and return the path. Raises StorageError."""
        if self._journal is None:
            self._look()  # another run may have ended since
        path = self.claim(name)
        with atomic.storage_errors(path, "Files written before are complete."):
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._journal is None:
                self._journal = self._opened()
            if name.casefold() not in self._known:
                self._journal.write(json.dumps(name) + "\n")
                self._journal.flush()
                self._known.add(name.casefold())
        self.names.add(name)
        return path

    def write(self, name: str, data: bytes) -> Path:
        """Write a result whole and return its path. Raises StorageError."""
        path = self.record(name)
        with atomic.storage_errors(path, "Files written before are complete."):
            atomic.write_bytes(path, data, durable=False)
        return path

    def close(self) -> int:
        """Remove the files of earlier predictions, and their journal, once predictions.json is written.

        Returns:
            Number of removed files.

        Raises:
            StorageError: A file cannot be removed.
        """
        kept = {name.casefold() for name in self.names}
        removed = 0
        with atomic.storage_errors(self.folder, "The new predictions are complete."):
            for name in sorted(self.earlier):
                if name.casefold() not in kept and (self.folder / name).is_file():
                    (self.folder / name).unlink()
                    removed += 1
            others = journal(self.folder) - self.names - self.earlier  # of weights without predictions.json
            if others:
                atomic.write_bytes(
                    self.folder / JOURNAL, "".join(f"{json.dumps(name)}\n" for name in sorted(others)).encode()
                )
            else:
                (self.folder / JOURNAL).unlink(missing_ok=True)
            self._unlock()
        return removed
