"""Writing the records of a build as COCO shards and a manifest, in bounded memory and always the same bytes."""

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from us43d import atomic
from us43d.contract import Recipe
from us43d.errors import CheckError
from us43d.harmonize.ids import annotation_id
from us43d.harmonize.records import Record, Written
from us43d.harmonize.taxonomy import taxonomy
from us43d.splits.assign import Assigned

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "MANIFEST", "SCHEMA", "SHARD", "Shards", "build_digest", "canonical_json", "manifest", "read_manifest",
    "read_table", "rows_digest",
]  # fmt: skip

#: Version of the COCO dialect and of the manifest's columns.
SCHEMA = 1
#: Images in one COCO file at most.
SHARD = 5000
MANIFEST = "manifest.parquet"


def canonical_json(value: Any) -> bytes:
    """Encode as JSON with sorted keys, no spaces, UTF-8: the same bytes everywhere."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _image(record: Record, image: Written, source: str) -> dict[str, Any]:
    return {
        "id": record.id,
        "file_name": image.file,
        "width": image.width,
        "height": image.height,
        "license": 1,
        "us43d": {
            "source": source,
            "key": record.key,
            "group": record.group,
            "frame": record.frame,
            "spacing_mm": record.spacing,
            **({} if record.slice is None else {"slice_mm": record.slice}),
            "sha256": image.sha256,
            "tags": record.tags,
        },
    }


def _annotations(record: Record, image: Written, recipe: Recipe, category: dict[str, int]) -> Iterator[dict[str, Any]]:
    counted: Counter[str] = Counter()
    for annotation in record.annotations:
        label = annotation.label
        yield {
            "id": annotation_id(record.id, label, counted[label]),
            "image_id": record.id,
            "category_id": category[label],
            "segmentation": {"size": [image.height, image.width], "counts": annotation.counts},
            "area": annotation.area,
            "bbox": annotation.box,
            "iscrowd": 0,
            "us43d": {
                "label": label,
                "diagnosis": _diagnosis(recipe, label, record.tags),
                "instance": annotation.instance,
                "speck": annotation.speck,
            },
        }
        counted[label] += 1


def _diagnosis(recipe: Recipe, label: str, tags: Mapping[str, Any]) -> str | None:
    """Return the diagnosis of a label; "tag:NAME" is the image's tag of that name."""
    text = recipe.diagnoses.get(label)
    if text is None or not text.startswith("tag:"):
        return text
    value = tags.get(text.removeprefix("tag:"))
    return None if value is None else str(value)


class Shards:
    """The COCO files of a build, written while its records pass in the order of their keys.

    Attributes:
        table: Split → images, groups and annotations written so far, without empty splits.
    """

    def __init__(
        self, output: Path, sizes: Mapping[Assigned, int], recipe: Recipe, category: dict[str, int], version: str,
        parts: Path,
    ) -> None:  # fmt: skip
        """Prepare to write below `output`, by way of the folder `parts`. sizes: images per split."""
        self.folder, self.recipe, self.category, self.parts = output / "annotations", recipe, category, parts
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.info = {
            "description": recipe.title,
            "url": recipe.homepage or "",
            "version": version,
            "contributor": "; ".join(citation.title for citation in recipe.citations),
        }
        self._sizes = sizes
        self._waiting: dict[Assigned, list[tuple[Record, Written]]] = defaultdict(list)
        self._groups: dict[Assigned, set[str]] = defaultdict(set)
        self.table: dict[Assigned, dict[str, int]] = {}

    def add(self, record: Record) -> None:
        """Add a record to the files of its split; one without a split is in none."""
        if record.split is None or record.image is None:
            return
        waiting = self._waiting[record.split]
        waiting.append((record, record.image))
        self._groups[record.split].add(record.group)
        if len(waiting) == SHARD:
            self._write(record.split)

    def finish(self) -> None:
        """Write the last file of each split."""
        for split, waiting in self._waiting.items():
            if waiting:
                self._write(split)

    def _write(self, split: Assigned) -> None:
        table = self.table.setdefault(split, {"images": 0, "groups": 0, "annotations": 0})
        number, of = table["images"] // SHARD, -(-self._sizes[split] // SHARD)
        records, terms = self._waiting[split], self.recipe.licence.terms
        content = {
            "info": self.info,
            "licenses": [{"id": 1, "name": terms.title, "url": terms.url or ""}],
            "images": [_image(record, image, self.recipe.name) for record, image in records],
            "annotations": [
                entry for record, image in records for entry in _annotations(record, image, self.recipe, self.category)
            ],
            "categories": taxonomy().coco(),
        }
        path = self.folder / f"{split}-{number:05}-of-{of:05}.json"
        atomic.write_bytes(path, canonical_json(content), parts=self.parts)
        table["images"] += len(records)
        table["groups"] = len(self._groups[split])
        table["annotations"] += len(content["annotations"])
        records.clear()


_COLUMNS = {
    "id": "int64", "key": "string", "file": "string", "sha256": "string", "pixel_hash": "string", "phash": "uint64",
    "group": "string", "group_kind": "string", "split": "string", "official_split": "string", "height": "int32",
    "width": "int32", "annotations": "int32", "tags": "string", "remarks": "string", "drop": "string",
}  # fmt: skip


def manifest(path: Path, records: Iterable[Record], group_kind: str, parts: Path) -> str:
    """Write manifest.parquet (docs/format.md), one row per record, in the order given, by way of the folder `parts`.

    Returns the digest of its rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import json as lines

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _COLUMNS.items()])
    digest = hashlib.sha256()

    def flat(record: Record) -> bytes:
        line = canonical_json(_row(record, group_kind))
        digest.update(line)
        return line

    temporary = parts / path.name
    # The file names the version of pyarrow that wrote it, so a build's digest is taken over the rows instead.
    with pq.ParquetWriter(temporary, schema, compression="zstd", store_schema=False) as writer:
        stream = iter(records)
        while batch := b"\n".join(flat(record) for record in islice(stream, SHARD)):
            # Read back from JSON, as turning Python objects into columns would import pandas.
            table = lines.read_json(
                pa.BufferReader(batch),
                lines.ReadOptions(use_threads=False, block_size=len(batch) + 1),
                lines.ParseOptions(explicit_schema=schema),
            )
            writer.write_table(table.select(schema.names), row_group_size=SHARD)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    return digest.hexdigest()


def _row(record: Record, group_kind: str) -> dict[str, Any]:
    image = record.image.model_dump() if record.image else {}
    return {
        **{name: image.get(name) for name in ("file", "sha256", "pixel_hash", "phash", "height", "width")},
        "id": record.id,
        "key": record.key,
        "group": record.group,
        "group_kind": group_kind,
        "split": record.split,
        "official_split": record.official,
        "annotations": len(record.annotations) if record.image else None,
        "tags": canonical_json(record.tags).decode(),
        "remarks": canonical_json(record.remarks).decode(),
        "drop": record.drop,
    }


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a manifest. Raises CheckError as `read_table` does."""
    return list(read_table(path).to_pylist())


def read_table(path: Path, columns: Sequence[str] | None = None) -> "pyarrow.Table":
    """Read a manifest, or some columns of it. Raises CheckError if it cannot be read or has other columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names, table = file.schema_arrow.names, file.read(columns)
    except (OSError, pa.ArrowException) as error:
        raise CheckError(f"{path} is not a readable manifest: {error}.") from error
    if names != list(_COLUMNS):
        raise CheckError(f"{path} has other columns than this version of us43d writes: {', '.join(names)}.")
    return table


def rows_digest(rows: Iterable[dict[str, Any]]) -> str:
    """Return the digest that `manifest` returned when it wrote these rows."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_json(row))
    return digest.hexdigest()


def build_digest(folder: Path, facts: dict[str, Any], rows: str) -> str:
    """The digest of a build: its facts, its COCO files, its manifest's rows (which hold the digest of every image)."""
    digest = hashlib.sha256(canonical_json({name: value for name, value in facts.items() if name != "digest"}))
    for path in sorted((folder / "annotations").glob("*.json")):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    digest.update(rows.encode())
    return digest.hexdigest()
