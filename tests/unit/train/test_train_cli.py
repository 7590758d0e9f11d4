"""us43d train: from a COCO file to weights that predict, going on, LoRA, and what is refused."""

import importlib
import json
import signal
from pathlib import Path

import pytest

from us43d.harmonize.corpus import Corpus

#: Small enough for a second.
SMALL = (
    "--preset", "tiny", "--steps", "4", "--set", "model.image_size=64", "--set", "model.depth=2",
    "--set", "model.global_blocks=[1]", "--set", "save_every=2", "--set", "validation_images=2",
)  # fmt: skip


@pytest.fixture
def us43d(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs the command: (exit code, stdout, stderr)."""
    main = importlib.import_module("us43d.cli.app").main
    before = signal.getsignal(signal.SIGTERM)

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["us43d", *map(str, words), "--home", str(tmp_path / "home")])
        code = main()
        said = capfd.readouterr()
        return code, said.out, said.err

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def data(blobs: Corpus) -> Path:
    return blobs.home / "data.json"


def test_from_a_coco_file_to_a_prediction(us43d, data: Path, tmp_path: Path) -> None:
    code, out, err = us43d("train", "--data", data, *SMALL, "--run", "first", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["step"], result["stopped"]) == (4, False)
    assert result["validation"][-1]["step"] == 4
    assert "instances in 20 images, 2 held out" in err
    code, _, err = us43d(
        "predict", data.parent / "000.png", "--weights", "first", "--box", "5,5,40,40", "--out", tmp_path
    )
    assert code == 0, err
    # Fine-tuned from there: the model's shape is that of the weights.
    tuned = ("train", "--init", "first", "--data", data, "--steps", "2", "--set", "micro_batch=8", "--set", "lora=2",
             "--set", "precision=float32", "--set", "workers=0")  # fmt: skip
    code, out, err = us43d(*tuned, "--json")
    assert code == 0, err
    assert Path(json.loads(out)["run"]).name == "finetune"


def test_going_on_needs_no_settings_again(us43d, data: Path) -> None:
    assert us43d("train", "--data", data, *SMALL, "--run", "first")[0] == 0
    code, _, err = us43d("train", "--data", data, *SMALL, "--run", "first")
    assert (code, "holds a run already" in err) == (2, True)
    code, out, err = us43d("train", "--data", data, "--run", "first", "--resume", "--json")
    assert code == 0, err
    assert json.loads(out)["step"] == 4
    code, _, err = us43d("train", "--data", data, "--run", "first", "--resume", "--set", "seed=3")
    assert (code, "seed was 0" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--preset", "tiny"), 2, "There is no corpus in"),
        (("--corpus", "v9"), 2, "There is no corpus 'v9'"),
        (("--preset", "huge"), 2, "no training preset 'huge'"),
        (("--set", "seed"), 2, "not of the form key=value"),
        (("--set", "lr=1", "--set", "steps=0"), 2, "lr: "),
        (("--init", "nowhere"), 1, "There are no weights 'nowhere'"),
        (("--config", "nowhere.toml"), 2, "nowhere.toml is no readable TOML"),
        (("--data", "nowhere.json"), 1, "nowhere.json cannot be read"),
        (("--data", "a.json", "--corpus", "b"), 2, "exclude each other"),
        (("--preset", "tiny", "--device", "tpu:x"), 2, "is no device"),
    ],
)
def test_what_is_refused(us43d, words: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    found, _, err = us43d("train", *words)
    assert (found, said in err) == (code, True), err
    assert "Traceback" not in err
    assert not (tmp_path / "home" / "runs").exists()


def test_commercial_use_of_unknown_data_is_refused(us43d, data: Path, tmp_path: Path) -> None:
    code, _, err = us43d("train", "--data", data, *SMALL, "--commercial")
    assert code == 4
    assert "not settled for data" in err
    assert not (tmp_path / "home" / "runs" / "tiny" / "log.jsonl").exists()
