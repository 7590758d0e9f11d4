"""COCO: one JSON per split and one of all, images in one flat folder.

annotations/instances_<split>.json    as pycocotools, torchvision, MMDetection, Detectron2 and datumaro read it
images/<name>.<png|jpg>               file names in the JSON are relative to this folder
labels.json, data -> images           all splits in one file, as FiftyOne reads a folder
"""

import json
from collections.abc import Iterable
from typing import Any

from us43d.export.run import Block, Finish, Format
from us43d.export.selection import Item, Options, Selection, Shape
from us43d.harmonize.shards import canonical_json

__all__ = ["Coco"]


class Coco(Format):
    fidelity = (
        "Masks are compressed RLE and come back equal (IoU 1). Ids are numbered from 1 unless --keep-ids was given; "
        'the ids of us43d are under "us43d".'
    )
    #: Whether `data` could be made a link to `images`.
    linked: bool

    def block(self, block: Block) -> None:
        options, sources = block.selection.options, block.selection.exported_sources
        licences = {source["name"]: number for number, source in enumerate(sources, start=1)}
        for item in block.items():
            block.image(item, f"images/{item.file}")
            block.row(item, f"images/{item.file}")
            block.line("images", _image(item, options, licences[item.source["name"]]))
            for shape in item.shapes:
                block.line("annotations", _annotation(item, shape, options))

    def finish(self, finish: Finish) -> None:
        for split in finish.selection.rows:
            self._file(finish, f"annotations/instances_{split}.json", split)
        self._file(finish, "labels.json", None)
        self.linked = finish.store.link_folder("data", "images")

    def _file(self, finish: Finish, name: str, split: str | None) -> None:
        selection = finish.selection
        head = {
            "info": {
                "description": f"us43d corpus {selection.corpus.facts['release']}, {split or 'all splits'}",
                "version": selection.corpus.digest,
                "contributor": ", ".join(source["name"] for source in selection.exported_sources),
            },
            "licenses": [
                {"id": n, "name": s["licence"]["title"], "url": s["licence"]["url"] or "", "source": s["name"]}
                for n, s in enumerate(selection.exported_sources, start=1)
            ],
            "categories": [
                {"id": _category(c.position, selection), "name": c.name, "supercategory": c.organ}
                for c in selection.categories
            ],
        }  # fmt: skip

        def values(stream: str) -> Iterable[Any]:
            for own_split, record in finish.records():
                if split in (None, own_split):
                    yield from record["lines"].get(stream, ())

        with finish.file(name) as path, path.open("wb") as file:
            file.write(canonical_json(head)[:-1])
            for stream in ("images", "annotations"):
                file.write(b"," + json.dumps(stream).encode() + b":[")
                for n, value in enumerate(values(stream)):
                    file.write((b",\n" if n else b"\n") + canonical_json(value))
                file.write(b"]")
            file.write(b"}\n")

    def usage(self, finish: Finish) -> str:
        splits = list(finish.selection.rows)
        first = f"annotations/instances_{splits[0]}.json"
        # A folder without the link "data", as in a bucket, still loads if it is named.
        data = "" if self.linked else "data_path='images', "
        classes = tuple(category.name for category in finish.selection.categories)
        lines = [
            f"# pycocotools; images in {finish.place('images')}",
            f"from pycocotools.coco import COCO; coco = COCO({finish.literal(first)})",
            "# FiftyOne",
            f"import fiftyone as fo; dataset = fo.Dataset.from_dir({finish.literal()}, "
            f"dataset_type=fo.types.COCODetectionDataset, {data}label_types='segmentations')",
            "# Detectron2; masks are RLE, so set cfg.INPUT.MASK_FORMAT = 'bitmask'",
            "from detectron2.data.datasets import register_coco_instances",
            *(
                f"register_coco_instances('us43d_{split}', {{}}, "
                f"{finish.literal('annotations', f'instances_{split}.json')}, {finish.literal('images')})"
                for split in splits
            ),
            "# MMDetection, in a configuration",
            f"metainfo = dict(classes={classes!r})",
        ]
        for split in splits:
            name = f"annotations/instances_{split}.json"
            lines.append(
                f"{split}_dataloader = dict(dataset=dict(type='CocoDataset', data_root={finish.literal()}, "
                f"ann_file={name!r}, data_prefix=dict(img='images/'), metainfo=metainfo))"
            )
            if split != "train":
                lines.append(f"{split}_evaluator = dict(ann_file={finish.literal(name)})")
        return "\n".join(lines) + "\n"


def _category(index: int, selection: Selection) -> int:
    return (selection.categories[index].id or 1) if selection.options.keep_ids else index + 1


def _image(item: Item, options: Options, licence: int) -> dict[str, Any]:
    return {
        "id": item.id if options.keep_ids else item.number,
        "file_name": item.file,
        "width": item.width,
        "height": item.height,
        "license": licence,
        "us43d": {
            "id": item.id, "source": item.source["name"], "key": item.key, "group": item.group, "split": item.split,
            "spacing_mm": item.spacing,
        },
    }  # fmt: skip


def _annotation(item: Item, shape: Shape, options: Options) -> dict[str, Any]:
    return {
        "id": shape.id if options.keep_ids else shape.number,
        "image_id": item.id if options.keep_ids else item.number,
        "category_id": _category(shape.category, item.selection),
        "segmentation": {"size": [item.height, item.width], "counts": shape.counts.decode("ascii")},
        "area": shape.area,
        "bbox": list(shape.bbox),
        "iscrowd": 0,
        "us43d": {"id": shape.id, "speck": shape.speck, "diagnosis": shape.diagnosis or None},
    }
