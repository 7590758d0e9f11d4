"""Weights as ONNX compute in onnxruntime what they compute in PyTorch."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from us43d.errors import UsageError
from us43d.model import onnx, weights
from us43d.model.config import PRESETS, ModelConfig
from us43d.model.network import Features, UltraSam
from us43d.model.predictor import Predictor

runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'us43d[onnx]'")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'us43d[onnx]'")

#: Two blocks, one windowed with padding and one global, are all kinds of block that the encoder has.
TINY = PRESETS["tiny"].model_copy(update={"depth": 2, "window": 6, "global_blocks": (1,)})
#: Of graphs with 8-bit weights: norm of the difference in norms of the float32 output. Measured: 0.03.
TOLERANCE = 0.06
DOUBLE = TINY.model_copy(update={"mlp_residual": "double", "decoder_dropout": 0.1})


def held(config: ModelConfig) -> weights.Loaded:
    """Random weights, with relative positions and norms away from the constants they begin at."""
    made = UltraSam.random(config, 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "rel_pos" in name or value.ndim == 1:
                value += 0.1 * torch.randn(value.shape, generator=generator)
    return weights.Loaded(made.state_dict(), config, "us43d")


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max())


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Norm of the difference in norms of ours."""
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))


@torch.inference_mode()
def gaps(
    loaded: weights.Loaded, folder: Path, gap: Callable[[np.ndarray, np.ndarray], float] = largest
) -> dict[str, float]:
    """Worst differences between PyTorch and onnxruntime, over several numbers of prompts and points, by output."""
    model, config = loaded.model(), loaded.config
    rng = np.random.default_rng(1)
    side, low, look = config.image_size, config.mask_size, config.look_size
    sessions = {file.stem: runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
                for file in folder.glob("*.onnx")}  # fmt: skip
    worst: dict[str, float] = {}

    def compare(graph: str, feed: dict[str, np.ndarray], ours: tuple[torch.Tensor | None, ...]) -> list[np.ndarray]:
        theirs = sessions[graph].run(None, feed)
        own = [value for value in ours if value is not None]
        assert len(own) == len(theirs)
        for output, mine, other in zip(sessions[graph].get_outputs(), own, theirs, strict=True):
            assert mine.shape == other.shape
            name = f"{graph} {output.name}"
            worst[name] = max(worst.get(name, 0.0), gap(mine.numpy(), other))
        return theirs

    def numbers(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    image = numbers(1, 3, side, side)
    features = model.encode(torch.from_numpy(image))
    seen = compare("encoder", {"image": image}, (features.embedding, *features.fine))
    names = [output.name for output in sessions["encoder"].get_outputs()]
    kinds = [[2, 3], [1], [1, -1], [0, 1, 2, 3], [1, 0, 0, 1, 1, 0, -1]] + ([[4, 1]] if config.structures else [])
    for labels in kinds:
        for count in (1, 4):
            points = rng.uniform(0, side, (count, len(labels), 2)).astype(np.float32)
            kind = np.tile(np.int64(labels), (count, 1))
            for given in (0, 1):
                mask = 5 * numbers(count, 1, low, low)
                feed = dict(zip(names, seen, strict=True))
                feed |= {"points": points, "labels": kind, "mask": mask, "has_mask": np.float32([given])}
                shown = Features(*(torch.from_numpy(seen[0]), tuple(map(torch.from_numpy, seen[1:])))).expand(count)
                put = torch.from_numpy(points), torch.from_numpy(kind)
                decoded = model.decode(shown, *put, torch.from_numpy(mask) if given else None)
                logits = compare("decoder", feed, decoded)[0]
                if model.second_look is None:
                    continue
                crops, first = numbers(count, 3, look, look), logits[:, 0]
                windows = np.sort(rng.uniform(-0.2, 1.2, (count, 2, 2)), 1).reshape(count, 4).astype(np.float32)
                former = 5 * numbers(count, side, side) if given else np.full((count, 7, 9), -100, np.float32)
                feed = {"crops": crops, "windows": windows, "points": points, "labels": kind, "first": first,
                        "former": former}  # fmt: skip
                tensors = (torch.from_numpy(value) for value in (crops, windows, points, kind, first))
                compare("look", feed, model.second_look(*tensors, torch.from_numpy(former) if given else None))
    return worst


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preset nano, exported."""
    folder = tmp_path_factory.mktemp("conv")
    onnx.export_onnx(held(PRESETS["nano"]), folder / "onnx", folder)
    return folder / "onnx"


@pytest.mark.parametrize("config", [TINY, DOUBLE], ids=["vit", "double"])
def test_onnxruntime_computes_what_pytorch_does(tmp_path: Path, config: ModelConfig) -> None:
    loaded = held(config)
    onnx.export_onnx(loaded, tmp_path / "onnx", tmp_path / "weights")
    _equal(loaded, tmp_path / "onnx", {"encoder", "decoder"})


def test_onnxruntime_computes_what_pytorch_does_with_a_second_look(conv: Path) -> None:
    _equal(held(PRESETS["nano"]), conv, {"encoder", "decoder", "look"})


def _equal(loaded: weights.Loaded, folder: Path, graphs: set[str]) -> None:
    worst = gaps(loaded, folder)
    assert {name.split()[0] for name in worst} == graphs
    assert max(worst.values()) <= 1e-4, worst
    _run_the_readme(loaded, folder)


def _run_the_readme(loaded: weights.Loaded, folder: Path, differing: float = 1e-3) -> None:
    """Its code gives the mask that the predictor gives without refinement, but for a fraction of the pixels: OpenCV's
    and PyTorch's interpolation round differently."""
    scan = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 255, (110, 170, 3), np.uint8), (0, 0), 5)
    cv2.imwrite(str(folder / "scan.png"), scan)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(code, names)
    finally:
        os.chdir(before)
    predictor = Predictor(loaded.model())
    predictor.set_image(scan[:, :, ::-1])
    expected = predictor.predict(box=(40, 30, 90, 80), refine=0).mask
    mask = names["mask"]
    assert isinstance(mask, np.ndarray)
    assert mask.shape == expected.shape
    assert 0 < expected.sum() < expected.size
    assert (mask != expected).mean() < differing


def test_what_goes_with_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "run"
    source.mkdir()
    (source / "README.md").write_text("# The card")
    (source / "references.bib").write_text("@article{a}")
    loaded = held(TINY)
    loaded.meta["public"] = "medsam"
    monkeypatch.setattr(onnx, "_graphs", lambda model, folder: {"encoder": {"outputs": ["embedding"]}})
    assert onnx.export_onnx(loaded, tmp_path / "out", source) == ()
    assert (tmp_path / "out/MODEL_CARD.md").read_text() == "# The card"
    assert (tmp_path / "out/references.bib").read_text() == "@article{a}"
    assert json.loads((tmp_path / "out/config.json").read_text())["licence"].startswith("Apache-2.0, as medsam")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(onnx, "_graph", fail)
    with pytest.raises(RuntimeError):
        onnx.export_onnx(held(TINY), tmp_path / "out", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="onnx and onnxscript"):
        onnx.export_onnx(held(TINY), tmp_path / "out", tmp_path)


def test_int8_agrees_with_float32(tmp_path: Path, conv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features and logits within TOLERANCE of their norm. Random weights; what it costs in Dice: docs/benchmarks.md."""
    loaded = held(PRESETS["nano"])

    def graphs(model: UltraSam, folder: Path) -> Any:
        for file in conv.glob("*.onnx"):
            shutil.copy(file, folder)
        return json.loads((conv / "config.json").read_text())["graphs"]

    monkeypatch.setattr(onnx, "_graphs", graphs)
    onnx.export_onnx(loaded, tmp_path / "int8", tmp_path / "weights", int8=True)
    worst = gaps(loaded, tmp_path / "int8", relative)
    checked = {name: gap for name, gap in worst.items() if not name.endswith((" iou", " presence"))}  # one number
    assert {name.split()[0] for name in checked} == {"encoder", "decoder", "look"}
    assert max(checked.values()) <= TOLERANCE, worst
    assert min(checked.values()) > 1e-3, worst  # float32 agrees within 1e-5
    size = sum(file.stat().st_size for file in (tmp_path / "int8").glob("*.onnx"))
    assert size < 0.6 * sum(4 * value.numel() for value in loaded.state.values())
    assert json.loads((tmp_path / "int8/config.json").read_text())["precision"] == "int8"
    assert "8 bits" in (tmp_path / "int8/README.md").read_text("utf-8")
    _run_the_readme(loaded, tmp_path / "int8", 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shipped", "vit_b"])
def test_full_size(tmp_path: Path, name: str) -> None:
    loaded = weights.load(weights.shipped()) if name == "shipped" else held(PRESETS["vit_b"])
    onnx.export_onnx(loaded, tmp_path / "onnx", weights.shipped())
    worst = gaps(loaded, tmp_path / "onnx")
    print(worst)
    assert max(worst.values()) <= 1e-4, worst
