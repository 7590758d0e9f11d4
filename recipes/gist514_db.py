"""GIST514-DB: 514 endoscopic images, one tumour each, as COCO polygons in the files of five folds."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from us43d import masks
from us43d.contract import Lazy, Polygon, RawTree, Sample, lazy
from us43d.errors import RawDataError, UnreadableFile
from us43d.facts import source

LABELS = {1: "leiomyoma", 2: "gist"}
FAR = 1e5  # pixels; an upper bound of coordinates, as the rasteriser takes memory by length

Points = tuple[tuple[float, float], ...]


class Annotation(NamedTuple):
    label: str
    polygons: tuple[Points, ...]


def read(raw: RawTree, *, apart: bool = False) -> Iterator[Sample]:
    """apart: every polygon of an annotation is an instance of its own."""
    tree = raw.at("usd514_jpeg_roi")
    for fold, name, image, annotations in _entries(tree):
        path = tree.path(f"usd514_jpeg_roi/images/{name}")
        instances: dict[str, list[Lazy | Polygon]] = {}
        outlined = [annotation for annotation in annotations if annotation.polygons]
        for annotation in outlined:
            parts = [(points,) for points in annotation.polygons] if apart else [annotation.polygons]
            instances.setdefault(annotation.label, []).extend(lazy(filled, path, polygon) for polygon in parts)
        anatomy = image.get("anatomy_id")
        yield Sample(
            key=f"usd514_jpeg_roi/images/{name}",
            image=path,
            instances=instances,
            split="test" if fold == 0 else "train",
            tags={
                "fold": fold,
                "diagnosis": " and ".join(sorted(instances)) or "unknown",
                **({"anatomy": anatomy} if isinstance(anatomy, int) else {}),
            },
            remarks=("an annotation has no polygon",) if len(outlined) < len(annotations) else (),
        )


def _entries(tree: RawTree) -> Iterator[tuple[int, str, dict[str, Any], list[Annotation]]]:
    """Yield (fold, file name, record of the image, its annotations), one fold at a time in memory."""
    fold_of: dict[str, int] = {}
    for fold in range(5):
        for name, entry in sorted(_coco(tree, f"usd514_jpeg_roi/annotations/val_anno_crop_split_{fold}.json").items()):
            if name in fold_of:
                raise RawDataError(f"{name} is in the test folds {fold_of[name]} and {fold} of {tree.root}.")
            fold_of[name] = fold
            yield fold, name, *entry


def _coco(tree: RawTree, key: str) -> dict[str, tuple[dict[str, Any], list[Annotation]]]:
    """Return file name → (record of the image, its annotations) of a COCO file."""
    try:
        content = tree.json(key)
        images = {image["id"]: (image, list[Annotation]()) for image in content["images"]}
        for entry in content["annotations"]:
            polygons = tuple(_points(numbers) for numbers in entry["segmentation"])
            images[entry["image_id"]][1].append(Annotation(LABELS[entry["category_id"]], polygons))
        return {str(image["file_name"]): (image, annotations) for image, annotations in images.values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableFile(f"{key} in {tree.root} is not a valid COCO file of polygons: {error!r}.") from error


def _points(numbers: list[float]) -> Points:
    values = [float(number) for number in numbers]
    if len(values) < 6 or len(values) % 2 or not all(math.fabs(value) <= FAR for value in values):
        raise ValueError(f"a polygon is {str(numbers)[:60]}")
    return tuple(zip(values[::2], values[1::2], strict=True))


def filled(path: Path, polygons: tuple[Points, ...]) -> Any:
    """Fill the union of polygons on an array of the image's size, filled as COCO's own tools do it."""
    from pycocotools import mask as coco

    width, height = masks.image_size(path)
    flat = [[value for point in points for value in point] for points in polygons]
    return coco.decode(coco.merge(coco.frPyObjects(flat, height, width))) != 0


RECIPE = source(__name__, read, paper=partial(read, apart=True))
