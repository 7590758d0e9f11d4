"""Where things lie on disk. Importing this creates nothing; only the code that writes makes folders.

$US43D_HOME (default ~/.us43d)
    downloads/<Name>/   archives as published, with receipts
    raw/<Name>/         unpacked, read-only
    build/<Name>/<version>/
    corpora/<release>/
    runs/<run>/
    audit/, stats/      what `us43d audit` and `us43d stats` found; builds read audit/near_duplicates.json
    review/             verdicts given in `us43d view`
    cache/              thumbnails and indices of `us43d view`; may be deleted
    weights/
    private/<slug>.json facts of a folder of your own (`us43d import`), and how it is read
    licences.json       what was accepted, when
"""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from us43d.errors import StorageError

__all__ = ["Home"]


@dataclass(frozen=True, slots=True)
class Home:
    """The folder tree of one user or one lab."""

    root: Path

    @classmethod
    def find(cls, root: str | Path | None = None) -> "Home":
        """Return the given root, else $US43D_HOME, else ~/.us43d; made absolute, not created."""
        chosen = root or os.environ.get("US43D_HOME") or Path.home() / ".us43d"
        return cls(Path(chosen).expanduser().absolute())

    def downloads(self, name: str) -> Path:
        return self.root / "downloads" / name

    def raw(self, name: str) -> Path:
        return self.root / "raw" / name

    def builds(self, name: str) -> Path:
        return self.root / "build" / name

    def finished(self, name: str) -> list[Path]:
        """Return the folders of all finished builds of a source, sorted by name.

        Raises:
            StorageError: A folder may not be read, as one of another user; a glob would silently omit it.
        """
        folder = self.builds(name)
        try:
            versions = sorted(path for path in folder.iterdir() if path.name.startswith("r"))
            return [version for version in versions if (version / "dataset.json").exists()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            place = error.filename or folder
            raise StorageError(
                f"{place} cannot be read: {error.strerror}.", next=f"ls -ld {shlex.quote(str(place))}"
            ) from error

    def build(self, name: str, version: str) -> Path:
        return self.builds(name) / version

    def corpus(self, release: str) -> Path:
        return self.root / "corpora" / release

    def corpora(self) -> list[Path]:
        """Return the folders of all corpora, sorted by name; without those being written."""
        return sorted(file.parent for file in (self.root / "corpora").glob("[!.]*/corpus.json"))

    def private(self, slug: str) -> Path:
        return self.root / "private" / f"{slug}.json"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def weights(self) -> Path:
        return self.root / "weights"

    @property
    def licence_ledger(self) -> Path:
        return self.root / "licences.json"
