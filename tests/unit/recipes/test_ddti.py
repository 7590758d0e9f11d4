"""DDTI's other forms: the original XML one, and the crops of the paper profile."""

from pathlib import Path

import numpy as np
import pytest

from us43d import registry
from us43d.contract import Polygon, RawTree
from us43d.errors import BuildError, RawDataError, UnreadableFile
from us43d.harmonize.build import build
from us43d.paths import Home
from us43d.specimen import write_image

_CASE = """<?xml version="1.0" encoding="utf-8"?><case><number>1</number>
<mark><image>1</image><svg>[{"points": [{"x": 10, "y": 12}, {"x": 40, "y": 14}, {"x": 25, "y": 44}],
"annotation": {}, "regionType": "freehand"}]</svg></mark><mark><image>2</image><svg></svg></mark></case>"""


def original(root: Path, case: str) -> RawTree:
    for n in (1, 2):
        write_image(root / f"1_{n}.jpg", np.zeros((60, 50), np.uint8))
    (root / "1.xml").write_text(case)
    (root / "7.xml").write_text("<case/>")
    return RawTree(root)


@pytest.mark.parametrize("folder", ["", "thyroid/"])
def test_original_form(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    original(tmp_path / folder, _CASE)
    first, second = registry.recipe("ddti").read(RawTree(tmp_path))
    assert (first.key, first.group, second.key) == ("1_1.jpg", "case 1", "1_2.jpg")
    (contour,) = first.masks["thyroid_nodule"]
    assert contour == Polygon(((10, 12), (40, 14), (25, 44)))
    assert second.drop == "no contour is published for this image"


@pytest.mark.parametrize("case", ["<case>", _CASE.replace('"x"', '"z"'), _CASE.replace("[{", "[{{")])
def test_a_broken_case_names_its_file(tmp_path: Path, case: str) -> None:
    with pytest.raises(UnreadableFile, match=r"1\.xml .* is not (a valid DDTI case|readable XML)"):
        list(registry.recipe("ddti").read(original(tmp_path, case)))


def test_the_paper_reads_the_crops(tmp_path: Path) -> None:
    truth = registry.specimen("ddti")(tmp_path, np.random.default_rng(0))
    samples = list(registry.recipe("ddti").reader("paper")(RawTree(tmp_path)))
    assert len(samples) == len(truth.samples)
    assert {sample.key.rpartition("/")[0] for sample in samples} == {"2_preprocessed_data/stage1/p_image"}


def test_what_a_case_says_is_kept_and_identical_contours_are_one(tmp_path: Path) -> None:
    said = "<age>52</age><sex>F</sex><composition>solid</composition><tirads>4a</tirads><calcifications/>"
    mark = _CASE[_CASE.index("<mark>") : _CASE.index("</mark>") + len("</mark>")]
    case = _CASE.replace("<number>1</number>", f"<number>1</number>{said}{mark}")
    first, _ = registry.recipe("ddti").read(original(tmp_path, case))
    assert first.tags == {"age": "52", "sex": "F", "composition": "solid", "tirads": "4a"}
    assert len(first.masks["thyroid_nodule"]) == 1
    assert first.remarks == ("identical contours are one annotation: 1 left out",)


def test_a_mask_without_its_image_is_named(tmp_path: Path) -> None:
    """The image was lost without a word where counts are not enforced."""
    registry.specimen("ddti")(tmp_path, np.random.default_rng(0))
    recipe, home = registry.recipe("ddti"), Home(tmp_path.parent / f"{tmp_path.name}-home")
    build(recipe, tmp_path, home, profile="paper", partial=True)
    image = next(tmp_path.rglob("1_or_data/image/*.PNG"))
    image.unlink()
    with pytest.raises(BuildError, match=rf"mask/{image.name} \(image .*image/{image.name} is missing\)"):
        build(recipe, tmp_path, home, partial=True)
    build(recipe, tmp_path, home, profile="paper", partial=True)


def test_what_the_paper_profile_does_not_read_is_named(tmp_path: Path) -> None:
    """A crop without its image, and any file beside the whole images, were not noticed."""
    registry.specimen("ddti")(tmp_path, np.random.default_rng(0))
    recipe, home = registry.recipe("ddti"), Home(tmp_path.parent / f"{tmp_path.name}-home")
    (stray := next(tmp_path.rglob("1_or_data")) / "image/1.png.part").touch()
    with pytest.raises(BuildError, match=r"neither read nor ignored by name: .*1\.png\.part"):
        build(recipe, tmp_path, home, profile="paper", partial=True)
    stray.unlink()
    crop = next(tmp_path.rglob("stage1/p_image/*.PNG"))
    crop.unlink()
    with pytest.raises(RawDataError, match=f"p_image/{crop.name} is missing"):
        build(recipe, tmp_path, home, profile="paper", partial=True)
