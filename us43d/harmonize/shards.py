"""Writing the records of a build as COCO shards and a manifest, in bounded memory and always the same bytes."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from us43d import atomic
from us43d.contract import Recipe
from us43d.errors import CheckError
from us43d.harmonize.ids import annotation_id
from us43d.harmonize.taxonomy import taxonomy

__all__ = [
    "MANIFEST", "SCHEMA", "SHARD", "build_digest", "canonical_json", "manifest", "read_columns", "read_manifest",
    "rows_digest", "write_shard",
]  # fmt: skip

#: Version of the COCO dialect and of the manifest's columns.
SCHEMA = 1
#: Images in one COCO file at most.
SHARD = 5000
MANIFEST = "manifest.parquet"


def canonical_json(value: Any) -> bytes:
    """Encode as JSON with sorted keys, no spaces, UTF-8: the same bytes everywhere."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _image(row: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    return {
        "id": row["id"],
        "file_name": row["file"],
        "width": row["width"],
        "height": row["height"],
        "license": 1,
        "us43d": {
            "source": recipe.name,
            "key": row["key"],
            "group": row["group"],
            "frame": row["frame"],
            "spacing_mm": row["spacing"],
            **({"slice_mm": row["slice"]} if "slice" in row else {}),
            "sha256": row["sha256"],
            "tags": row["tags"],
        },
    }


def _annotations(row: dict[str, Any], recipe: Recipe, category: dict[str, int]) -> Iterator[dict[str, Any]]:
    counted: dict[str, int] = {}
    for annotation in row["annotations"]:
        label = annotation["label"]
        number = counted.get(label, 0)
        counted[label] = number + 1
        yield {
            "id": annotation_id(row["id"], label, number),
            "image_id": row["id"],
            "category_id": category[label],
            "segmentation": {"size": [row["height"], row["width"]], "counts": annotation["counts"]},
            "area": annotation["area"],
            "bbox": annotation["box"],
            "iscrowd": 0,
            "us43d": {
                "label": label,
                "diagnosis": _diagnosis(recipe, label, row["tags"]),
                "instance": annotation["instance"],
                "speck": annotation["speck"],
            },
        }


def _diagnosis(recipe: Recipe, label: str, tags: Mapping[str, Any]) -> str | None:
    """Return the diagnosis of a label; "tag:NAME" is the image's tag of that name."""
    text = recipe.diagnoses.get(label)
    if text is None or not text.startswith("tag:"):
        return text
    value = tags.get(text.removeprefix("tag:"))
    return None if value is None else str(value)


def write_shard(
    path: Path, rows: list[dict[str, Any]], recipe: Recipe, category: dict[str, int], info: dict[str, Any], parts: Path
) -> int:
    """Write one COCO file by way of the folder `parts`; return how many annotations it holds."""
    terms = recipe.licence.terms
    annotations = [annotation for row in rows for annotation in _annotations(row, recipe, category)]
    content = {
        "info": info,
        "licenses": [{"id": 1, "name": terms.title, "url": terms.url or ""}],
        "images": [_image(row, recipe) for row in rows],
        "annotations": annotations,
        "categories": taxonomy().coco(),
    }
    path.parent.mkdir(exist_ok=True)
    atomic.write_bytes(path, canonical_json(content), parts=parts)
    return len(annotations)


_COLUMNS = {
    "id": "int64", "key": "string", "file": "string", "sha256": "string", "pixel_hash": "string", "phash": "uint64",
    "group": "string", "group_kind": "string", "split": "string", "official_split": "string", "height": "int32",
    "width": "int32", "annotations": "int32", "tags": "string", "remarks": "string", "drop": "string",
}  # fmt: skip


def manifest(path: Path, rows: Iterable[dict[str, Any]], group_kind: str, parts: Path) -> str:
    """Write manifest.parquet (docs/format.md), one row per sample, in the order given, by way of the folder `parts`.

    Returns the digest of its rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import json as lines

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _COLUMNS.items()])
    digest = hashlib.sha256()

    def flat(row: dict[str, Any]) -> bytes:
        written = {
            **{name: row.get(name) for name in _COLUMNS},
            "group_kind": group_kind,
            "official_split": row["official"],
            "annotations": len(row["annotations"]) if "annotations" in row else None,
            "tags": canonical_json(row["tags"]).decode(),
            "remarks": canonical_json(row["remarks"]).decode(),
        }
        line = canonical_json(written)
        digest.update(line)
        return line

    temporary = parts / path.name
    # The file names the version of pyarrow that wrote it, so a build's digest is taken over the rows instead.
    with pq.ParquetWriter(temporary, schema, compression="zstd", store_schema=False) as writer:
        stream = iter(rows)
        while batch := b"\n".join(flat(row) for row in islice(stream, SHARD)):
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


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a manifest. Raises CheckError if it cannot be read or has other columns."""
    return list(_table(path).to_pylist())


def read_columns(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a manifest, of these columns only. Raises CheckError as `read_manifest` does."""
    return list(_table(path).select(columns).to_pylist())


def _table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CheckError(f"{path} is not a readable manifest: {error}.") from error
    if table.column_names != list(_COLUMNS):
        raise CheckError(
            f"{path} has other columns than this version of us43d writes: {', '.join(table.column_names)}."
        )
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
