"""us43d train: from a COCO file to weights that predict, going on, LoRA, and what is refused."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from us43d.coco import own as coco
from us43d.harmonize.corpus import Corpus
from us43d.model import weights
from us43d.model.network import PRESETS, UltraSam
from us43d.train import checkpoint, journal

#: Small enough for a second.
SMALL = (
    "--preset", "tiny", "--steps", "4", "--set", "model.image_size=64", "--set", "model.depth=2",
    "--set", "model.global_blocks=[1]", "--set", "save_every=2", "--set", "validation_images=2",
)  # fmt: skip
SMALL_MODEL = PRESETS["tiny"].model_copy(update={"depth": 2, "global_blocks": (1,), "image_size": 64})


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


def test_one_command_writes_a_run_at_a_time(us43d, data: Path, tmp_path: Path) -> None:
    """Two mixed their logs and checkpoints."""
    words = ("train", "--data", data, "--preset", "nano", "--run", "mine", "--steps", "1")
    home = tmp_path / "home"
    (home / "runs").mkdir(parents=True)
    with FileLock(home / "runs" / ".mine.lock"):
        code, _, err = us43d(*words)
    assert code == 1
    assert "Another us43d train writes the run mine.\nNothing was changed on disk.\nNext: us43d train" in err
    assert err.endswith(" --run mine-2\n")
    assert not (home / "runs" / "mine").exists()
    shutil.rmtree(home)
    code, _, err = us43d(*words, "--images", data.parent / "missing")
    assert (code, "missing is not a folder" in err, home.exists()) == (1, True, False)


def test_what_a_person_is_told_of_a_step() -> None:
    line = importlib.import_module("us43d.cli.train")._line
    record = {"kind": "step", "step": 1200, "loss": 1.25, "images_per_second": 310.44, "seconds_left": 3725.0}
    assert line(record | {"mfu": 0.468}) == "step 1,200: loss 1.250, 310.4 images/s, MFU 47%, 1:02:05 left"
    assert line(record) == "step 1,200: loss 1.250, 310.4 images/s, 1:02:05 left"  # of a CPU it is not known


@pytest.mark.parametrize("processes", [1, 2])
def test_a_scheduler_stops_it(us43d, data: Path, tmp_path: Path, processes: int) -> None:
    """SIGTERM to the command: a checkpoint and exit code 0. To torchrun, which ends with 1 itself: a checkpoint."""
    words = ["us43d", "train", "--data", str(data), *SMALL, "--steps", "20000", "--run", "long",
             "--set", "micro_batch=2", "--set", "log_every=1", "--home", str(tmp_path / "home")]  # fmt: skip
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    command = [sys.executable, *(launcher if processes == 2 else ["-m"]), *words]
    run = tmp_path / "home" / "runs" / "long"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(coco.__file__).parents[2])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            until = time.monotonic() + 120
            while not ((run / "log.jsonl").exists() and '"kind": "step"' in (run / "log.jsonl").read_text()):
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < until
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == (0 if processes == 1 else 1), err
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    step = int(newest.name.removeprefix("step_"))
    assert f"stopped at step {step:,}; resume with: us43d " in out
    assert out.rstrip().endswith("--resume")
    last = list(journal.read(run / "log.jsonl"))
    assert (last[0]["processes"], last[-1]["step"]) == (processes, step)
    assert (
        us43d("predict", data.parent / "000.png", "--weights", "long", "--box", "5,5,40,40", "--out", tmp_path)[0] == 0
    )


def test_going_on_needs_no_settings_again(us43d, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert us43d("train", "--data", data, *SMALL, "--run", "first")[0] == 0
    code, _, err = us43d("train", "--data", data, *SMALL, "--run", "first")
    assert (code, "already contains a run" in err) == (2, True)
    for words in (("--data", data), ()):  # the run knows its file, and the folder of the images
        code, out, err = us43d("train", *words, "--run", "first", "--resume", "--json")
        assert code == 0, err
        assert json.loads(out)["step"] == 4
    data.rename(data.with_name("moved.json"))
    code, _, err = us43d("train", "--run", "first", "--resume")
    assert (code, f"{data} cannot be read" in err) == (1, True), err
    data.with_name("moved.json").rename(data)
    words = "predict", data.parent / "000.png", "--weights", "first", "--box", "5,5,40,40", "--out", tmp_path / "out"
    code, _, err = us43d(*words)
    assert code == 0, err
    best = json.loads((tmp_path / "home" / "runs" / "first" / "best" / "config.json").read_text())["meta"]
    score = best["validation"]["score"]
    assert f"step {best['step']} of the run first, with the best validation score ({score:.3f})" in err
    shutil.rmtree(tmp_path / "home" / "runs" / "first" / "best")
    code, _, err = us43d(*words)
    assert (code, "weights: step 4 of the run first\n" in err) == (0, True), err
    monkeypatch.chdir(tmp_path)
    Path("first").mkdir()  # the folder of the data, for which the run is named
    code, _, err = us43d(*words)
    assert (code, "weights: step 4 of the run first\n" in err) == (0, True), err
    code, _, err = us43d("train", "--data", data, "--run", "first", "--resume", "--set", "seed=3")
    assert (code, "seed was 0" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--preset", "tiny"), 2, "No corpus found in"),
        (("--corpus", "v9"), 2, "No corpus 'v9' found"),
        (("--resume", "--run", "typo"), 2, "No run 'typo' found"),
        (("--preset", "huge"), 2, "Unknown training preset 'huge'"),
        (("--set", "seed"), 2, "Use key=value"),
        (("--set", "lr=1", "--set", "steps=0"), 2, "lr: "),
        (("--init", "nowhere"), 1, "Unknown weights 'nowhere'"),
        (("--config", "nowhere.toml"), 2, "nowhere.toml is not a readable TOML"),
        (("--data", "nowhere.json"), 1, "nowhere.json cannot be read"),
        (("--data", "a.json", "--corpus", "b"), 2, "cannot be combined"),
        (("--preset", "tiny", "--device", "tpu:x"), 2, "Invalid device 'tpu:x'"),
    ],
)
def test_what_is_refused(us43d, words: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    found, _, err = us43d("train", *words)
    assert (found, said in err) == (code, True), err
    assert "Traceback" not in err
    assert not (tmp_path / "home" / "runs").exists()


def test_what_was_held_out_is_evaluated(us43d, data: Path, blobs: Corpus, tmp_path: Path) -> None:
    assert us43d("train", "--data", data, *SMALL, "--run", "mine")[0] == 0
    words = ("eval", "--weights", "mine", "--data", data, "--prompt", "box", "--clicks", "0", "--json")
    code, out, err = us43d(*words, "--out", tmp_path / "held")
    assert code == 0, err
    held = json.loads(out)["facts"]
    assert (held["split"], held["sources"], held["images"]) == ("val", ["data"], len(blobs.split("val")))
    assert (tmp_path / "held" / "page.html").is_file()
    code, out, err = us43d(*words, "--split", "all", "--out", tmp_path / "all")
    assert json.loads(out)["facts"]["images"] == len(blobs)
    code, _, err = us43d(*words, "--commercial", "--out", tmp_path / "none")
    assert (code, "not settled for data" in err, "Traceback" in err) == (4, True, False)
    assert not (tmp_path / "none").exists()
    code, _, err = us43d(*words, "--corpus", "one")
    assert (code, "--data cannot be combined" in err) == (2, True)


def test_a_corpus_of_sources_without_recipe_is_evaluated(us43d, blobs: Corpus, tmp_path: Path) -> None:
    """Its own names and licences count: --on finds them, and --commercial asks the corpus, not the registry."""
    home = tmp_path / "home"
    shutil.copytree(blobs.home, home)
    made = coco.read(home / "data.json", home / "corpora" / "own")
    weights.save(UltraSam.random(SMALL_MODEL, 0), home / "weights" / "w")
    words = ("eval", "--weights", "w", "--split", "val", "--prompt", "box", "--clicks", "0", "--json")
    code, out, err = us43d(*words, "--on", "DATA", "--out", tmp_path / "a")
    assert code == 0, err
    assert json.loads(out)["facts"]["sources"] == ["data"]
    code, _, err = us43d(*words, "--all", "--commercial", "--out", tmp_path / "b")
    assert (code, "not settled for data" in err) == (4, True), err
    facts = made.facts
    facts["sources"][0]["licence"]["commercial"] = True
    (made.path / "corpus.json").write_text(json.dumps(facts))
    code, _, err = us43d(*words, "--all", "--commercial", "--out", tmp_path / "b")
    assert code == 0, err
    code, _, err = us43d(*words, "--on", "nothing", "--out", tmp_path / "c")
    assert (code, "Unknown source 'nothing'" in err) == (2, True)


def test_commercial_use_of_unknown_data_is_refused(us43d, data: Path, tmp_path: Path) -> None:
    code, _, err = us43d("train", "--data", data, *SMALL, "--commercial")
    assert code == 4
    assert "not settled for data" in err
    assert not (tmp_path / "home" / "runs" / "tiny" / "log.jsonl").exists()
