"""Builds of real cuts against the raw files, read independently (Pillow, scikit-image, SciPy; no reader of ours)."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import measure

from us43d import registry
from us43d.errors import CountError
from us43d.harmonize import shards
from us43d.harmonize.build import BuildResult, build
from us43d.harmonize.check import check
from us43d.loading import LoadedSample, Samples
from us43d.paths import Home

pytestmark = pytest.mark.shared

CUTS = ("stu_hospital", "busbra", "bus_uclm", "hc18", "mmotu_2d")
Mask = NDArray[np.bool_]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("cuts"))


@pytest.fixture
def cut(shared: Path, home: Home, request: pytest.FixtureRequest) -> tuple[Path, BuildResult]:
    """The raw folder and its build, corrections left out: as the source has it."""
    raw = shared / "real" / request.param
    return raw, build(registry.recipe(request.param), raw, home, partial=True, fixes=False)


def of(*slugs: str) -> Any:
    return pytest.mark.parametrize("cut", slugs, indirect=True)


def drawn(sample: LoadedSample) -> Mask:
    """All of a sample's masks in one."""
    empty = np.zeros(sample.image.shape[:2], bool)
    return np.logical_or.reduce([empty, *(mask for masks in sample.masks.values() for mask in masks)])


def labels(sample: LoadedSample) -> set[str]:
    return {each["us43d"]["label"] for each in sample.annotations}


def grey(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("L"))


def nearest(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Resized so that each pixel takes the one its centre falls on (Pillow's rule)."""
    return np.asarray(Image.fromarray(mask).resize((shape[1], shape[0]), Image.Resampling.NEAREST))


def samples(result: BuildResult) -> dict[str, LoadedSample]:
    return {sample.meta["us43d"]["key"]: sample for sample in Samples.of_build(result.path)}


def rows(result: BuildResult) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in shards.read_manifest(result.path / shards.MANIFEST)}


@of(*CUTS)
def test_build_is_sound_and_counts_are_reported(cut: tuple[Path, BuildResult]) -> None:
    _, result = cut
    assert check(result.path) == []
    assert result.dataset["drops"] == {}
    short = {each["what"] for each in result.dataset["counts"]["differences"]}
    assert ("images" in short) == (result.dataset["slug"] != "stu_hospital")


@of("busbra")
def test_a_cut_is_no_whole_source(cut: tuple[Path, BuildResult], tmp_path: Path) -> None:
    with pytest.raises(CountError, match=r"images 124 of 1,875 \(-1,751\)"):
        build(registry.recipe("busbra"), cut[0], Home(tmp_path))


@of("stu_hospital")
def test_stu_hospital(cut: tuple[Path, BuildResult]) -> None:
    raw, result = cut
    found = samples(result)
    assert len(found) == 42
    resized = 0
    for key, sample in found.items():
        number = key.removesuffix(".png").rpartition("_")[2]
        mask = grey(raw / "Hospital" / f"mask_{number}.png") > 127
        resized += mask.shape != sample.image.shape[:2]
        assert np.array_equal(drawn(sample), nearest(mask, sample.image.shape[:2])), key
        assert np.array_equal(sample.image if sample.image.ndim == 2 else sample.image[..., 0], grey(raw / key)), key
    assert resized == result.dataset["remarks"]["mask resized to its image by nearest neighbour"] == 36
    assert result.dataset["remarks"]["grey mask edge"] == 41


@of("busbra")
def test_busbra(cut: tuple[Path, BuildResult]) -> None:
    raw, result = cut
    with (raw / "BUSBRA" / "bus_data.csv").open(newline="") as file:
        table = {row["ID"]: row for row in csv.DictReader(file)}
    found, said = samples(result), rows(result)
    assert len(found) == len(list((raw / "BUSBRA" / "Images").glob("*.png")))
    odd = 0
    for key, sample in found.items():
        name = Path(key).stem
        mask = (
            np.asarray(Image.open(raw / "BUSBRA" / "Masks" / f"{name.replace('bus', 'mask')}.png").convert("L")) > 127
        )
        assert np.array_equal(drawn(sample), mask), key
        assert labels(sample) == {table[name]["Pathology"]}
        assert sample.meta["us43d"]["group"] == table[name]["Case"]
        size = (int(table[name]["Height"]), int(table[name]["Width"]))
        odd += size != mask.shape
        assert (size != mask.shape) == any("differs from the table" in r for r in json.loads(said[key]["remarks"]))
    assert odd == 4


@of("bus_uclm")
def test_bus_uclm(cut: tuple[Path, BuildResult]) -> None:
    raw, result = cut
    found, said = samples(result), rows(result)
    assert len(found) == len(list((raw / "BUS-UCLM" / "images").glob("*.png")))
    resized = set()
    for key, sample in found.items():
        painted = np.asarray(Image.open(raw / "BUS-UCLM" / "masks" / Path(key).name).convert("RGB")).astype(int)
        mask = (painted > 127).any(axis=2)
        if mask.shape != sample.image.shape[:2]:
            resized.add(Path(key).name[:4])
            assert any("mask resized" in remark for remark in json.loads(said[key]["remarks"]))
        assert np.array_equal(drawn(sample), nearest(mask, sample.image.shape[:2])), key
        colours = {
            "malignant" if (painted[..., 0] > 127).any() else "",
            "benign" if (painted[..., 1] > 127).any() else "",
        }
        assert labels(sample) == colours - {""}, key
        assert sample.meta["us43d"]["group"] == Path(key).name[:4]
    assert resized == {"HESN"}


@of("hc18")
def test_hc18(cut: tuple[Path, BuildResult]) -> None:
    raw, result = cut
    with (raw / "training_set_pixel_size_and_HC.csv").open(newline="") as file:
        table = {row["filename"]: row for row in csv.DictReader(file)}
    found, said = samples(result), rows(result)
    assert len(found) == 36
    opened = 0
    for key, sample in found.items():
        name = Path(key).name
        row = table[name]
        outline = grey(raw / "training_set" / name.replace(".png", "_Annotation.png")) > 127
        filled = ndimage.binary_fill_holes(outline)
        assert filled is not None
        mask = drawn(sample)
        remarks = json.loads(said[key]["remarks"])
        assert sample.meta["us43d"]["spacing_mm"] == [float(row["pixel size(mm)"])] * 2
        assert (mask & outline).sum() == outline.sum(), "the outline belongs to the head"
        if filled.sum() > 3 * outline.sum():
            assert np.array_equal(mask, filled), key
            assert not remarks
            around = perimeter(mask) * float(row["pixel size(mm)"])
            assert around == pytest.approx(float(row["head circumference (mm)"]), rel=0.03), key
        else:
            opened += 1
            assert remarks == ["open outline completed by the fitted ellipse"], key
            assert mask.sum() > 3 * outline.sum()
    assert opened == 4


def perimeter(mask: Mask) -> float:
    """Of the ellipse with the mask's area and second moments, by Ramanujan's second formula, in pixels."""
    (region,) = measure.regionprops(mask.astype(np.uint8))
    a, b = region.axis_major_length / 2, region.axis_minor_length / 2
    h = ((a - b) / (a + b)) ** 2
    return math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))


@of("mmotu_2d")
def test_mmotu_2d(cut: tuple[Path, BuildResult]) -> None:
    raw, result = cut
    found, said = samples(result), rows(result)
    assert len(found) == 34
    for key, sample in found.items():
        number = Path(key).stem
        two = grey(raw / "OTU_2d" / "annotations" / f"{number}_binary.PNG") > 0
        assert np.array_equal(drawn(sample), two), key
        assert len(labels(sample)) == 1, key
        assert "unclassified" not in labels(sample), key
    groups = {Path(key).stem: row["group"] for key, row in said.items()}
    for twins in ((38, 39, 40), (82, 84, 85, 88), (144, 146), (225, 226), (890, 892), (1290, 1291)):
        assert len({groups[str(number)] for number in twins}) == 1, twins


@of(*CUTS)
def test_ground_truth_against_itself_is_perfect(
    cut: tuple[Path, BuildResult], capsys: pytest.CaptureFixture[str]
) -> None:
    from faster_coco_eval import COCO as Faster
    from faster_coco_eval import COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    _, result = cut
    for shard in sorted((result.path / "annotations").glob("*.json")):
        for make, judge in ((COCO, COCOeval), (Faster, COCOeval_faster)):
            truth = make(str(shard))
            assert len(truth.getAnnIds()) == len(json.loads(shard.read_bytes())["annotations"])
            if not truth.getAnnIds():
                continue
            same = [{**truth.anns[number], "score": 1.0} for number in truth.getAnnIds()]
            found = truth.loadRes(same)
            verdict = judge(truth, found, "segm")
            verdict.evaluate()
            verdict.accumulate()
            verdict.summarize()
            assert verdict.stats[0] == pytest.approx(1.0)
    capsys.readouterr()
