"""The loop: learns, resumes exactly, divides work without changing it and stops cleanly."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from us43d.errors import TrainError
from us43d.harmonize.corpus import Corpus
from us43d.model import weights
from us43d.model.network import UltraSam
from us43d.model.predictor import Predictor
from us43d.model.vit import ImageEncoder
from us43d.train import data, journal, loop, losses
from us43d.train.config import PRESETS, TrainConfig
from us43d.train.loop import train
from us43d.train.tasks import promptable

from .runs import SCRIPT, configured, curve_of, difference, environment, equal, stop_after, tensors


def test_one_batch_is_learned_by_heart(blobs: Corpus, small: TrainConfig) -> None:
    """The loss of one batch falls to a small part, and its masks become right."""
    settings = configured(small, zoom=0.0, contrast=0.0, flip=0.0, box_share=1.0, repeats=1, instances=1)
    draws = data.Draws(blobs, settings)
    batch = data.collate([draws[n] for n in range(4)])
    model = UltraSam.random(settings.model, 0).train()
    objective = losses.Objective(model, settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    iou = losses.PARTS.index("iou")
    for _ in range(250):
        loss, sums = objective(batch)
        optimizer.zero_grad()
        (loss / len(batch.labels)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append([float(value) / len(batch.labels) for value in sums])
        if history[-1][0] < 0.2 * history[0][0] and history[-1][iou] > 0.85:
            return
    pytest.fail(f"After 250 steps: {history[0]} → {history[-1]}")


def test_a_run_leaves_all_it_should(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    told: list[dict] = []
    result = train(configured(small, validate_every=6), blobs, tmp_path / "run", report=told.append)
    assert (result.step, result.stopped) == (12, False)
    assert told == list(journal.read(tmp_path / "run" / "log.jsonl"))
    first = told[0]
    assert first["kind"] == "run"
    assert TrainConfig.model_validate(first["config"]) == configured(small, validate_every=6)
    assert first["corpus"]["digest"] == blobs.digest
    assert first["licences"]["commercial"] is None
    assert {"us43d", "torch", "python", "numpy", "opencv"} <= first["versions"].keys()
    assert first["device"]
    assert [each["step"] for each in result.curve] == list(range(1, 13))
    assert [each["step"] for each in result.validation] == [6, 12]
    assert 0.5 < result.validation[-1]["ellipse_dice"] < 1
    assert all(each["images_per_second"] > 0 for each in result.curve)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step_000006", "step_000008", "step_000012"]  # 6 for its validation
    predictor = Predictor.from_weights(result.weights)
    predictor.set_image(blobs.picture(0))
    assert predictor.predict(box=(5, 5, 40, 40)).mask.shape == blobs.picture(0).shape[:2]
    # A checkpoint is a folder of weights, too: the same as the final ones.
    last = weights.load(tmp_path / "run" / "checkpoints" / "step_000012").state
    assert all(torch.equal(last[name], value) for name, value in tensors(result).items())
    kept = json.loads((result.weights / "config.json").read_text())["meta"]
    assert kept["corpus"] == blobs.digest
    assert kept["validation"]["step"] == 12


def test_curves_for_tensorboard(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """The numbers of the log, each step once although the run was stopped after a checkpoint and went on from it."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install 'us43d[train]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = configured(small, steps=8, save_every=4, validate_every=8)
    original = loop._Run._learn

    def fails(self: loop._Run, micro: list[data.Batch], prompts: int) -> None:
        if self.step == 6:
            raise TrainError("The plug was pulled.")
        original(self, micro, prompts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "_learn", fails)
        with pytest.raises(TrainError, match="plug"):
            train(settings, blobs, tmp_path / "run")
    time.sleep(1.1)  # TensorBoard orders its files by the second in which they were begun
    result = train(settings, blobs, tmp_path / "run", resume=True)
    drawn = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    drawn.Reload()
    for name in ("loss", "learning_rate"):
        curve = drawn.Scalars(f"step/{name}")
        assert [each.step for each in curve] == list(range(1, 9))
        assert [each.value for each in curve] == pytest.approx([each[name] for each in result.curve])
    (tested,) = drawn.Scalars("validation/box_dice")
    assert (tested.step, tested.value) == (8, pytest.approx(result.validation[0]["box_dice"]))
    pictures = [tag for tag in drawn.Tags()["images"] if tag.startswith("validation/")]
    assert len(pictures) == settings.validation_images
    (shown,) = drawn.Images(pictures[0])
    drawn_on = cv2.imdecode(np.frombuffer(shown.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert max(drawn_on.shape) == 320
    assert (drawn_on.max(2) - drawn_on.min(2)).max() > 100  # outlines in colour on a grey image


@pytest.mark.parametrize("log_every", [1, 5])
def test_resuming_equals_not_stopping(blobs: Corpus, small: TrainConfig, tmp_path: Path, log_every: int) -> None:
    """Weights, loss curve and the next 8 batches; with dropout, average and decay of the rate."""
    model = small.model.model_copy(update={"decoder_dropout": 0.1})
    settings = configured(small, model=model.model_dump(), log_every=log_every, save_every=4)
    whole = train(settings, blobs, tmp_path / "whole")

    seen: list[data.Batch] = []
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4)
        train(settings, blobs, tmp_path / "parts")
    with pytest.MonkeyPatch.context() as patch:
        original = loop._Run._learn

        def watched(self: loop._Run, micro: list[data.Batch], prompts: int) -> None:
            seen.extend(micro)
            original(self, micro, prompts)

        patch.setattr(loop._Run, "_learn", watched)
        parts = train(settings, blobs, tmp_path / "parts", resume=True)
    expected = list(data.batches(data.Draws(blobs, settings), 4, 0, 1))
    assert len(seen) == 8
    assert all(torch.equal(a, b) for x, y in zip(seen, expected, strict=True) for a, b in zip(x, y, strict=True))
    assert curve_of(parts) == curve_of(whole)
    assert equal(parts, whole)
    kinds = [each["kind"] for each in journal.read(tmp_path / "parts" / "log.jsonl")]
    assert kinds.count("run") == kinds.count("resumed") == 1


def test_a_signal_stops_between_steps(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        records: list[dict[str, Any]] = []
        result = train(configured(small, save_every=100), blobs, tmp_path / "run", report=records.append)
    assert (result.step, result.stopped) == (3, True)
    assert [record["text"] for record in records if record["kind"] == "note"] == [
        "Stopping: the run is saved after this step. Ctrl-C again ends it immediately, without saving."
    ]
    assert result.weights == tmp_path / "run" / "checkpoints" / "step_000003"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("step", [4, 8])
def test_a_signal_stops_a_validation_that_is_made_up_for(
    blobs: Corpus, small: TrainConfig, tmp_path: Path, step: int
) -> None:
    """Halfway and at the last step: the images that remain are not validated, nothing learnt is lost."""
    settings = configured(small, steps=8, save_every=100, validate_every=4)
    whole = train(settings, blobs, tmp_path / "whole")
    images = len(promptable.Promptable(settings, blobs).held_out)
    calls = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_VALIDATED", 1)
        original = promptable.Promptable.validate

        def signalled(task: promptable.Promptable, *args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == (1 if step == 4 else images + 1):
                os.kill(os.getpid(), signal.SIGTERM)
            return original(task, *args)

        patch.setattr(promptable.Promptable, "validate", signalled)
        stopped = train(settings, blobs, tmp_path / "run")
    assert (stopped.step, stopped.stopped) == (step, True)
    assert calls == (1 if step == 4 else images + 1)
    assert images > 1
    assert len(whole.validation) == 2
    assert not (tmp_path / "run" / "weights").exists()
    parts = train(settings, blobs, tmp_path / "run", resume=True)
    assert not parts.stopped
    assert equal(parts, whole)
    assert parts.validation == whole.validation
    assert parts.best is not None
    assert whole.best is not None
    assert (parts.best / "model.safetensors").read_bytes() == (whole.best / "model.safetensors").read_bytes()


def test_early_stopping_by_a_validation_that_is_made_up_for(
    blobs: Corpus, small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second validation is worse and was interrupted: the resumed run learns no more, and says why."""
    settings = configured(small, steps=8, save_every=100, validate_every=2, log_every=3, patience=1)
    original = loop._Run._validate
    scores = [0.9]

    def validate(run: loop._Run, stop_requested: Any) -> None:
        if run.step == 4 and not stop_requested.is_set() and len(scores) == 1:
            scores.append(0.5)
            os.kill(os.getpid(), signal.SIGTERM)
        original(run, stop_requested)

    monkeypatch.setattr(loop._Run, "_validate", validate)
    monkeypatch.setattr(promptable.Promptable, "score", lambda *_: scores[-1])
    stopped = train(settings, blobs, tmp_path / "run")
    assert (stopped.step, stopped.stopped) == (4, True)
    ended = train(settings, blobs, tmp_path / "run", resume=True)
    assert (ended.step, ended.stopped) == (4, False)
    notes = [record["text"] for record in journal.read(tmp_path / "run" / "log.jsonl") if record["kind"] == "note"]
    assert notes == ["Early stopping: no better score in 1 validations."]


def test_resuming_without_a_checkpoint_begins(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    result = train(configured(small, steps=4), blobs, tmp_path / "run", resume=True)
    assert [each["step"] for each in result.curve] == [1, 2, 3, 4]


def test_accumulation_changes_nothing(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    one = train(configured(small, steps=4), blobs, tmp_path / "one")
    parts = train(configured(small, steps=4, micro_batch=1), blobs, tmp_path / "parts")
    assert np.allclose(curve_of(one), curve_of(parts), rtol=1e-4)
    assert difference(tensors(one), tensors(parts)) < 1e-5


@pytest.mark.parametrize("changes", [{"checkpointing": True}, {"workers": 1}])
def test_how_it_is_computed_changes_nothing(
    blobs: Corpus, small: TrainConfig, tmp_path: Path, changes: dict[str, object]
) -> None:
    one = train(configured(small, steps=4), blobs, tmp_path / "one")
    other = train(configured(small, steps=4, **changes), blobs, tmp_path / "other")
    assert equal(one, other)


def test_a_compiled_run_learns_the_same(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """With validation between, and weights that anything reads."""
    torch._dynamo.reset()
    one = train(configured(small, steps=4, validate_every=2), blobs, tmp_path / "one")
    compiled = []

    def whole(self: ImageEncoder) -> None:  # Inductor's own compiler would take a minute
        compiled.append(self)
        torch.nn.Module.compile(self, backend="aot_eager", fullgraph=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageEncoder, "compile", whole)
        other = train(configured(small, steps=4, validate_every=2, compile=True), blobs, tmp_path / "other")
    assert len(compiled) == 1
    assert np.allclose(curve_of(one), curve_of(other), rtol=1e-5)
    assert tensors(one).keys() == tensors(other).keys()
    assert difference(tensors(one), tensors(other)) < 1e-5


def test_the_average_of_the_weights_is_kept(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """The moving average by its formula, from the weights after every step; without ema, the last weights."""
    settings = configured(small, steps=5, save_every=1, keep=5, ema=0.5)
    result = train(settings, blobs, tmp_path / "run")
    states = [load_file(tmp_path / "run" / "checkpoints" / f"step_{n:06}" / "state.safetensors") for n in range(1, 6)]
    names = [name for name, _ in UltraSam(settings.model).named_parameters()]
    expected = dict(UltraSam.random(settings.model, settings.seed).requires_grad_(False).named_parameters())
    for step, state in enumerate(states):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {name: decay * expected[name] + (1 - decay) * state[f"model.{name}"] for name in names}
    kept = tensors(result)
    assert max(float((kept[name] - expected[name]).abs().max()) for name in names) < 1e-6
    plain = train(configured(settings, ema=0.0), blobs, tmp_path / "plain")
    assert all(torch.equal(tensors(plain)[name], states[-1][f"model.{name}"]) for name in names)


def test_half_precision_learns_the_same(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    one = train(configured(small, steps=4), blobs, tmp_path / "one")
    half = train(configured(small, steps=4, precision="bf16"), blobs, tmp_path / "half")
    assert [each["loss"] for each in half.curve] == pytest.approx([each["loss"] for each in one.curve], rel=5e-3)
    assert all(value.dtype == torch.float32 for value in tensors(half).values())


def test_two_processes_do_what_one_does(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = configured(small, steps=4, micro_batch=2, validate_every=4)
    one = train(settings, blobs, tmp_path / "one")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    (tmp_path / "config.json").write_text(settings.model_dump_json())
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    arguments = [str(tmp_path / "config.json"), str(blobs.path), str(blobs.home), str(tmp_path / "two")]
    done = subprocess.run(
        [sys.executable, *command, *arguments], capture_output=True, text=True, timeout=120, env=environment()
    )
    assert done.returncode == 0, done.stderr
    curve = [each for each in journal.read(tmp_path / "two" / "log.jsonl") if each["kind"] == "step"]
    assert np.allclose([[each[part] for part in losses.PARTS] for each in curve],
                       [each[1:] for each in curve_of(one)], rtol=1e-4)  # fmt: skip
    assert difference(tensors(one), load_file(tmp_path / "two" / "weights" / "model.safetensors")) < 1e-5
    (tested,) = (e for e in journal.read(tmp_path / "two" / "log.jsonl") if e["kind"] == "validation")
    assert tested["instances"] == one.validation[0]["instances"]
    assert tested["ellipse_dice"] == one.validation[0]["ellipse_dice"]
    assert next(journal.read(tmp_path / "two" / "log.jsonl"))["processes"] == 2


#: Losses of the first steps of `small` on the synthetic images of conftest.py, in float32. Another recipe gives others.
FIRST_LOSSES = (3.23136, 3.39251, 4.24512)


def test_a_short_stretch_of_the_recipe_that_ships(blobs: Corpus, tmp_path: Path) -> None:
    """Twice the same bits, over a stop and resume too; and the losses that were recorded."""
    short = {"steps": 3, "batch": 2, "micro_batch": 2, "warm_up": 1, "log_every": 1, "validation_images": 0}
    settings = configured(PRESETS["small"], precision="float32", **short)
    whole = train(settings, blobs, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2)
        train(settings, blobs, tmp_path / "parts")
    parts = train(settings, blobs, tmp_path / "parts", resume=True)
    digests = {hashlib.sha256((one.weights / "model.safetensors").read_bytes()).hexdigest() for one in (whole, parts)}
    assert len(digests) == 1
    assert [each["loss"] for each in whole.curve] == pytest.approx(FIRST_LOSSES, rel=2e-3)


def test_clicks_and_names_from_weights_that_know_none(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """ultrasam-vitb-clicks in miniature, from weights like SAM's; the parts they lack start as a random model's."""
    recipe = PRESETS["ultrasam-vitb-clicks"]
    assert (recipe.clicks, recipe.structure_prompts, recipe.model.structures) == (4, 1, 128)
    paper, added = PRESETS["ultrasam-vitb"], {"clicks": 0, "structure_prompts": 0, "extra_points": 0.0}
    assert recipe.model_copy(update={"name": paper.name, "model": paper.model, **added}) == paper
    weights.save(UltraSam.random(small.model, 7), tmp_path / "sam")
    shape = small.model.model_copy(update={"structures": 128, "mlp_residual": "double", "decoder_dropout": 0.1})
    settings = TrainConfig.model_validate(
        recipe.model_dump() | {"model": shape.model_dump(), "steps": 2, "warm_up": 0, "milestones": (), "batch": 4,
                               "micro_batch": 4, "workers": 0, "precision": "float32"}
    )  # fmt: skip
    begun = promptable.initial(settings, tmp_path / "sam").state_dict()
    random, sam = UltraSam.random(shape, settings.seed).state_dict(), weights.load(tmp_path / "sam").state
    for name in begun.keys() - sam.keys():
        assert torch.equal(begun[name], random[name])
    assert torch.equal(begun["image_encoder.pos_embed"], sam["image_encoder.pos_embed"])
    result = train(settings, blobs, tmp_path / "run", init=tmp_path / "sam")
    after = tensors(result)
    assert not torch.equal(after["mask_decoder.presence_token.weight"], random["mask_decoder.presence_token.weight"])
