"""us43d coco on outlines of LabelMe and VIA: masks as pycocotools fills them, and one message for what is invalid."""

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference

from us43d.coco import outlines
from us43d.coco.write import from_masks
from us43d.errors import ImageError, UsageError

WIDTH, HEIGHT = 80, 60
TRIANGLE, SQUARE = [[10.0, 5.5], [30.25, 8], [15, 40]], [[50, 10], [70, 10], [70, 30], [50, 30]]


def shape(label: str, points: Any, kind: str | None = "polygon", group: int | None = None) -> dict[str, Any]:
    """A shape as LabelMe 6.3.1 saves it."""
    return {"label": label, "points": points, "group_id": group, "description": "", "shape_type": kind, "flags": {},
            "mask": None}  # fmt: skip


def labelme(shapes: list[Any], width: int | None = WIDTH, height: int | None = HEIGHT) -> str:
    return json.dumps({"version": "6.3.1", "flags": {}, "shapes": shapes, "imagePath": "..\\scans\\a.png",
                       "imageData": None, "imageHeight": height, "imageWidth": width})  # fmt: skip


def region(label: dict[str, Any], name: str, **numbers: Any) -> dict[str, Any]:
    return {"shape_attributes": {"name": name, **numbers}, "region_attributes": label}


def via(*regions: dict[str, Any], name: str = "a.png") -> dict[str, Any]:
    """The export of VIA 2.0.12; a project has it as `_via_img_metadata`."""
    return {f"{name}4711": {"filename": name, "size": 4711, "regions": list(regions), "file_attributes": {}}}


def polygon(points: Any) -> dict[str, Any]:
    xs, ys = zip(*points, strict=True)
    return {"all_points_x": list(xs), "all_points_y": list(ys)}


def filled(*polygons: Any, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    flat = [[float(value) for corner in one for value in corner] for one in polygons]
    return reference.decode(reference.merge(reference.frPyObjects(flat, height, width))).astype(bool)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """scans/a.png, scans/p 2/b.jpg and scans/患者.png, of equal size."""
    for name in ("a.png", "p 2/b.jpg", "患者.png"):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH), np.uint8)).save(path)
    return path.parent


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


def masks(content: dict[str, Any]) -> list[tuple[str, str, bytes]]:
    files = {image["id"]: image["file_name"] for image in content["images"]}
    names = {one["id"]: one["name"] for one in content["categories"]}
    made = []
    for one in content["annotations"]:
        mask = reference.decode(one["segmentation"]).astype(bool)
        assert one["bbox"] == list(map(int, reference.toBbox(one["segmentation"])))
        assert one["area"] == mask.sum()
        made.append((files[one["image_id"]], names[one["category_id"]], mask.tobytes()))
    return made


@pytest.mark.parametrize("place", ["labels", "scans"])
def test_files_of_labelme_become_annotations(scans: Path, place: str) -> None:
    """In a folder of their own or beside the images; a group is one object, as in LabelMe's own converter."""
    shapes = [
        shape("nodule", TRIANGLE, None, 3), shape("cyst ", SQUARE), shape("nodule ", SQUARE, group=3),
        shape("cyst", [[40, 50], [45, 55]], "rectangle"), shape("cyst", [[40, 30]], "point"), shape("cyst", SQUARE[:2]),
        shape("tip", [[3, 3], [9, 9]], "line"), shape("tip", [[3, 3], [9, 9], [3, 9]], "linestrip"),
        shape("tip", [[3, 3], [9, 9], [3, 9]], "points"),
    ]  # fmt: skip
    files = {
        "a.json": labelme(shapes),
        "p 2/b.json": labelme([shape("cyst", SQUARE, "oriented_rectangle")], None, None),
        "患者.json": labelme([]),
    }
    folder = put(scans.parent / place, files | {"dataset.json": '{"images": []}'})
    written = from_masks(scans, folder, patient="^.")
    assert masks(written.content) == [
        ("a.png", "nodule", filled(TRIANGLE, SQUARE).tobytes()),
        ("a.png", "cyst", filled(SQUARE).tobytes()),
        ("a.png", "cyst", filled([[40, 50], [45, 50], [45, 55], [40, 55]]).tobytes()),
        ("p 2/b.jpg", "cyst", filled(SQUARE).tobytes()),
    ]
    assert [image["patient_id"] for image in written.content["images"]] == ["a", "p", "患"]
    assert [one["name"] for one in written.content["categories"]] == ["nodule", "cyst"]
    assert written.remarks == [
        "Excluded, without an image: 1 of 4 masks: dataset.json.", "1 mask is empty: the image has no annotation.",
        "4 shapes excluded: points and lines.", "1 shape excluded: with fewer than 3 points.",
    ]  # fmt: skip
    named = from_masks(scans, folder, category="lesion").content
    assert named["categories"] == [{"id": 1, "name": "lesion"}]
    assert len(named["annotations"]) == 4


@pytest.mark.parametrize("project", [True, False])
def test_a_file_of_via_becomes_annotations(scans: Path, project: bool) -> None:
    entries = via(
        region({"type": "cyst"}, "polygon", **polygon(TRIANGLE)), region({}, "rect", x=50, y=10, width=20, height=20),
        region({"type": "", "sure": {"yes": True}}, "point", cx=3, cy=4),
        region({}, "polyline", **polygon(SQUARE)),
    ) | via(region({"type": "nodule"}, "polygon", **polygon(SQUARE)), name="p 2\\b.jpg")  # fmt: skip
    entries |= {"x": {"filename": "gone.png", "size": 1, "regions": {}}, "y": {"filename": "/", "regions": []}}
    file = scans.parent / "via.json"
    file.write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": entries} if project else entries))
    written = from_masks(scans, file, patient="^.")
    assert masks(written.content) == [
        ("a.png", "cyst", filled(TRIANGLE).tobytes()), ("a.png", "structure", filled(SQUARE).tobytes()),
        ("p 2/b.jpg", "nodule", filled(SQUARE).tobytes()),
    ]  # fmt: skip
    assert written.remarks == [
        "Excluded, without a mask: 1 of 3 images: 患者.png.", "Excluded, without an image: 2 of 4 masks: /, gone.png.",
        "2 shapes excluded: points and lines.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "a", "b", "turn"),
    [
        (labelme([shape("head", [[40, 30], [52, 46]], "circle")]), 20, 20, 0.0),
        (json.dumps(via(region({}, "circle", cx=40, cy=30, r=20))), 20, 20, 0.0),
        (json.dumps(via(region({}, "ellipse", cx=40, cy=30, rx=25, ry=9))), 25, 9, 0.0),
        (json.dumps(via(region({}, "ellipse", cx=40, cy=30, rx=25, ry=9, theta=0.6))), 25, 9, 0.6),
    ],
)
def test_circles_and_ellipses(scans: Path, text: str, a: float, b: float, turn: float) -> None:
    """The angle of VIA is in radians, from x to y (down)."""
    (one,) = from_masks(scans, put(scans.parent, {"a.json": text}) / "a.json").content["annotations"]
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5 - np.array([30, 40])[:, None, None]
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    expected = (along / a) ** 2 + (across / b) ** 2 <= 1
    made = reference.decode(one["segmentation"]).astype(bool)
    assert (made & expected).sum() / (made | expected).sum() > 0.95


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (labelme([shape("a", [[1, 2], [3, math.nan], [5, 9]])]), "shape 0 is not valid: Input should be greater than"),
        (
            labelme([shape("a", SQUARE), shape("a", [[1, 2], [3, 63], [5, 9]])]),
            "shape 1 is not valid: has the corner (3.0, 63.0), outside of 80 × 60",
        ),
        (labelme([shape("a", [[1, 2], [-3, 3], [5, 9]])]), "has the corner (-3.0, 3.0), outside of 80 × 60 pixels"),
        (labelme([shape("a", [[1, 2], [83, 3], [5, 9]])]), "has the corner (83.0, 3.0), outside"),
        (labelme([shape("a", [[1, "2"], [3, True], [5, 9]])]), "shape 0 is not valid: Value error, is true or false"),
        (labelme([shape("a", [[1, 2, 3], [3, 3], [5, 9]])]), "shape 0 is not valid: Tuple should have at most 2 items"),
        (labelme([shape("a", [[1, 2], [5, 9]], "mask")]), "shape 0 is not valid: 'mask' is not supported"),
        (labelme([shape("a", [[1, 2]], "rectangle")]), "shape 0 is not valid: not enough values"),
        (labelme([shape("a", [[1, 2]], "circle")]), "shape 0 is not valid: not enough values"),
        (labelme([shape("a", [[10**400, 2], [5, 9]], "circle")]), "shape 0 is not valid: "),
        (labelme([{"label": "a"}]), "shape 0 is not valid: 'points'"),
        (labelme([{"label": "a", "points": None}]), "shape 0 is not valid: 'NoneType' object is not iterable"),
        (labelme([{"label": None, "points": SQUARE}]), "its label None or group None is neither a text nor a number"),
        (labelme([{"label": "a", "points": SQUARE, "group_id": [1]}]), "its label 'a' or group [1] is neither"),
        (labelme(["a"]), "shape 0 is not valid: 'str' object has no attribute"),
        (labelme([], width=81), "is of an image of 81 × 60 pixels"),
        (labelme([], height=59), "is of an image of 80 × 59 pixels"),
        (
            json.dumps(via(region({"a": "x", "b": "y"}, "polygon", **polygon(SQUARE)))),
            "it has several attributes (a, b); --category gives one",
        ),
        (
            json.dumps(via(region({"a": {"x": True, "y": True, "z": False}}, "polygon", **polygon(SQUARE)))),
            "it has several attributes (x, y); --category gives one",
        ),
        (
            json.dumps(via(region({}, "polygon", all_points_x=[1, 2, 3], all_points_y=[1, 2]))),
            "shape 0 is not valid: zip() argument",
        ),
        (json.dumps(via(region({}, "rect", x=1, y=2, width=3))), "is not supported"),
        (json.dumps(via(region({}, "circle", cx=1, cy="2", r=3))), "shape 0 is not valid"),
        ('{"shapes": [', "cannot be read: "),
    ],
)
def test_invalid_outlines_are_refused(scans: Path, text: str, what: str) -> None:
    file = put(scans.parent, {"a.json": text}) / "a.json"
    with pytest.raises(ImageError) as caught:
        from_masks(scans, file)
    assert what in caught.value.what
    assert "a.json" in caught.value.what


@pytest.mark.parametrize(
    "text",
    [
        "[]", "3", "{}", '{"images": [], "annotations": [], "categories": []}', '{"a": {"filename": "a.png"}}',
        '{"a": {"regions": []}}', '{"a": {"filename": "a.png", "regions": null}}',
        '{"a": {"filename": 3, "regions": []}}', '{"shapes": {}}',
        json.dumps(via() | {"twice": via()["a.png4711"]}),
    ],
)  # fmt: skip
def test_files_of_other_tools_are_refused(scans: Path, text: str) -> None:
    file = put(scans.parent, {"a.json": text}) / "a.json"
    with pytest.raises(UsageError, match=r"a\.json is neither of LabelMe \(shapes\) nor of VIA 2") as caught:
        from_masks(scans, file)
    assert caught.value.next.startswith(f"us43d train --data {file} ")


def test_ticked_checkboxes_of_via_are_labels(scans: Path) -> None:
    """They became `structure`."""
    ticked = via(region({"kind": {"cyst": True, "nodule": False}}, "polygon", **polygon(SQUARE)))
    file = put(scans.parent, {"a.json": json.dumps(ticked)}) / "a.json"
    assert from_masks(scans, file).content["categories"] == [{"id": 1, "name": "cyst"}]


def test_rectangles_of_two_or_four_corners(scans: Path) -> None:
    """X-AnyLabeling writes all four."""
    both = [shape("a", [SQUARE[2], SQUARE[0]], "rectangle"), shape("a", SQUARE, "rectangle")]
    file = put(scans.parent, {"a.json": labelme(both)}) / "a.json"
    for one in from_masks(scans, file).content["annotations"]:
        assert reference.decode(one["segmentation"]).tobytes() == filled(SQUARE).tobytes()


def test_outlines_whose_names_differ_from_images_in_case(scans: Path) -> None:
    (scans / "a.png").rename(scans / "A.PNG")
    put(scans, {"a.JSON": labelme([shape("a", SQUARE)])})
    assert len(from_masks(scans, scans).content["annotations"]) == 1


def test_entries_of_via_are_gone_through_once(scans: Path) -> None:
    """Each image went through those of all."""
    entries = {name: value for n in range(50) for name, value in via(name=f"{n}.png").items()}
    for one in outlines.listing(put(scans.parent, {"a.json": json.dumps(entries)}) / "a.json"):
        outlines.Drawing(one)
    assert outlines._entries.cache_info().misses == 1


def test_corners_beside_the_image_are_cut(scans: Path) -> None:
    """Of a file that changed after it was read."""
    corners = [[-2, -1.5], [82, -1], [82, 62], [0, 62]]
    file = put(scans.parent, {"a.json": labelme([])}) / "a.json"
    assert from_masks(scans, file).content["annotations"] == []
    put(scans.parent, {"a.json": labelme([shape("a", corners)])})
    (one,) = from_masks(scans, file).content["annotations"]
    assert reference.decode(one["segmentation"]).tobytes() == filled(corners).tobytes()


def test_turned_images_and_stacks(scans: Path) -> None:
    """LabelMe and browsers show images upright; a stack has several images for one drawing."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((WIDTH, HEIGHT), np.uint8)).save(scans / "t.jpg", exif=exif)
    file = put(scans.parent, {"t.json": labelme([shape("a", SQUARE)])}) / "t.json"
    (one,) = from_masks(scans, file).content["annotations"]
    assert one["segmentation"]["size"] == [HEIGHT, WIDTH]
    assert reference.decode(one["segmentation"]).tobytes() == filled(SQUARE).tobytes()
    (scans / "t.jpg").unlink()
    cv2.imwritemulti(str(scans / "t.tif"), [np.zeros((HEIGHT, WIDTH), np.uint8)] * 2)
    with pytest.raises(ImageError, match=r"t\.tif has 2 frames, its mask \S+t\.json 1 frame"):
        from_masks(scans, file)


def test_masks_beside_other_files_of_json_stay_masks(scans: Path) -> None:
    """LabelMe's own export has both; and names of JSON files follow the options for names."""
    folder = put(scans.parent / "labels", {"a.json": labelme([shape("a", SQUARE)])})
    Image.fromarray(filled(TRIANGLE).astype(np.uint8) * 255).save(folder / "a.png")
    (one,) = from_masks(scans, folder).content["annotations"]
    assert reference.decode(one["segmentation"]).tobytes() == filled(TRIANGLE).tobytes()
    (folder / "a.png").unlink()
    (folder / "a.json").rename(folder / "a_labels.json")
    with pytest.raises(UsageError) as caught:
        from_masks(scans, folder)
    assert caught.value.next == "the same with --suffix _labels"
    (one,) = from_masks(scans, folder, suffix="_labels").content["annotations"]
    assert reference.decode(one["segmentation"]).tobytes() == filled(SQUARE).tobytes()


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ({"united": True}, "the same without --united"), ({"instances": True}, "the same without --instances"),
        ({"classes": {1: "a"}}, "us43d coco --help"),
    ],
)  # fmt: skip
def test_options_of_masks_are_refused(scans: Path, options: dict[str, Any], step: str) -> None:
    file = put(scans.parent, {"a.json": labelme([shape("a", SQUARE)])}) / "a.json"
    with pytest.raises(UsageError, match=r"a\.json has outlines: --classes, --united and --instances") as caught:
        from_masks(scans, file, **options)
    assert caught.value.next == step


def test_memory_of_many_shapes(scans: Path) -> None:
    """Masks of 1 MB, one at a time."""
    Image.fromarray(np.zeros((1000, 1000), np.uint8)).save(scans / "large.png")
    shapes = [shape("cell", [[n, n], [n + 9, n], [n, n + 9]], group=n % 150) for n in range(300)]
    file = put(scans.parent, {"large.json": labelme(shapes, 1000, 1000)}) / "large.json"
    tracemalloc.start()
    content = from_masks(scans, file).content
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(content["annotations"]) == 150
    assert peak < 40e6
