"""Hugging Face datasets: data/<split>-*.parquet with Image features, README.md with the card for `load_dataset`."""

import json
import re
from typing import Any

from us43d.export.run import BLOCK, Block, Finish, Format, png
from us43d.export.selection import Item, Selection

__all__ = ["SPLIT_NAMES", "HuggingFace", "features"]

#: Names of splits on the Hub.
SPLIT_NAMES = {"train": "train", "val": "validation", "test": "test"}
#: Images written to a parquet file at once, which bounds memory.
_ROWS = 16


class HuggingFace(Format):
    fidelity = (
        "Every annotation is a PNG mask of the size of its image (IoU 1), with its structure, box and diagnosis; the "
        "image is the published file."
    )

    def block(self, block: Block) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = _schema(block.selection)
        name = f"data/{SPLIT_NAMES[block.split]}-{block.shard.partition('-')[2]}.parquet"
        waiting: list[dict[str, Any]] = []
        with block.file(name) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for item in block.items():
                block.row(item, name)
                waiting.append(_row(block, item))
                if len(waiting) == _ROWS:
                    writer.write_table(pa.Table.from_pylist(waiting, schema))
                    waiting = []
            if waiting:
                writer.write_table(pa.Table.from_pylist(waiting, schema))

    def front(self, finish: Finish) -> str:
        selection = finish.selection
        licences = {source["licence"]["id"] for source in selection.exported_sources}
        lines = ["---", f"pretty_name: {json.dumps(str(selection.corpus.facts['release']))}", "license: other"]
        lines += [f"license_name: {json.dumps(', '.join(sorted(licences)))}", "license_link: LICENCES.md"]
        lines += ["task_categories:", "- image-segmentation", "tags:", "- ultrasound", "- medical", "configs:"]
        # `datasets` caches by the names of folder and configuration: a second export into a folder of the same name
        # would give the rows of the first.
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", str(selection.corpus.facts["release"]))
        lines += [f"- config_name: {name}-{finish.inputs[:12]}", "  data_files:"]
        for split in (SPLIT_NAMES[name] for name in selection.rows):
            lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
        return "\n".join([*lines, "---", "", ""])

    def usage(self, finish: Finish) -> str:
        split = SPLIT_NAMES[next(iter(finish.selection.rows))]
        return f'from datasets import load_dataset\ndata = load_dataset({finish.literal()}, split="{split}")\n'

    def finish(self, finish: Finish) -> None:
        finish.counts["parquet files"] = -sum(-len(rows) // BLOCK for rows in finish.selection.rows.values())


def features(selection: Selection) -> dict[str, Any]:
    """Return the features as datasets.Features.to_dict does."""
    names = [category.name for category in selection.categories]
    text = {"dtype": "string", "_type": "Value"}

    def listed(feature: dict[str, Any]) -> dict[str, Any]:
        return {"feature": feature, "_type": "List"}

    return {
        "image": {"_type": "Image"},
        "masks": listed({"_type": "Image"}),
        "structures": listed({"names": names, "_type": "ClassLabel"}),
        "boxes": listed({"feature": {"dtype": "int32", "_type": "Value"}, "length": 4, "_type": "List"}),
        "areas": listed({"dtype": "int64", "_type": "Value"}),
        "diagnoses": listed(text),
        "id": {"dtype": "int64", "_type": "Value"},
        **dict.fromkeys(("source", "key", "group", "licence"), text),
        "spacing_mm": listed({"dtype": "float32", "_type": "Value"}),
    }


def _schema(selection: Selection) -> Any:
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([
        ("image", image), ("masks", pa.list_(image)), ("structures", pa.list_(pa.int64())),
        ("boxes", pa.list_(pa.list_(pa.int32(), 4))), ("areas", pa.list_(pa.int64())),
        ("diagnoses", pa.list_(pa.string())), ("id", pa.int64()),
        *((name, pa.string()) for name in ("source", "key", "group", "licence")),
        ("spacing_mm", pa.list_(pa.float32())),
    ])  # fmt: skip
    described = json.dumps({"info": {"features": features(selection)}})
    return schema.with_metadata({"huggingface": described})


def _row(block: Block, item: Item) -> dict[str, Any]:
    data = png(block.picture(item)) if item.resized else item.path.read_bytes()
    return {
        "image": {"bytes": data, "path": item.file},
        "masks": [{"bytes": png(item.mask(s)), "path": f"{item.name}_{n}.png"} for n, s in enumerate(item.shapes)],
        "structures": [shape.category for shape in item.shapes],
        "boxes": [list(shape.bbox) for shape in item.shapes],
        "areas": [shape.area for shape in item.shapes],
        "diagnoses": [shape.diagnosis for shape in item.shapes],
        "id": item.id,
        "source": item.source["name"],
        "key": item.key,
        "group": item.group,
        "licence": item.source["licence"]["id"],
        "spacing_mm": list(item.spacing or ()),
    }
