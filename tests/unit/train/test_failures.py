"""What ends or refuses a run: non-finite losses, a full disk, damaged images and corpora, invalid settings."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from us43d.errors import BuildError, ConfigError, LicenceError, StorageError, TrainError, UnknownName
from us43d.harmonize.corpus import Corpus
from us43d.model import weights
from us43d.train import checkpoint, config, data, losses
from us43d.train.config import PRESETS, TrainConfig
from us43d.train.loop import train

from .runs import bytes_of, configured, equal


@pytest.mark.parametrize("step", [7, 8])  # before step 8 was saved, and as it is about to be
def test_a_loss_that_is_no_number_ends_the_run(
    step: int, blobs: Corpus, small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = losses.focal_loss
    calls = iter(range(1000))

    def poisoned(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return original(logits, target) * (float("nan") if next(calls) >= 3 * (step - 1) else 1)  # three a step

    monkeypatch.setattr(losses, "focal_loss", poisoned)
    with pytest.raises(TrainError, match=rf"The loss became nan.* in step {step}\.") as caught:
        train(small, blobs, tmp_path / "run")
    assert caught.value.disk == f"The newest checkpoint is intact: {tmp_path / 'run' / 'checkpoints' / 'step_000004'}."
    monkeypatch.undo()
    newest = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert newest.name == "step_000004"
    assert all(torch.isfinite(value).all() for value in weights.load(newest).state.values())
    result = train(small, blobs, tmp_path / "run", resume=True)
    assert [each["step"] for each in result.curve] == list(range(1, 13))


def test_libraries_that_write_tensors_meet_a_full_disk(tmp_path: Path) -> None:
    """The real errors of safetensors and torch, at a limit of the file size: neither is an OSError by itself."""
    code = (
        "import errno, pathlib, resource, torch\n"
        "from us43d.errors import StorageError; from us43d.model import config, network, weights\n"
        "settings = config.PRESETS['tiny']; state = network.UltraSam(settings).state_dict()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: weights.write_tensors({'a': torch.zeros(4000)}, pathlib.Path('big.safetensors'))\n"
        "except OSError as error: print(error.errno == errno.EFBIG, error.filename)\n"
        "try: weights.export(weights.Loaded(state, settings, 'us43d'), pathlib.Path('big.pth'), 'meta')\n"
        "except StorageError as error: print(error.what)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout == "True big.safetensors\nbig.pth cannot be written: File too large.\n", ran.stderr
    assert not list(tmp_path.glob("*.pth"))


def test_a_disk_that_is_full(
    blobs: Corpus, small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the second checkpoint is written: said so, the first stays whole, and the run goes on with room."""
    original = checkpoint.weights.save
    calls = iter(range(100))

    def full(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))
        return original(*args, **kwargs)

    monkeypatch.setattr(checkpoint.weights, "save", full)
    with pytest.raises(StorageError, match="disk is full") as caught:
        train(small, blobs, tmp_path / "run")
    assert caught.value.disk == "The checkpoints before it are intact."
    assert checkpoint.latest(tmp_path / "run" / "checkpoints") == tmp_path / "run" / "checkpoints" / "step_000004"
    parts = train(small, blobs, tmp_path / "run", resume=True)
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    assert equal(parts, train(small, blobs, tmp_path / "whole"))


@pytest.fixture
def copied(blobs: Corpus, tmp_path: Path) -> Corpus:
    """The corpus with images of its own, to be damaged."""
    shutil.copytree(blobs.home, tmp_path / "images")
    shutil.copytree(blobs.path, tmp_path / "corpus")
    return Corpus.open(tmp_path / "corpus", tmp_path / "images")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_an_image_that_is_damaged_meanwhile(
    copied: Corpus, small: TrainConfig, tmp_path: Path, damage: str, workers: int
) -> None:
    """It is named, the checkpoints stay, and the repaired run ends as one that was never disturbed."""
    settings = configured(small, steps=8, save_every=4, workers=workers)
    whole = train(settings, copied, tmp_path / "whole")
    draws = data.Draws(copied, settings)
    places = [draws.order(n)[1] for n in range(settings.batch * settings.steps)]
    late = next(image for n, image in enumerate(places) if n >= 4 * settings.batch and image not in places[:n])
    victim = copied.file(late)
    content = victim.read_bytes()
    victim.unlink()
    if damage == "cut":
        victim.write_bytes(content[:200])
    with pytest.raises(TrainError, match=rf"{victim.stem}\.png") as caught:
        train(settings, copied, tmp_path / "run")
    assert caught.value.next == "the same again   (with the image as it was)"
    assert "step_000004." in caught.value.disk
    kept = bytes_of(tmp_path / "run" / "checkpoints")
    assert {Path(name).parts[0] for name in kept} == {"step_000004"}
    with pytest.raises(TrainError, match=victim.name):
        train(settings, copied, tmp_path / "run", resume=True)
    assert bytes_of(tmp_path / "run" / "checkpoints") == kept
    victim.write_bytes(content)
    assert equal(train(settings, copied, tmp_path / "run", resume=True), whole)


@pytest.mark.parametrize("file", ["corpus.json", "images.npy", "annotations.npy", "rle.bin", "strings.bin"])
def test_a_corpus_of_which_a_file_is_missing(copied: Corpus, file: str) -> None:
    (copied.path / file).unlink()
    with pytest.raises(BuildError, match=rf"not a readable corpus.*{file}") as caught:
        Corpus.open(copied.path, copied.home)
    assert caught.value.next == "us43d build --all"


def test_a_corpus_of_which_masks_are_cut_off(copied: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = configured(small, steps=4)
    train(settings, copied, tmp_path / "run")
    kept = bytes_of(tmp_path / "run")
    (copied.path / "rle.bin").write_bytes(b"")
    with pytest.raises(TrainError, match=r"A mask of image .* cannot be decoded"):
        train(settings, Corpus.open(copied.path, copied.home), tmp_path / "other")
    assert not checkpoint.latest(tmp_path / "other" / "checkpoints")
    assert bytes_of(tmp_path / "run") == kept


def test_a_run_is_not_written_over(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = configured(small, steps=4)
    train(settings, blobs, tmp_path / "run")
    kept = bytes_of(tmp_path / "run")
    with pytest.raises(ConfigError, match="already contains a run"):
        train(settings, blobs, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"other settings: learning_rate was 0.001"):
        train(configured(settings, learning_rate=1e-4), blobs, tmp_path / "run", resume=True)
    assert bytes_of(tmp_path / "run") == kept


def test_another_corpus_is_refused(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = configured(small, steps=4)
    train(settings, blobs, tmp_path / "run")
    other = Corpus.open(blobs.path, blobs.home)
    other.facts["digest"] = "0" * 64
    kept = bytes_of(tmp_path / "run")
    with pytest.raises(TrainError, match="a different corpus"):
        train(settings, other, tmp_path / "run", resume=True)
    assert bytes_of(tmp_path / "run") == kept


def test_what_cannot_be_meant(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('steps = -1\nbalance = "patient"\nlr = 3')
    with pytest.raises(ConfigError, match=r"c.toml: .*balance: .*steps: .*lr: "):
        config.read(PRESETS["tiny"], tmp_path / "c.toml")
    (tmp_path / "c.toml").write_text("seed = 7", "utf-8-sig")  # as some editors save it
    assert config.read(PRESETS["tiny"], tmp_path / "c.toml").seed == 7
    with pytest.raises(ConfigError, match="batch 4 is not a multiple of micro_batch 3"):
        config.read(small, micro_batch=3)
    with pytest.raises(UnknownName, match="Unknown training preset 'huge'"):
        config.preset("huge")
    with pytest.raises(UnknownName, match="Unknown source 'BUSI'"):
        train(configured(small, sources=("BUSI",)), blobs, tmp_path / "run")
    with pytest.raises(LicenceError, match="not settled for data"):
        train(configured(small, commercial=True), blobs, tmp_path / "run")
    with pytest.raises(BuildError, match="not a readable corpus"):
        Corpus.open(tmp_path / "nothing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 0)
        with pytest.raises(ConfigError, match="Device cuda:0 not found: PyTorch finds 0 GPUs"):
            train(small, blobs, tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()
