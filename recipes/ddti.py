"""DDTI: thyroid nodules, in the processed form (637 PNG pairs) or the original one (JPEG with contours in XML)."""

import json
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Polygon, RawTree, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source

#: What the XML of a case says besides its contours.
TAGS = ("age", "sex", "composition", "echogenicity", "margins", "calcifications", "tirads")


def read(raw: RawTree) -> Iterator[Sample]:
    if raw.glob("**/1_or_data/image/*.png"):
        yield from _processed(raw.at("1_or_data"), "1_or_data/image", "1_or_data/mask", "1_or_data/category.csv")
    else:
        yield from _original(raw)


def read_paper(raw: RawTree) -> Iterator[Sample]:
    """Yield the 256 × 256 crops the published conversion used."""
    stage = "2_preprocessed_data/stage1"
    whole = ("image/*.png", "mask/*.png", "category.csv")
    raw.use(*(raw.path(key) for name in whole for key in raw.glob(f"**/1_or_data/{name}")))
    tree = raw.at(stage)
    for key in tree.glob(f"{stage}/p_mask/*.PNG"):  # ignored by name, so that one without image would not be noticed
        tree.path(f"{stage}/p_image/{key.rpartition('/')[2]}")
    yield from _processed(tree, f"{stage}/p_image", f"{stage}/p_mask", "2_preprocessed_data/train.csv")


def _processed(tree: RawTree, images: str, labels: str, table: str) -> Iterator[Sample]:
    classes = tree.index(table, "ID", ("CATE",)) if tree.has(table) else {}
    for key in tree.glob(f"{images}/*.PNG"):
        with tree.reading(key):
            name = key.rpartition("/")[2]
            mask = lazy(masks.binary, tree.path(f"{labels}/{name}"))
            kind = {"0": "benign", "1": "malignant"}.get(classes[name]["CATE"] if name in classes else "")
            tags = {"diagnosis": kind} if kind else {}
            remarks = () if kind else (f"diagnosis unknown: {table} {'has none for it' if classes else 'is missing'}",)
            yield Sample(key=key, image=tree.path(key), masks={"thyroid_nodule": mask}, tags=tags, remarks=remarks)


def _original(raw: RawTree) -> Iterator[Sample]:
    for path in raw.glob("**/*_*.jpg"):
        folder, _, key = path.rpartition("/")
        case, _, number = key.removesuffix(".jpg").partition("_")
        with raw.reading(key):
            published, tags = _case(raw, f"{folder}/{case}.xml".removeprefix("/"))
            contours = list(dict.fromkeys(published.get(number, ())))
            again = len(published.get(number, ())) - len(contours)
            yield Sample(
                key=key,
                image=raw.path(path),
                masks={"thyroid_nodule": tuple(Polygon(points) for points in contours)},
                group=f"case {case}",
                tags=tags,
                drop=None if contours else "no contour is published for this image",
                remarks=(f"identical contours are one annotation: {again} left out",) if again else (),
            )


def _case(tree: RawTree, key: str) -> tuple[dict[str, list[tuple[tuple[float, float], ...]]], dict[str, str]]:
    """Return (image number → freehand contours, what is said of the nodule) of a case's XML file."""
    outlines: dict[str, list[tuple[tuple[float, float], ...]]] = {}
    case = tree.xml(key)
    try:
        for mark in case.iter("mark"):
            for shape in json.loads(mark.findtext("svg") or "[]"):
                points = tuple((float(point["x"]), float(point["y"])) for point in shape["points"])
                outlines.setdefault((mark.findtext("image") or "").strip(), []).append(points)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableFile(f"{key} in {tree.root} is not a valid DDTI case: {error}.") from error
    tags = {name: (case.findtext(name) or "").strip() for name in TAGS}
    return outlines, {name: text for name, text in tags.items() if text}


RECIPE = source(__name__, read, paper=read_paper)
