"""A Hugging Face folder: transformers reads it offline, resizes as us43d does, and gives the same masks."""

import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from us43d.errors import UsageError
from us43d.model import weights
from us43d.model.config import PRESETS
from us43d.model.geometry import fitted, normalised
from us43d.model.hub import export_huggingface
from us43d.model.network import UltraSam
from us43d.model.predictor import Predictor

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'us43d[dev]'")

TINY = PRESETS["tiny"].model_copy(update={"depth": 2, "window": 6, "global_blocks": (1,)})
DOUBLE = TINY.model_copy(update={"mlp_residual": "double", "decoder_dropout": 0.1})


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def held(form: weights.Form, **meta: object) -> weights.Loaded:
    config = DOUBLE if form == "ultrasam" else TINY
    return weights.Loaded(UltraSam.random(config, 0).state_dict(), config, form, meta=meta)


def scan(rows: int = 110, columns: int = 171) -> np.ndarray:
    noise = np.random.default_rng(2).integers(0, 255, (rows, columns, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 5)


@pytest.mark.parametrize("form", ["meta", "ultrasam"])
def test_a_finished_folder(tmp_path: Path, form: weights.Form) -> None:
    """The code of the model card gives the mask that the predictor gives without refinement."""
    loaded = held(form)
    public = {"meta": "sam_vit_b", "ultrasam": "ultrasam"}[form]
    export_huggingface(loaded, tmp_path / "model", tmp_path / "weights.pth", public)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "LICENSE", "README.md", "config.json", "model.safetensors", "preprocessor_config.json", "references.bib",
    ]  # fmt: skip
    text = (tmp_path / "model" / "README.md").read_text("utf-8")
    header = yaml.safe_load(text.split("---")[1])
    licence = {"meta": "apache-2.0", "ultrasam": "cc-by-nc-sa-4.0"}[form]
    assert (header["license"], header["pipeline_tag"]) == (licence, "mask-generation")
    assert licence.upper() in (tmp_path / "model" / "LICENSE").read_text("utf-8").upper()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    picture = scan()
    cv2.imwrite(str(tmp_path / "scan.png"), picture)
    names: dict[str, object] = {}
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        exec(code, names)
    finally:
        os.chdir(before)
    for again in (loaded, weights.load(tmp_path / "model")):
        assert again.preprocessing == {"meta": "sam", "ultrasam": "ultrasam"}[form]
        predictor = Predictor(again.model())
        predictor.preprocessing = again.preprocessing
        predictor.set_image(picture[:, :, ::-1])
        expected = predictor.predict(box=(40, 30, 90, 80), refine=0).mask
        assert 0 < expected.sum() < expected.size
        mask = names["mask"]
        assert isinstance(mask, np.ndarray)
        assert (mask != expected).mean() < 2e-3  # of logits next to 0


@pytest.mark.parametrize("shape", [(110, 171), (300, 300), (540, 660), (50, 80), (200, 3000)])
def test_images_are_resized_as_transformers_does(tmp_path: Path, shape: tuple[int, int]) -> None:
    """To the pixel for SAM's weights. For UltraSam's, to the pixel after the resizing of the model card."""
    side = TINY.image_size
    for form in ("meta", "ultrasam"):
        export_huggingface(held(form), tmp_path / form, tmp_path)
    picture = scan(*shape)
    processor = transformers.SamProcessor.from_pretrained(tmp_path / "meta")
    found = processor(picture, return_tensors="pt")
    assert tuple(found["reshaped_input_sizes"][0].tolist()) == fitted(shape, side, how="sam")
    assert (normalised(picture, side, how="sam") - found["pixel_values"][0]).abs().max() < 1e-5
    own = fitted(shape, side)
    small = cv2.resize(picture, own[::-1])
    found = transformers.SamProcessor.from_pretrained(tmp_path / "ultrasam")(small, return_tensors="pt")
    assert tuple(found["reshaped_input_sizes"][0].tolist()) == own
    assert (normalised(picture, side) - found["pixel_values"][0]).abs().max() < 1e-5


def test_the_sides_are_those_of_each_software() -> None:
    assert fitted((540, 660), 1024, how="sam") == (838, 1024)
    assert fitted((540, 660), 1024) == (837, 1024)


def test_the_record_decides(tmp_path: Path) -> None:
    weights.export(held("meta"), tmp_path / "sam.pth", "meta")
    weights.export(held("ultrasam"), tmp_path / "ultrasam.pth", "ultrasam")
    expected = {"sam": "sam", "ultrasam": "ultrasam"}
    for name, how in expected.items():
        loaded = weights.load(tmp_path / f"{name}.pth")
        assert loaded.preprocessing == how
        weights.export(loaded, tmp_path / name, "us43d")
        assert weights.load(tmp_path / name).preprocessing == how
        assert Predictor.from_weights(tmp_path / name).preprocessing == how
    weights.save(UltraSam.random(TINY, 0), tmp_path / "run", {"run": "mine"})
    assert weights.load(tmp_path / "run").preprocessing == "ultrasam"  # as it was trained
    assert held("us43d", public="medsam").preprocessing == "sam"
    assert weights.load(weights.shipped()).preprocessing == "ultrasam"
    image = scan(540, 660)
    assert Predictor.from_weights(tmp_path / "sam").encode(image).inner == fitted((540, 660), 128, how="sam")
    notes = weights.export(weights.load(tmp_path / "ultrasam"), tmp_path / "plain.pth", "meta")
    assert "does not record the preprocessing" in notes[-1]


def test_what_came_with_the_weights_goes_along(tmp_path: Path) -> None:
    source = tmp_path / "run"
    source.mkdir()
    (source / "README.md").write_text("# The card")
    (source / "references.bib").write_text("@article{a}")
    meta = {"licences": {"by_licence": {"Creative Commons Attribution 4.0": ["BUSI"]}}, "init": None}
    export_huggingface(held("us43d", **meta), tmp_path / "out", source)
    assert (tmp_path / "out" / "MODEL_CARD.md").read_text() == "# The card"
    assert (tmp_path / "out" / "references.bib").read_text() == "@article{a}"
    header = yaml.safe_load((tmp_path / "out" / "README.md").read_text("utf-8").split("---")[1])
    assert header["license"] == "cc-by-4.0"
    assert "trained on Creative Commons Attribution 4.0: BUSI" in (tmp_path / "out" / "LICENSE").read_text()


@pytest.mark.parametrize("form", ["huggingface", "meta", "ultrasam"])
@pytest.mark.parametrize("name", ["nano", "ultrasam-clicks"])
def test_models_that_are_not_sams_are_refused(tmp_path: Path, name: str, form: weights.Form) -> None:
    config = PRESETS[name]
    with pytest.raises(UsageError, match=f"does not have SAM's architecture, which the form {form} requires") as caught:
        weights.export(weights.Loaded({}, config, "us43d"), tmp_path / "out", form)
    assert caught.value.next == "the same with --to onnx   (or --to us43d)"
    with pytest.raises(UsageError):
        export_huggingface(weights.Loaded({}, config, "us43d"), tmp_path / "out", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record(tmp_path: Path) -> None:
    export_huggingface(held("meta"), tmp_path / "out", tmp_path)
    (tmp_path / "out" / weights.PREPROCESSOR).write_text("[" * 100_000)
    with pytest.raises(weights.WeightsError, match=r"preprocessor_config\.json is unreadable"):
        weights.load(tmp_path / "out")
    (tmp_path / "out" / weights.PREPROCESSOR).write_text(json.dumps({"us43d": [1]}))
    assert weights.load(tmp_path / "out").preprocessing == "sam"
