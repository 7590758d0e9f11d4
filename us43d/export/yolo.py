"""YOLO segmentation: images/<split>, labels/<split>, data.yaml, as ultralytics trains on.

Every 8-connected piece of a mask is one line of a label file: class and polygon in fractions of the image. Coordinates
are centres of pixels, so that `cv2.fillPoly` of the polygon in pixels, truncated or rounded, gives the mask.
"""

import json

import numpy as np
from numpy.typing import NDArray

from us43d.errors import listed
from us43d.export.polygons import outlines
from us43d.export.run import Block, Finish, Format
from us43d.export.selection import Item

__all__ = ["Yolo", "line"]

#: ultralytics takes a line of at most this many columns for a box; shorter polygons repeat their last point.
_BOX_COLUMNS = 6
#: From the index of a pixel to its centre, less what keeps readers that round from the next pixel.
_CENTRE = 0.49


class Yolo(Format):
    fidelity = (
        "Polygons filled at the size of the image give the masks back (IoU 1). Holes are joined to the outline by a "
        "cut, and a mask of several pieces becomes one object for each piece; both are counted. ultralytics itself "
        "rasterizes polygons at the training size, which moves edges by up to a pixel."
    )

    def block(self, block: Block) -> None:
        for item in block.items():
            block.image(item, f"images/{item.split}/{item.file}")
            block.row(item, f"images/{item.split}/{item.file}")
            block.write(f"labels/{item.split}/{item.name}.txt", self._label(item, block).encode())

    def _label(self, item: Item, block: Block) -> str:
        lines = []
        for shape in item.shapes:
            polygons, holes = outlines(item.mask(shape))
            block.count("objects", len(polygons))
            if holes:
                block.count("holes joined to their outline", holes)
            if len(polygons) > 1:
                block.count("masks of several pieces, written as one object for each piece")
            lines += [line(shape.category, polygon, item.width, item.height) for polygon in polygons]
        return "".join(lines)

    def finish(self, finish: Finish) -> None:
        lines = [f"{split}: images/{split}" for split in finish.selection.rows]
        lines += ["names:", *(f"  {c.position}: {json.dumps(c.name)}" for c in finish.selection.categories)]
        finish.write("data.yaml", ("\n".join(lines) + "\n").encode())

    def usage(self, finish: Finish) -> str:
        if missing := {"train", "val"} - finish.selection.rows.keys():
            return (
                f"# ultralytics trains with both train and val; this export has no {listed(sorted(missing))} images\n"
            )
        data = finish.word("data.yaml")
        return f"yolo segment train model=yolo11n-seg.pt data={data} epochs=1 overlap_mask=False\n"


def line(category: int, polygon: NDArray[np.int64], width: int, height: int) -> str:
    """Return a line of a label file. polygon: (N, 2) x, y pixel indices."""
    while 1 + 2 * len(polygon) <= _BOX_COLUMNS:
        polygon = np.concatenate([polygon, polygon[-1:]])
    points = (polygon + _CENTRE) / (width, height)
    return f"{category} {' '.join(f'{value:.6f}' for value in points.ravel())}\n"
