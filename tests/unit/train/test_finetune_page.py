"""docs/finetune.md, followed word by word with small pictures and a small model."""

import importlib
import json
import re
import shlex
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from us43d import specimen
from us43d.model import onnx, weights
from us43d.model.network import PRESETS, UltraSam

PAGE = Path(__file__).resolve().parents[3] / "docs" / "finetune.md"
#: What is not on the page: fewer steps, settings for a CPU.
SHORT = (
    "--steps",
    "2",
    "--set",
    "batch=4",
    "--set",
    "micro_batch=4",
    "--set",
    "precision=float32",
    "--set",
    "workers=0",
    "--set",
    "validation_images=2",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """scans/ and masks/ of six patients, scan.png, and weights under the name ultrasam."""
    rng = np.random.default_rng(0)
    for name in ("scans", "masks"):
        (tmp_path / name).mkdir()
    for n in range(12):
        shape = ((96, 120), (120, 96))[n % 2]
        mask = specimen.blob(shape, rng, 0.3)
        picture = specimen.speckle(shape, [mask], rng)
        for name, pixels in (("scans", picture), ("masks", 255 * mask.astype(np.uint8))):
            cv2.imwrite(str(tmp_path / name / f"p{n // 2:02}_{n % 2}.png"), pixels)
    cv2.imwrite(str(tmp_path / "scan.png"), specimen.speckle((240, 200), [specimen.blob((240, 200), rng)], rng))
    small = PRESETS["tiny"].model_copy(update={"depth": 2, "global_blocks": (1,), "image_size": 64})
    weights.save(UltraSam.random(small, 0), tmp_path / "home" / "weights" / "ultrasam")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("US43D_HOME", str(tmp_path / "home"))
    return tmp_path


def test_the_page(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The graphs of this architecture are made by the commands of docs/evaluation.md (tests/pages).
    monkeypatch.setattr(onnx, "_graph", lambda module, file, *rest: file.touch() or {"inputs": [], "outputs": []})
    text = PAGE.read_text("utf-8")
    main = importlib.import_module("us43d.cli.app").main
    before = signal.getsignal(signal.SIGTERM)
    commands = re.findall(r"^ {8}us43d ([^#\n]+)", text, re.M)
    assert [command.split()[0] for command in commands] == ["coco", "train", "eval", "eval", "predict", "weights"]
    for command in commands:
        words = [*shlex.split(command), *(SHORT if command.startswith("train") else ())]
        monkeypatch.setattr("sys.argv", ["us43d", *words])
        code = main()
        said = capfd.readouterr()
        assert code == 0, (command, said.err)
        if command.startswith("coco"):
            content = json.loads(Path("my_coco.json").read_text())
            assert len({each["patient_id"] for each in content["images"]}) == 6
            Path("other.json").write_text(json.dumps(content | {"images": [
                each | {"file_name": f"scans/{each['file_name']}"} for each in content["images"]
            ]}))  # fmt: skip
    signal.signal(signal.SIGTERM, before)
    assert Path("predictions/masks/scan_1.png").is_file()
    assert {path.suffix for path in Path("mine_onnx").iterdir()} >= {".onnx"}
    page = (folder / "home" / "runs" / "mine" / "weights" / "README.md").read_text()
    assert "Training began with the weights us43d-small" in page


def test_masks_that_a_model_drew_are_trained_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(path.name for path in Path("scans").iterdir())
    boxes = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, "bbox": [20, 20, 50, 50]} for n in range(len(names))],
    }
    Path("boxes.json").write_text(json.dumps(boxes))
    main = importlib.import_module("us43d.cli.app").main
    before = signal.getsignal(signal.SIGTERM)
    for words in (
        ("predict", "scans/", "--weights", "ultrasam", "--prompts", "boxes.json", "--out", "found"),
        ("train", "--init", "ultrasam", "--data", "found/predictions.json", "--images", "scans/", *SHORT),
    ):
        monkeypatch.setattr("sys.argv", ["us43d", *words])
        assert main() == 0
    signal.signal(signal.SIGTERM, before)
    assert "weights" in {path.name for path in (folder / "home" / "runs" / "finetune").iterdir()}
