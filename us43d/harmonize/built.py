"""Opening a build: the one way to its facts, manifest, shards and provenance."""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from us43d.errors import BuildError
from us43d.harmonize import shards

if TYPE_CHECKING:
    import pyarrow

__all__ = ["CROISSANT", "DATASET", "PROVENANCE", "Build", "Shard"]

DATASET = "dataset.json"
#: Times, receipt and tool version differ between machines, so they are not in dataset.json.
PROVENANCE = "provenance.json"
#: A description that a user saved in the build's folder (`us43d card`).
CROISSANT = "croissant.json"


class Shard(NamedTuple):
    """One COCO file of a build. split: train, val, test or excluded."""

    path: Path
    split: str

    def read(self) -> dict[str, Any]:
        """Parse the file.

        Raises:
            BuildError: If it cannot be read or is not JSON.
        """
        return _object(self.path, f"us43d check {self.path.parent.parent.parent.name}")


class Build:
    """An opened build.

    Attributes:
        path: Its folder.
        facts: Content of dataset.json.

    Raises:
        BuildError: If the folder is not a build, or was written with another version of the schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / DATASET).exists():
            raise BuildError(f"{path} is not a build: {DATASET} is missing.", next="us43d build --all")
        self.facts = _object(path / DATASET, "us43d build --all")
        if missing := [name for name in ("name", "slug", "digest") if not isinstance(self.facts.get(name), str)]:
            raise BuildError(f"{path / DATASET} lacks {', '.join(missing)}.", next="us43d build --all")
        if (schema := self.facts.get("schema", shards.SCHEMA)) != shards.SCHEMA:
            raise BuildError(
                f"{path} has schema {schema}; this version of us43d reads schema {shards.SCHEMA}.",
                next=f"us43d build {self.name}",
            )

    @property
    def name(self) -> str:
        """Name of the source."""
        return str(self.facts["name"])

    @property
    def slug(self) -> str:
        """Slug of the source."""
        return str(self.facts["slug"])

    @property
    def digest(self) -> str:
        """Digest of the build."""
        return str(self.facts["digest"])

    @property
    def manifest(self) -> Path:
        """Its manifest.parquet."""
        return self.path / shards.MANIFEST

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the manifest. Raises CheckError if it cannot be read."""
        return shards.read_manifest(self.manifest)

    def table(self, columns: Sequence[str]) -> "pyarrow.Table":
        """Read some columns of the manifest. Raises CheckError if it cannot be read."""
        return shards.read_table(self.manifest, columns)

    def columns(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Read some columns of the manifest as rows. Raises CheckError if it cannot be read."""
        return list(self.table(names).to_pylist())

    def shards(self, split: str | None = None) -> Iterator[Shard]:
        """Yield the COCO files, by name; those of one split if given."""
        for path in sorted((self.path / "annotations").glob(f"{split or '*'}-*.json")):
            yield Shard(path, path.name.partition("-")[0])

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What the build was made from and when. Raises BuildError if the file cannot be read."""
        return _object(self.path / PROVENANCE, f"us43d build {self.name}")


def _object(path: Path, next: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise BuildError(f"{path} is not readable: {error}.", next=next) from error
    return content
