"""MedSAM: one npz per image with imgs, gts and boxes, as its training and the CVPR challenges read 2-D images.

<split>/<name>.npz       imgs (h, w, 3) uint8 RGB; gts (h, w) uint8, 0 background, n the n-th instance;
                         boxes (n, 4) x0, y0, x1, y1 in pixels, ends inside; spacing (y, x) in mm or NaN;
                         structures (n,) names
<split>/<name>_1.npz     instances that overlap those of the first file, and so on
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.export.run import Block, Finish, Format, rgb
from us43d.export.selection import Item, Shape

__all__ = ["MedSam"]


class MedSam(Format):
    fidelity = (
        "Every instance comes back equal (IoU 1): instances that overlap are in further files of the same image "
        "(counted). Images without annotation have no file (counted). MedSAM trains at 1024 × 1024; its own "
        "preprocessing resizes."
    )

    def block(self, block: Block) -> None:
        for item in block.items():
            file = f"{item.split}/{item.name}.npz"
            if not item.shapes:
                block.count("images without annotation, not written")
                continue
            block.row(item, file)
            pixels = rgb(block.picture(item))
            for n, layer in enumerate(_layers(item)):
                name = file if n == 0 else f"{item.split}/{item.name}_{n}.npz"
                with block.file(name) as path, path.open("wb") as stream:
                    np.savez_compressed(stream, **_arrays(item, pixels, layer))
                if n:
                    block.count("further files of overlapping instances")

    def usage(self, finish: Finish) -> str:
        split = next(iter(finish.selection.rows))
        return (
            "import glob, numpy\n"
            f"for path in sorted(glob.glob({finish.literal(split, '*.npz')})):\n"
            "    data = numpy.load(path); image, labels, boxes = data['imgs'], data['gts'], data['boxes']\n"
            "# training, with the scripts of MedSAM (branch LiteMedSAM):\n"
            f"# python npz_to_npy.py -npz_dir {finish.word(split)} -npy_dir data/npy\n"
            "# python train_one_gpu.py -data_root data/npy\n"
        )


def _layers(item: Item) -> Iterator[list[tuple[Shape, NDArray[np.bool_]]]]:
    """Divide instances into layers without overlap; each goes to the first layer with room."""
    layers: list[list[tuple[Shape, NDArray[np.bool_]]]] = []
    occupied: list[NDArray[np.bool_]] = []
    for shape in item.shapes:
        mask = item.mask(shape)
        for layer, covered in zip(layers, occupied, strict=True):
            if len(layer) < 255 and not (covered & mask).any():
                layer.append((shape, mask))
                covered |= mask
                break
        else:
            layers.append([(shape, mask)])
            occupied.append(mask.copy())
    yield from layers


def _arrays(item: Item, pixels: NDArray[np.uint8], layer: list[tuple[Shape, NDArray[np.bool_]]]) -> dict[str, Any]:
    labels = np.zeros((item.height, item.width), np.uint8)
    boxes = np.zeros((len(layer), 4), np.int32)
    for n, (shape, mask) in enumerate(layer):
        labels[mask] = n + 1
        x, y, width, height = shape.bbox
        boxes[n] = x, y, x + width - 1, y + height - 1
    x_mm, y_mm = item.spacing or (np.nan, np.nan)
    names = [item.selection.categories[shape.category].name for shape, _ in layer]
    return {
        "imgs": pixels,
        "gts": labels,
        "boxes": boxes,
        "spacing": np.array([y_mm, x_mm]),
        "structures": np.array(names),
    }
