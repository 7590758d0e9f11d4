"""Checkpoints: never broken by a kill, the best kept, damaged ones passed over, written beside the training."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from us43d.errors import ConfigError, TrainError
from us43d.harmonize.corpus import Corpus
from us43d.model import weights
from us43d.model.network import UltraSam
from us43d.train import checkpoint, data, journal, loop
from us43d.train.config import TrainConfig
from us43d.train.loop import train

from .runs import SCRIPT, bytes_of, configured, environment, equal, stop_after


@contextlib.contextmanager
def _started(settings: TrainConfig, corpus: Corpus, folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "script.py").write_text(SCRIPT)
    (folder / "config.json").write_text(settings.model_dump_json())
    places = [str(folder / "script.py"), str(folder / "config.json"), str(corpus.path), str(corpus.home)]
    command = [sys.executable, *places, str(folder / "run"), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_for(done: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not done() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert done()


def test_sigterm_saves_and_ends_well(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with _started(configured(small, steps=5000, save_every=5000, workers=1), blobs, tmp_path) as process:
        _wait_for(lambda: (run / "log.jsonl").exists() and '"step"' in (run / "log.jsonl").read_text(), process)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    word, step = out.split()
    assert word == "stopped"
    assert checkpoint.latest(run / "checkpoints") == run / "checkpoints" / f"step_{int(step):06}"


def test_sigkill_never_breaks_a_checkpoint(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """Killed at chance moments of a run that saves in every step: each time the newest checkpoint is whole, the run
    on from it, and the log has every step once."""
    settings = configured(small, steps=5000, save_every=1, keep=2)
    place = tmp_path / "run" / "checkpoints"
    rng = np.random.default_rng(0)
    reached = 0
    for attempt in range(3):
        with _started(settings, blobs, tmp_path, *(["resume"] if attempt else [])) as process:
            _wait_for(functools.partial(_beyond, place, reached), process)
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
        newest = checkpoint.latest(place)
        assert newest is not None
        assert _step(newest) > reached
        logged = [each["step"] for each in journal.read(tmp_path / "run" / "log.jsonl") if each["kind"] == "step"]
        assert logged[-1] - _step(newest) <= 2 * settings.save_every  # one more while the thread writes
        model = UltraSam(settings.model)
        state = checkpoint.load(newest, model, UltraSam(settings.model), torch.optim.AdamW(model.parameters()))
        assert state["step"] == _step(newest)
        weights.load(newest).model()
        reached = _step(newest)
    train(configured(settings, steps=5000), blobs, tmp_path / "run", resume=True, report=_Stop())
    steps = [e["step"] for e in journal.read(tmp_path / "run" / "log.jsonl") if e["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > reached
    assert not list(place.glob(".*"))


def _beyond(place: Path, step: int) -> bool:
    newest = checkpoint.latest(place)
    return newest is not None and _step(newest) > step


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


class _Stop:
    """Asks for the end at the second record of a step."""

    def __init__(self) -> None:
        self.left = 2

    def __call__(self, record: dict) -> None:
        self.left -= record["kind"] == "step"
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def test_only_so_many_checkpoints_are_kept(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    train(configured(small, save_every=2, keep=2), blobs, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["step_000010", "step_000012"]


def _scored(patch: pytest.MonkeyPatch, *scores: float) -> None:
    """Validations have these scores, whatever they measure; step 2 the first, step 4 the second."""
    patch.setattr(loop._Run, "_validate", _validated(scores))


def _validated(scores: tuple[float, ...]) -> Callable[[loop._Run, threading.Event], None]:
    original = loop._Run._validate

    def validate(self: loop._Run, stop_requested: threading.Event) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(self.task), "score", lambda task, summary: scores[self.step // 2 - 1])
            original(self, stop_requested)

    return validate


def test_the_best_checkpoint_is_kept(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """Though it is not the newest; after a stop and resume, too. The first of equal scores is the best."""
    settings = configured(small, steps=8, validate_every=2, save_every=6, keep=1, milestones=())
    scores = (0.5, 0.9, 0.9, 0.3)
    for name in ("whole", "parts"):
        with pytest.MonkeyPatch.context() as patch:
            _scored(patch, *scores)
            if name == "parts":
                with pytest.MonkeyPatch.context() as inner:
                    stop_after(inner, 5)
                    assert train(settings, blobs, tmp_path / name).stopped
            result = train(settings, blobs, tmp_path / name, resume=name == "parts")
        kept = sorted(path.name for path in (tmp_path / name / "checkpoints").iterdir())
        assert kept == ["step_000004", "step_000008"]
        assert result.best == tmp_path / name / "best"
        assert json.loads((result.best / "config.json").read_text())["meta"]["validation"]["score"] == 0.9
        assert {"README.md", "references.bib"} <= {path.name for path in result.best.iterdir()}
        best, last = weights.load(result.best).state, weights.load(result.weights).state
        average = load_file(tmp_path / name / "checkpoints" / "step_000004" / "state.safetensors")
        assert all(torch.equal(value, average[f"average.{key}"]) for key, value in best.items())
        assert any(not torch.equal(value, last[key]) for key, value in best.items())


def test_early_stopping(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = configured(small, steps=12, validate_every=2, save_every=100, log_every=5, patience=2)
    with pytest.MonkeyPatch.context() as patch:
        _scored(patch, 0.5, 0.9, 0.3, 0.9, 0.95, 0.1)
        ended = train(settings, blobs, tmp_path / "run")
        assert (ended.step, ended.stopped) == (8, False)
        assert [each["step"] for each in ended.curve] == [5, 8]
        notes = [each["text"] for each in journal.read(tmp_path / "run" / "log.jsonl") if each["kind"] == "note"]
        assert notes == ["Early stopping: no better score in 2 validations."]
        assert train(settings, blobs, tmp_path / "run", resume=True).step == 8
        longer = train(configured(settings, patience=3), blobs, tmp_path / "run", resume=True)
    assert (longer.step, longer.stopped) == (12, False)
    assert json.loads((tmp_path / "run" / "best" / "config.json").read_text())["meta"]["step"] == 10
    with pytest.raises(ConfigError, match="patience needs a validation split"):
        train(configured(settings, validation_images=0), blobs, tmp_path / "other")


def test_training_goes_on_while_a_checkpoint_is_written(
    blobs: Corpus, small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread writes the first one only when two more steps are done; it is that of its own step nevertheless."""
    settings = configured(small, steps=8, save_every=4, validation_images=0)
    whole = train(settings, blobs, tmp_path / "whole")
    learnt, save, learn = threading.Event(), checkpoint.weights.save, loop._Run._learn

    def slow(*args: Any, **kwargs: Any) -> None:
        assert learnt.wait(60)
        save(*args, **kwargs)

    def watched(self: loop._Run, micro: list[data.Batch], prompts: int) -> None:
        learn(self, micro, prompts)
        if self.step == 5:
            learnt.set()

    monkeypatch.setattr(checkpoint.weights, "save", slow)
    monkeypatch.setattr(loop._Run, "_learn", watched)
    train(settings, blobs, tmp_path / "run")
    for file in ("model.safetensors", "state.safetensors"):
        name = Path("checkpoints", "step_000004", file)
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert equal(whole, loop.Result(tmp_path / "run" / "weights", tmp_path, 8, False))


def test_a_checkpoint_of_an_older_version_is_refused(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = configured(small, steps=4, save_every=4)
    train(settings, blobs, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "step_000004" / "state.json"
    state = json.loads(file.read_text())
    del state["version"]
    file.write_text(json.dumps(state))
    kept = bytes_of(tmp_path / "run")
    with pytest.raises(ConfigError, match="written by another version of us43d") as caught:
        train(settings, blobs, tmp_path / "run", resume=True)
    assert f"--init {file.parent} " in str(caught.value.next)
    assert bytes_of(tmp_path / "run") == kept


def test_a_checkpoint_of_other_settings_or_another_network_is_not_called_damaged(
    blobs: Corpus, small: TrainConfig, tmp_path: Path
) -> None:
    """The next step was to remove the checkpoint, which was whole. A run that lacks a setting is resumed."""
    settings, run = configured(small, steps=4, keep=1), tmp_path / "run"
    train(settings, blobs, run)
    other = configured(settings, model=settings.model.model_copy(update={"prompt_dim": settings.model.prompt_dim * 2}))
    with pytest.raises(ConfigError, match="trained with other settings: model was") as caught:
        train(other, blobs, run, resume=True)
    assert caught.value.next.startswith("us43d train --run run --resume ")
    file = run / "checkpoints" / "step_000004" / "state.json"
    state = json.loads(file.read_text())
    del state["config"]["mistakes"], state["config"]["freeze"]  # a number, and a list
    state["config"]["model"] = other.model.model_dump(mode="json")
    file.write_text(json.dumps(state))
    with pytest.raises(ConfigError, match="whose network has other tensors"):
        train(other, blobs, run, resume=True)
    state["config"]["model"] = settings.model.model_dump(mode="json")
    del state["config"]["model"]["stretch"]
    file.write_text(json.dumps({**state, "config": state["config"] | {"of_old": 1}}))
    with pytest.raises(ConfigError, match=r"another version of us43d wrote its settings .of_old"):
        train(settings, blobs, run, resume=True)
    file.write_text(json.dumps(state))
    assert train(configured(settings, steps=5), blobs, run, resume=True).step == 5


def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(
    blobs: Corpus, small: TrainConfig, tmp_path: Path
) -> None:
    """A changed digest counts as damage; a folder of another name is none; the order is that of the numbers."""
    settings = configured(small, steps=4, save_every=2, keep=3)
    run = tmp_path / "run"
    train(settings, blobs, run)
    last, before = run / "checkpoints" / "step_000004", run / "checkpoints" / "step_000002"
    assert checkpoint.finished(run / "checkpoints") == [before, last]
    (run / "checkpoints" / "step_zzz").mkdir()
    (run / "checkpoints" / "step_9").mkdir()
    (run / "checkpoints" / "step_9" / "state.json").write_text("[" * 100_000)
    data = bytearray((last / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (last / "model.safetensors").write_bytes(data)
    log: list[dict[str, Any]] = []
    train(settings, blobs, run, resume=True, report=log.append)
    (note,) = (record for record in log if record["kind"] == "note")
    assert "step_9 cannot be read" in note["text"]
    assert "resumes from step_000002" in note["text"]
    assert checkpoint.latest(run / "checkpoints") == run / "checkpoints" / "step_9"


def test_where_no_checkpoint_can_be_read_nothing_begins(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = configured(small, steps=4, save_every=2)
    train(settings, blobs, tmp_path / "run")
    for state in ("[]", "{}", '{"step": "x", "config": 1, "corpus": 2, "window": 3}', "7", ""):
        for path in checkpoint.finished(tmp_path / "run" / "checkpoints"):
            (path / "state.json").write_text(state)
        kept = bytes_of(tmp_path / "run")
        with pytest.raises(TrainError, match="step_000004 cannot be read"):
            train(settings, blobs, tmp_path / "run", resume=True)
        assert bytes_of(tmp_path / "run") == kept


def test_weights_have_the_mode_that_the_umask_allows(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        train(configured(small, steps=3), blobs, tmp_path / "run")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*.safetensors")}
    assert modes == {"model.safetensors": 0o640, "state.safetensors": 0o640}
