"""GIST514-DB: 514 endoscopic images, one tumour each, as COCO polygons in the files of five folds."""

import datetime
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Lazy,
    Licence,
    PaperProfile,
    Polygon,
    RawTree,
    Recipe,
    Route,
    Sample,
    lazy,
)  # fmt: skip
from us43d.errors import RawDataError, UnreadableFile

LABELS = {1: "leiomyoma", 2: "gist"}
FAR = 1e5  # pixels; no coordinate of a picture lies beyond, and the rasteriser takes memory by length

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
        outlined = [each for each in annotations if each.polygons]
        for each in outlined:
            parts = [(points,) for points in each.polygons] if apart else [each.polygons]
            instances.setdefault(each.label, []).extend(lazy(filled, path, part) for part in parts)
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
    """(fold, file name, record of the image, its annotations), one fold at a time in memory."""
    fold_of: dict[str, int] = {}
    for fold in range(5):
        for name, entry in sorted(_coco(tree, f"usd514_jpeg_roi/annotations/val_anno_crop_split_{fold}.json").items()):
            if name in fold_of:
                raise RawDataError(f"{name} is in the test folds {fold_of[name]} and {fold} of {tree.root}.")
            fold_of[name] = fold
            yield fold, name, *entry


def _coco(tree: RawTree, key: str) -> dict[str, tuple[dict[str, Any], list[Annotation]]]:
    """File name → (record of the image, its annotations) of a COCO file."""
    try:
        content = json.loads(tree.text(key))
        images = {image["id"]: (image, list[Annotation]()) for image in content["images"]}
        for each in content["annotations"]:
            polygons = tuple(_points(numbers) for numbers in each["segmentation"])
            images[each["image_id"]][1].append(Annotation(LABELS[each["category_id"]], polygons))
        return {str(image["file_name"]): (image, annotations) for image, annotations in images.values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableFile(f"{key} in {tree.root} is no COCO file of polygons: {error!r}.") from error


def _points(numbers: list[float]) -> Points:
    values = [float(number) for number in numbers]
    if len(values) < 6 or len(values) % 2 or not all(math.fabs(value) <= FAR for value in values):
        raise ValueError(f"a polygon is {str(numbers)[:60]}")
    return tuple(zip(values[::2], values[1::2], strict=True))


def filled(path: Path, polygons: tuple[Points, ...]) -> Any:
    """The union of polygons on a picture of the file's size, filled as COCO's own tools do it."""
    from pycocotools import mask as coco

    width, height = masks.image_size(path)
    flat = [[value for point in points for value in point] for points in polygons]
    return coco.decode(coco.merge(coco.frPyObjects(flat, height, width))) != 0


def read_apart(raw: RawTree) -> Iterator[Sample]:
    return read(raw, apart=True)


RECIPE = Recipe(
    name="GIST514-DB",
    slug="gist514_db",
    row="GIST514-DB",
    aliases=("GIST514", "usd514"),
    title="GIST514-DB: endoscopic ultrasound of gastrointestinal stromal tumours and leiomyomas",
    organ="gastrointestinal tract",
    application="endoscopic ultrasound, GIST versus leiomyoma detection and segmentation",
    media="image2d",
    homepage="https://github.com/howardchina/query2",
    citations=(
        Citation(
            title="Query2: Query over queries for improving gastrointestinal stromal tumour detection in an endoscopic ultrasound",
            venue="Computers in Biology and Medicine: 106424",
            year=2022,
            doi="10.1016/j.compbiomed.2022.106424",
            bibtex="""@article{he2022query2,
  title={Query2: Query over queries for improving gastrointestinal stromal tumour detection in an endoscopic ultrasound},
  author={He, Qi and Bano, Sophia and Liu, Jing and Liu, Wentian and Stoyanov, Danail and Zuo, Siyang},
  journal={Computers in Biology and Medicine},
  pages={106424},
  year={2022},
  publisher={Elsevier}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-NC-SA-4.0",
        evidence="Stated for the data in the README of the authors' repository.",
        url="https://creativecommons.org/licenses/by-nc-sa/4.0/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="A Drive folder of about 1,200 loose files; in a browser its download button yields one or more zips.",
    routes=(
        Route(
            kind="gdrive",
            record="1TG9Bq-OaKkMXV2s42f_oZJdoTOfIAZLi",
            url="https://drive.google.com/drive/folders/1TG9Bq-OaKkMXV2s42f_oZJdoTOfIAZLi",
            note="A folder with more than 50 files, which gdown's folder mode is said not to list; no digests are known. The zips begin at usd514-db or at usd514_jpeg_roi; either is read.",
        ),
    ),
    labels={"leiomyoma": "submucosal_tumour", "gist": "submucosal_tumour"},
    diagnoses={"leiomyoma": "leiomyoma", "gist": "gastrointestinal stromal tumour"},
    group_kind="patient",
    group_rule="One image per case (514 of each), so every image is a patient of its own; no patient field is known.",
    official_split="Five folds: val_anno_crop_split_k.json is the test set of fold k (tag fold); fold 0 is kept as the test set, as in the paper.",
    expect=Expect(
        images=514,
        annotated=514,
        groups=514,
        tags={
            "fold=0": 106,
            "fold=1": 103,
            "fold=2": 103,
            "fold=3": 103,
            "fold=4": 99,
            "diagnosis=gist": 263,
            "diagnosis=leiomyoma": 251,
        },
    ),
    ignore={
        "*usd514_jpeg_roi/annotations/all_anno_crop.json": "the union of the five test folds",
        "*usd514_jpeg_roi/annotations/train_anno_crop_split_[0-4].json": "what is not in the test fold of the same number",
        "*usd514_jpeg_raw/*": "the uncropped frames of the same images",
    },
    paper=PaperProfile(
        note="Fold 0 is the test set, its training file the training set; every polygon of an annotation is an instance of its own; leiomyoma is called lmym. Images missing on disk, which the converter skips silently, are an error here.",
        labels={"leiomyoma": "lmym"},
        read=read_apart,
    ),
    known_issues=(
        "The class counts of torch-em's description are reversed: the authors' table adds up to 263 GIST and 251 leiomyoma.",
        "The OpenUS table lists 43,656 items; the set has 514 images.",
        "Other repository links and file names (instances_train.json) circulate; neither is the authors'.",
        "The repository also has configurations of an older set of 489 images (usd489).",
        "anatomy_id is kept as the tag anatomy; what its values (seven in the authors' model) stand for was not read.",
    ),
    sources=(
        "github howardchina/query2 (README, configs/ultra_sound/*, mmdet/datasets/anatomy.py, work_dirs test logs)",
        "github CAMMA-public/UltraSam datasets/datasets/GIST514-DB.py",
        "github constantinpape/torch-em torch_em/data/datasets/medical (gist514 module)",
    ),
    confidence="High: licence, folder, annotation files, category ids, folds and their sizes. Medium: tree of the Drive folder. From memory: the limit of 50 files. Unknown: image names, number of annotations; no file of the set was seen.",
    read=read,
)
