"""WebDataset: tar shards of image, masks and JSON, with an index of shards.

<split>-00000-of-00003.tar       <name>.<png|jpg>, <name>.json, <name>.mask<n>.png for annotation n of the JSON
<split>.json                     shards with their number of samples, as `wids` reads an index
"""

import io
import json
import tarfile
from typing import Any

from us43d.export.run import Block, Finish, Format, png
from us43d.export.selection import Item
from us43d.harmonize.shards import canonical_json

__all__ = ["WebDataset"]


class WebDataset(Format):
    fidelity = "Every annotation is a PNG mask of the size of its image (IoU 1); the image is the published file."

    def block(self, block: Block) -> None:
        name = f"{block.shard}.tar"
        samples = 0
        with block.file(name) as path, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for item in block.items():
                block.row(item, name)
                for ending, data in _members(block, item):
                    entry = tarfile.TarInfo(f"{item.name}.{ending}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
                samples += 1
        block.line("shards", {"url": name, "nsamples": samples, "filesize": block.files[-1].size})

    def finish(self, finish: Finish) -> None:
        shards = list(finish.lines("shards"))
        for split in finish.selection.rows:
            listing = [shard for shard in shards if shard["url"].startswith(f"{split}-")]
            index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": split, "shardlist": listing}
            finish.write(f"{split}.json", json.dumps(index, indent=1).encode())

    def usage(self, finish: Finish) -> str:
        split = next(iter(finish.selection.rows))
        return (
            "import glob, webdataset\n"
            f"shards = sorted(glob.glob({finish.literal(f'{split}-*.tar')}))\n"
            "for sample in webdataset.WebDataset(shards, shardshuffle=False).decode('rgb8'): print(sample['json'])\n"
        )


def _members(block: Block, item: Item) -> Any:
    """Yield (extension, bytes) of the files of a sample."""
    data = png(block.picture(item)) if item.resized else item.path.read_bytes()
    yield item.suffix[1:], data
    categories = item.selection.categories
    described = {
        "id": item.id, "source": item.source["name"], "key": item.key, "group": item.group, "split": item.split,
        "licence": item.source["licence"]["id"], "spacing_mm": item.spacing, "height": item.height, "width": item.width,
        "annotations": [
            {
                "mask": f"mask{n}.png", "structure": categories[shape.category].name, "bbox": shape.bbox,
                "area": shape.area, "diagnosis": shape.diagnosis or None,
            }
            for n, shape in enumerate(item.shapes)
        ],
    }  # fmt: skip
    yield "json", canonical_json(described)
    for n, shape in enumerate(item.shapes):
        yield f"mask{n}.png", png(item.mask(shape))
