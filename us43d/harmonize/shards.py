"""Writing the records of a build as COCO shards and a manifest, in bounded memory and always the same bytes."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from us43d.contract import Recipe
from us43d.harmonize import atomic
from us43d.harmonize.ids import annotation_id
from us43d.harmonize.taxonomy import taxonomy

__all__ = ["MANIFEST", "SCHEMA", "SHARD", "canonical_json", "manifest", "write_shard"]

#: Version of the COCO dialect and of the manifest's columns.
SCHEMA = 1
#: Images in one COCO file at most.
SHARD = 5000
MANIFEST = "manifest.parquet"


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8: the same bytes everywhere."""
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
            "sha256": row["sha256"],
            "tags": row["tags"],
        },
    }


def _annotations(row: dict[str, Any], recipe: Recipe, category: dict[str, int]) -> Iterator[dict[str, Any]]:
    counted: dict[str, int] = {}
    for found in row["annotations"]:
        label = found["label"]
        number = counted.get(label, 0)
        counted[label] = number + 1
        yield {
            "id": annotation_id(row["id"], label, number),
            "image_id": row["id"],
            "category_id": category[label],
            "segmentation": {"size": [row["height"], row["width"]], "counts": found["counts"]},
            "area": found["area"],
            "bbox": found["box"],
            "iscrowd": 0,
            "us43d": {
                "label": label,
                "diagnosis": recipe.diagnoses.get(label),
                "instance": found["instance"],
                "speck": found["speck"],
            },
        }


def write_shard(
    path: Path, rows: list[dict[str, Any]], recipe: Recipe, category: dict[str, int], info: dict[str, Any]
) -> int:
    """Write one COCO file; return how many annotations it holds."""
    terms = recipe.licence.terms
    annotations = [each for row in rows for each in _annotations(row, recipe, category)]
    content = {
        "info": info,
        "licenses": [{"id": 1, "name": terms.title, "url": terms.url or ""}],
        "images": [_image(row, recipe) for row in rows],
        "annotations": annotations,
        "categories": taxonomy().coco(),
    }
    path.parent.mkdir(exist_ok=True)
    atomic.write_bytes(path, canonical_json(content))
    return len(annotations)


def manifest(path: Path, rows: Iterable[dict[str, Any]], group_kind: str) -> None:
    """Write manifest.parquet (docs/format.md), one row per sample, in the order given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("id", pa.int64()), ("key", pa.string()), ("file", pa.string()), ("sha256", pa.string()),
            ("pixel_hash", pa.string()), ("phash", pa.uint64()), ("group", pa.string()), ("group_kind", pa.string()),
            ("split", pa.string()), ("official_split", pa.string()), ("height", pa.int32()), ("width", pa.int32()),
            ("annotations", pa.int32()), ("tags", pa.string()), ("remarks", pa.string()), ("drop", pa.string()),
        ]
    )  # fmt: skip

    def batches() -> Iterator[Any]:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(
                {
                    **{name: row.get(name) for name in schema.names},
                    "group_kind": group_kind,
                    "official_split": row["official"],
                    "annotations": len(row["annotations"]) if "annotations" in row else None,
                    "tags": canonical_json(row["tags"]).decode(),
                    "remarks": canonical_json(row["remarks"]).decode(),
                }
            )
            if len(batch) == SHARD:
                yield pa.RecordBatch.from_pylist(batch, schema=schema)
                batch = []
        if batch:
            yield pa.RecordBatch.from_pylist(batch, schema=schema)

    temporary = path.with_name(f".{path.name}.tmp")
    # The file names the version of pyarrow that wrote it, so a build's digest is taken over the rows instead.
    with pq.ParquetWriter(temporary, schema, compression="zstd", store_schema=False) as writer:
        for batch in batches():
            writer.write_batch(batch, row_group_size=SHARD)
    temporary.replace(path)
