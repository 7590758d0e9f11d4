"""Write the results of `predict` into a folder that may hold a user's own files."""

import itertools
import json
from pathlib import Path

from us43d import atomic
from us43d.errors import StorageError
from us43d.pictures.media import JOURNAL, PREDICTIONS, journal, results

__all__ = ["Outputs"]


class Outputs:
    """The results in a folder: those of earlier predictions are replaced, a user's own files never.

    Names are recorded in a hidden journal before the files are written, so that the files of an interrupted run are
    known to the next one.

    Args:
        folder: Destination; created by the first file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.earlier = results(folder)
        self.names: set[str] = set()  # of files written now
        known = self.earlier | journal(folder) | ({PREDICTIONS} if self.earlier else set())
        self._known = {name.casefold() for name in known}  # one file on disks that ignore case

    def claim(self, name: str) -> Path:
        """Return the path of a result. Raises StorageError if a file of the user has it."""
        path = self.folder / name
        if name.casefold() not in self._known and atomic.exists(path):
            free = next(place for n in itertools.count(2) if not atomic.exists(Path(place := f"predictions-{n}")))
            raise StorageError(
                f"{path} exists, and was not written by us43d predict.",
                disk="It was not replaced. Files written before are complete."
                if self.names
                else "Nothing was changed on disk.",
                next=f"the same with --out {free}",
            )
        return path

    def record(self, name: str) -> Path:
        """Make the folder of a result, enter the name in the journal, and return the path. Raises StorageError."""
        path = self.claim(name)
        with atomic.storage_errors(path, "Files written before are complete."):
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.casefold() not in self._known:
                with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(name) + "\n")
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
        return removed
