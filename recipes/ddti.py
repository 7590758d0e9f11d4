"""DDTI: thyroid nodules, in the processed form (637 PNG pairs) or the original one (JPEG with contours in XML)."""

import json
from collections.abc import Iterator
from xml.etree import ElementTree

from us43d import masks
from us43d.contract import Polygon, RawTree, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source


def read(raw: RawTree) -> Iterator[Sample]:
    if raw.glob("**/1_or_data/image/*.png"):
        yield from _processed(raw.at("1_or_data"), "1_or_data/image", "1_or_data/mask", "1_or_data/category.csv")
    else:
        yield from _original(raw)


def read_paper(raw: RawTree) -> Iterator[Sample]:
    """The 256 × 256 crops the published conversion used."""
    stage = "2_preprocessed_data/stage1"
    yield from _processed(raw.at(stage), f"{stage}/p_image", f"{stage}/p_mask", "2_preprocessed_data/train.csv")


def _processed(tree: RawTree, images: str, labels: str, table: str) -> Iterator[Sample]:
    classes = {row["ID"]: row["CATE"] for row in tree.table(table, ("ID", "CATE"))} if tree.has(table) else {}
    for key in tree.glob(f"{images}/*.PNG"):
        name = key.rpartition("/")[2]
        mask = lazy(masks.binary, tree.path(f"{labels}/{name}"))
        kind = {"0": "benign", "1": "malignant"}.get(classes.get(name, ""))
        tags = {"diagnosis": kind} if kind else {}
        yield Sample(key=key, image=tree.path(key), masks={"thyroid_nodule": mask}, tags=tags)


def _original(raw: RawTree) -> Iterator[Sample]:
    for path in raw.glob("**/*_*.jpg"):
        folder, _, key = path.rpartition("/")
        case, _, number = key.removesuffix(".jpg").partition("_")
        contours = _contours(raw, f"{folder}/{case}.xml".removeprefix("/")).get(number, ())
        yield Sample(
            key=key,
            image=raw.path(path),
            masks={"thyroid_nodule": tuple(Polygon(points) for points in contours)},
            group=f"case {case}",
            drop=None if contours else "no contour is published for this image",
        )


def _contours(tree: RawTree, key: str) -> dict[str, list[tuple[tuple[float, float], ...]]]:
    """Image number → the freehand contours of a case's XML file."""
    found: dict[str, list[tuple[tuple[float, float], ...]]] = {}
    try:
        for mark in ElementTree.fromstring(tree.read(key)).iter("mark"):
            for shape in json.loads(mark.findtext("svg") or "[]"):
                points = tuple((float(point["x"]), float(point["y"])) for point in shape["points"])
                found.setdefault((mark.findtext("image") or "").strip(), []).append(points)
    except (ElementTree.ParseError, ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(f"{key} in {tree.root} is no DDTI case: {error}.") from error
    return found


RECIPE = source(__name__, read, paper=read_paper)
