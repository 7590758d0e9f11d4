"""us43d measure, on files and on a specimen's corpus."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from us43d import registry
from us43d.harmonize.merge import merge
from us43d.paths import Home

from .runs import run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, built: Callable) -> Path:
    home, builds = built(tmp_path_factory.mktemp("measure"), "hc18")
    merge(builds, home.root, "us43d")
    return home.root


def oval(path: Path, axes: tuple[int, int], width: int = -1) -> Path:
    canvas = np.zeros((300, 400), np.uint8)
    cv2.ellipse(canvas, (200, 150), axes, 0, 0, 360, 255, width)
    cv2.imwrite(str(path), canvas)
    return path


def values(out: str) -> dict[str, float]:
    return {each["quantity"]: each["value"] for each in json.loads(out)["measurements"]}


def test_files(tmp_path: Path) -> None:
    file = oval(tmp_path / "head.png", (120, 90))
    code, out, err = run("measure", file, "--spacing", "0.5", "--as", "head", "--json")
    assert code == 0, err
    assert values(out)["biparietal diameter, outer to outer"] == pytest.approx(90, rel=0.02)
    line = oval(tmp_path / "line.png", (120, 90), 3)
    code, out, err = run("measure", line, "--spacing", "0.5", "--as", "outline", "--json")
    assert code == 0, err
    assert values(out)["biparietal diameter, outer to outer"] == pytest.approx(90, rel=0.01)
    assert "area" not in values(out)


def test_a_mask_is_turned_by_its_orientation_tag(tmp_path: Path) -> None:
    """As predict and train turn it; x and y of the spacing were exchanged."""
    oval(tmp_path / "plain.png", (120, 60))
    tag = Image.Exif()
    tag[274] = 6
    with Image.open(tmp_path / "plain.png") as image:
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=tag)
    measured = []
    for name in ("plain.png", "turned.png"):
        code, out, err = run("measure", tmp_path / name, "--spacing", "0.1,0.3", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["measurements"][0]["file"] == str(tmp_path / name)
        measured.append(values(out))
    assert measured[0] == measured[1]


def test_what_looks_wrong_in_a_mask_is_remarked(tmp_path: Path) -> None:
    canvas = np.zeros((300, 400), np.uint8)
    cv2.circle(canvas, (100, 100), 40, 255, -1)
    cv2.imwrite(str(tmp_path / "inverted.png"), 255 - canvas)
    cv2.circle(canvas, (300, 200), 40, 255, -1)
    cv2.imwrite(str(tmp_path / "two.png"), canvas)
    cv2.imwrite(str(tmp_path / "soft.png"), cv2.GaussianBlur(canvas, (5, 5), 0))
    names = [tmp_path / f"{name}.png" for name in ("inverted", "two", "soft")]
    code, _, err = run("measure", *names, "--spacing", "0.1")
    assert code == 0
    assert f"{names[0]} covers all four corners" in err
    assert f"{names[1]} has 2 separate areas, which are measured as one object." in err
    assert f"{names[2]}: grey mask edge: " in err
    cv2.imwritemulti(str(tmp_path / "stack.tif"), [canvas, canvas])
    code, _, err = run("measure", tmp_path / "stack.tif", "--spacing", "0.1")
    assert (code, "stack.tif has 2 frames; a mask has one." in err) == (1, True)
    code, _, err = run("measure", names[1], "--spacing", "0.1", "--out", tmp_path / "out")
    assert (code, "--out is for --on" in err) == (2, True)


def test_ejection_fraction_of_two_files(tmp_path: Path) -> None:
    one, two = oval(tmp_path / "ed.png", (120, 60)), oval(tmp_path / "es.png", (120, 42))
    code, out, err = run("measure", one, two, "--spacing", "0.3", "--as", "ventricle", "--json")
    assert code == 0, err
    # Of ellipsoids of one length, volumes are as the squares of the widths.
    for rule in ("area-length", "Simpson, one view"):
        assert values(out)[f"ejection fraction, {rule}"] == pytest.approx(100 * (1 - 0.49), abs=1.5)


def test_reference_masks_against_the_table(home: Path, tmp_path: Path) -> None:
    code, out, err = run("measure", "--on", "HC18", "--home", home, "--out", tmp_path / "m", "--json")
    assert code == 0, err
    (entry,) = json.loads(out)["agreements"]
    assert entry["quantity"] == "hc"
    assert 0 < entry["agreement"]["percent"] < 3
    assert (tmp_path / "m" / "page.html").read_text().count("<svg") >= 1
    assert (tmp_path / "m" / "measurements.csv").is_file()
    assert "overstate the circumference by 0.67 %" in err
    assert "--as outline" in run("card", "HC18")[1]


def test_the_centre_lines_of_outlines_agree_with_the_table(tmp_path: Path, shared: Path) -> None:
    """The way that the card describes, on real outlines: no bias, where filled masks are 0.7 % too large."""
    raw = Home(tmp_path / "home").raw("HC18")
    raw.parent.mkdir(parents=True)
    raw.symlink_to(shared / "real" / "hc18")
    out = tmp_path / "heads"
    code, text, err = run(
        "measure", "--on", "HC18", "--as", "outline", "--home", tmp_path / "home", "--out", out, "--json"
    )
    assert code == 0, err
    told, table = json.loads(text), pd.read_csv(out / "outlines.csv")
    assert told["outlines"] == len(table) > 30
    assert told["compared"] == told["outlines"]
    assert abs(told["mean_difference_percent"]) < 0.02
    assert told["largest_difference_percent"] < 0.05
    assert (table["hc_mm"] / table["published_hc_mm"] - 1).abs().max() < 5e-4
    # The centre, axes and angle are those of the line: drawn, it covers the outline.
    row, sizes = table.iloc[0], pd.read_csv(raw / "training_set_pixel_size_and_HC.csv", index_col="filename")
    spacing = sizes["pixel size(mm)"][Path(row["key"]).name]
    outline = cv2.imread(str(raw / row["key"].replace(".png", "_Annotation.png")), cv2.IMREAD_GRAYSCALE)
    x, y, long, short = (float(row[name]) / spacing for name in ("x_mm", "y_mm", "ofd_mm", "bpd_mm"))
    line = np.zeros_like(outline)
    cv2.ellipse(line, ((x - 0.5, y - 0.5), (long, short), float(row["angle_degrees"])), 1, 1)
    assert (outline[line == 1] > 0).mean() > 0.98


def test_centre_lines_are_those_of_outlines_alone(home: Path, tmp_path: Path) -> None:
    code, _, err = run("measure", "--on", "BUSI", "--as", "outline", "--home", home)
    assert code == 2
    assert "raw files of BUSI" in err
    raw = Home(home).raw("BUSI")
    raw.mkdir(parents=True)
    registry.specimen("busi")(raw, np.random.default_rng(0))
    code, _, err = run("measure", "--on", "BUSI", "--as", "outline", "--home", home)
    assert code == 2
    assert "masks of BUSI are not filled outlines" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Give either mask files or --on"),
        (("m.png",), "need the pixel spacing"),
        (("m.png", "--spacing", "x"), "Invalid --spacing 'x'"),
        (("m.png", "--spacing", "0"), "Invalid --spacing '0'"),
        (("empty.png", "--spacing", "1"), "is empty"),
        (("text.png", "--spacing", "1"), "text.png"),
        (("m.png", "m.png", "m.png", "--spacing", "1", "--as", "ventricle"), "not 3 files"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    oval(tmp_path / "m.png", (50, 40))
    cv2.imwrite("empty.png", np.zeros((9, 9), np.uint8))
    Path("text.png").write_text("nothing")
    code, _, err = run("measure", *words)
    assert code in (1, 2)
    assert said in err
    assert len(err.strip().splitlines()) <= 3


@pytest.mark.parametrize(("more", "name"), [((), "page.html"), (("--as", "outline"), "outlines.csv")])
def test_a_file_of_the_user_is_found_before_measuring(tmp_path: Path, more: tuple[str, ...], name: str) -> None:
    """There is no build: nothing was opened before."""
    (tmp_path / name).write_text("mine")
    code, _, err = run("measure", "--on", "HC18", *more, "--home", tmp_path / "home", "--out", tmp_path)
    assert code == 1
    assert f"{tmp_path / name} exists, and is not recorded as a result of us43d." in err


def test_masks_of_a_coco_file(tmp_path: Path) -> None:
    """As label and predict write them: spacing of the image, structures by their category."""
    square = [10, 10, 50, 10, 50, 30, 10, 30]
    image = {"id": 1, "file_name": "a.dcm", "frame": 2, "width": 100, "height": 80, "spacing_mm": [0.5, 0.2]}
    file = tmp_path / "labels.json"
    content = {
        "images": [image, {"id": 2, "file_name": "b.png", "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "fetal_head"}, {"id": 2, "name": "cyst"}],
        "annotations": [
            {"id": 7, "image_id": 1, "category_id": 2, "segmentation": [square]},
            {"id": 8, "image_id": 1, "category_id": 1, "segmentation": [square]},
            {"id": 9, "image_id": 2, "category_id": 2, "segmentation": [square]},
        ],
    }
    file.write_text(json.dumps(content))
    code, out, err = run("measure", file, "--json")
    assert code == 0
    assert "1 mask of images without spacing" in err
    rows = json.loads(out)["measurements"]
    assert {row["annotation"]: row["value"] for row in rows if row["quantity"] == "area"} == {"7": 80, "8": 80}
    assert {row["annotation"] for row in rows if row["quantity"] == "head circumference"} == {"8"}
    assert {(row["file"], row["frame"]) for row in rows} == {("a.dcm", 2)}
    code, out, err = run("measure", file, "--spacing", "1", "--as", "ventricle", "--out", tmp_path / "sizes")
    assert code == 0, err
    table = pd.read_csv(tmp_path / "sizes" / "measurements.csv")
    assert table["annotation"].tolist() == [7] * 3 + [8] * 3 + [9] * 3
    assert set(table["unit"]) == {"mm", "ml"}

    content["annotations"] = [
        {"id": 7, "image_id": 1, "category_id": 1, "segmentation": [[10, 10, 11, 10, 11, 11, 10, 11]]}
    ]
    file.write_text(json.dumps(content))
    assert "2 quantities of masks too small to measure: shown as nan" in run("measure", file)[2]

    del image["spacing_mm"]
    file.write_text(json.dumps(content))
    code, _, err = run("measure", file)
    assert code
    assert "--spacing 0.1" in err
