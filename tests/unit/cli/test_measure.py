"""us43d measure, on files and on a specimen's corpus."""

import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from us43d import registry
from us43d.harmonize.build import build
from us43d.harmonize.merge import merge
from us43d.paths import Home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measure")
    raw = folder / "raw"
    raw.mkdir()
    registry.specimen("hc18")(raw, np.random.default_rng(0))
    home = Home(folder / "home")
    merge([build(registry.recipe("hc18"), raw, home, partial=True).path], home.root, "us43d")
    return home.root


def run(*words: str | Path) -> tuple[int, str, str]:
    app = importlib.import_module("us43d.cli.app").app
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert "Traceback" not in result.output
    return result.exit_code, result.stdout, result.stderr


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


def test_the_outlines_of_the_raw_tree_agree_with_the_table(tmp_path: Path) -> None:
    """The path that the card describes: outline and pixel size as fetched, without a build."""
    registry.specimen("hc18")(tmp_path, np.random.default_rng(0))
    table = pd.read_csv(next(tmp_path.rglob("training_set_pixel_size_and_HC.csv")))
    for row in table.itertuples(index=False):
        outline = next(tmp_path.rglob(row[0].replace(".png", "_Annotation.png")))
        code, out, err = run("measure", outline, "--spacing", str(row[1]), "--as", "outline", "--json")
        assert code == 0, err
        assert values(out)["head circumference"] == pytest.approx(row[2], rel=0.01), row[0]


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
