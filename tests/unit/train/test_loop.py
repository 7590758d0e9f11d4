"""The loop: learns, resumes exactly, divides work without changing it, stops cleanly, and never breaks a checkpoint."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from us43d.errors import BuildError, ConfigError, LicenceError, StorageError, TrainError, UnknownName, WeightsError
from us43d.harmonize.corpus import Corpus
from us43d.model import flops, published, weights
from us43d.model.network import Features, UltraSam
from us43d.model.predictor import Predictor
from us43d.model.vit import ImageEncoder
from us43d.train import checkpoint, config, data, journal, loop, losses
from us43d.train.config import PRESETS, TrainConfig
from us43d.train.loop import rate, train
from us43d.train.optimizer import adamw, without_decay
from us43d.train.tasks import promptable


def _changed(base: TrainConfig, **changes: object) -> TrainConfig:
    return TrainConfig.model_validate(base.model_dump() | changes)


def _weights(result: loop.Result) -> dict[str, torch.Tensor]:
    return load_file(result.weights / "model.safetensors")


def _equal(one: loop.Result, two: loop.Result) -> bool:
    a, b = _weights(one), _weights(two)
    return all(torch.equal(a[name], b[name]) for name in a)


def _apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference of two sets of weights. Biases of keys are left out: softmax does not see them, so their
    gradient is rounding alone, and Adam makes steps of full size of it."""
    seen = [name for name in a if not name.endswith(("k_proj.bias", "qkv.bias"))]
    return max(float((a[name] - b[name]).abs().max()) for name in seen)


def _curve(result: loop.Result) -> list[tuple]:
    return [(each["step"], *(each[part] for part in losses.PARTS)) for each in result.curve]


# ---------------------------------------------------------------------------------------------------------- it learns


def test_one_batch_is_learned_by_heart(blobs: Corpus, small: TrainConfig) -> None:
    """The loss of one batch falls to a small part, and its masks become right."""
    settings = _changed(small, zoom=0.0, contrast=0.0, flip=0.0, box_share=1.0, repeats=1, instances=1)
    draws = data.Draws(blobs, settings)
    batch = data.collate([draws[n] for n in range(4)])
    model = UltraSam.random(settings.model, 0).train()
    objective = losses.Objective(model, settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(250):
        loss, sums = objective(batch)
        optimizer.zero_grad()
        (loss / len(batch.labels)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append([float(value) / len(batch.labels) for value in sums])
    assert history[-1][0] < 0.2 * history[0][0]
    assert history[-1][losses.PARTS.index("iou")] > 0.85


def test_a_run_leaves_all_it_should(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    told: list[dict] = []
    result = train(_changed(small, validate_every=6), blobs, tmp_path / "run", report=told.append)
    assert (result.step, result.stopped) == (12, False)
    assert told == list(journal.read(tmp_path / "run" / "log.jsonl"))
    first = told[0]
    assert first["kind"] == "run"
    assert TrainConfig.model_validate(first["config"]) == _changed(small, validate_every=6)
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
    assert all(torch.equal(last[name], value) for name, value in _weights(result).items())
    kept = json.loads((result.weights / "config.json").read_text())["meta"]
    assert kept["corpus"] == blobs.digest
    assert kept["validation"]["step"] == 12


def test_curves_for_tensorboard(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """The numbers of the log, each step once although the run was stopped after a checkpoint and went on from it."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install 'us43d[train]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = _changed(small, steps=8, save_every=4, validate_every=8)
    original = loop._Run._learn

    def fails(self: loop._Run, micro: list[data.Batch], prompts: int) -> None:
        if self.step == 6:
            raise TrainError("The plug was pulled.")
        original(self, micro, prompts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "_learn", fails)
        with pytest.raises(TrainError, match="plug"):
            train(settings, blobs, tmp_path / "run")
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


def test_only_so_many_checkpoints_are_kept(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    train(_changed(small, save_every=2, keep=2), blobs, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["step_000010", "step_000012"]


# ------------------------------------------------------------------------------------------------ same whatever the way


@pytest.mark.parametrize("log_every", [1, 5])
def test_resuming_equals_not_stopping(blobs: Corpus, small: TrainConfig, tmp_path: Path, log_every: int) -> None:
    """Weights, loss curve and the next 8 batches; with dropout, average and decay of the rate."""
    model = small.model.model_copy(update={"decoder_dropout": 0.1})
    settings = _changed(small, model=model.model_dump(), log_every=log_every, save_every=4)
    whole = train(settings, blobs, tmp_path / "whole")

    seen: list[data.Batch] = []
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(patch, 4)
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
    assert _curve(parts) == _curve(whole)
    assert _equal(parts, whole)
    kinds = [each["kind"] for each in journal.read(tmp_path / "parts" / "log.jsonl")]
    assert kinds.count("run") == kinds.count("resumed") == 1


def _stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """SIGTERM reaches this process during a step."""
    original = loop._Run._learn

    def signalled(self: loop._Run, micro: list[data.Batch], prompts: int) -> None:
        original(self, micro, prompts)
        if self.step + 1 == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(loop._Run, "_learn", signalled)


def test_a_signal_stops_between_steps(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(patch, 3)
        result = train(_changed(small, save_every=100), blobs, tmp_path / "run")
    assert (result.step, result.stopped) == (3, True)
    assert result.weights == tmp_path / "run" / "checkpoints" / "step_000003"
    assert signal.getsignal(signal.SIGTERM) is before


def test_resuming_without_a_checkpoint_begins(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    result = train(_changed(small, steps=4), blobs, tmp_path / "run", resume=True)
    assert [each["step"] for each in result.curve] == [1, 2, 3, 4]


def test_accumulation_changes_nothing(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    one = train(_changed(small, steps=4), blobs, tmp_path / "one")
    parts = train(_changed(small, steps=4, micro_batch=1), blobs, tmp_path / "parts")
    assert np.allclose(_curve(one), _curve(parts), rtol=1e-4)
    assert _apart(_weights(one), _weights(parts)) < 1e-5


@pytest.mark.parametrize("changes", [{"checkpointing": True}, {"workers": 1}])
def test_how_it_is_computed_changes_nothing(
    blobs: Corpus, small: TrainConfig, tmp_path: Path, changes: dict[str, object]
) -> None:
    one = train(_changed(small, steps=4), blobs, tmp_path / "one")
    other = train(_changed(small, steps=4, **changes), blobs, tmp_path / "other")
    assert _equal(one, other)


def test_a_compiled_run_learns_the_same(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """With validation between, and weights that anything reads."""
    torch._dynamo.reset()
    one = train(_changed(small, steps=4, validate_every=2), blobs, tmp_path / "one")
    compiled = []

    def whole(self: ImageEncoder) -> None:  # Inductor's own compiler would take a minute
        compiled.append(self)
        torch.nn.Module.compile(self, backend="aot_eager", fullgraph=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageEncoder, "compile", whole)
        other = train(_changed(small, steps=4, validate_every=2, compile=True), blobs, tmp_path / "other")
    assert len(compiled) == 1
    assert np.allclose(_curve(one), _curve(other), rtol=1e-5)
    assert _weights(one).keys() == _weights(other).keys()
    assert _apart(_weights(one), _weights(other)) < 1e-5


def test_the_average_of_the_weights_is_kept(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """The moving average by its formula, from the weights after every step; without ema, the last weights."""
    settings = _changed(small, steps=5, save_every=1, keep=5, ema=0.5)
    result = train(settings, blobs, tmp_path / "run")
    states = [load_file(tmp_path / "run" / "checkpoints" / f"step_{n:06}" / "state.safetensors") for n in range(1, 6)]
    names = [name for name, _ in UltraSam(settings.model).named_parameters()]
    expected = dict(UltraSam.random(settings.model, settings.seed).requires_grad_(False).named_parameters())
    for step, state in enumerate(states):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {name: decay * expected[name] + (1 - decay) * state[f"model.{name}"] for name in names}
    kept = _weights(result)
    assert max(float((kept[name] - expected[name]).abs().max()) for name in names) < 1e-6
    plain = train(_changed(settings, ema=0.0), blobs, tmp_path / "plain")
    assert all(torch.equal(_weights(plain)[name], states[-1][f"model.{name}"]) for name in names)


def test_half_precision_learns_the_same(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    one = train(_changed(small, steps=4), blobs, tmp_path / "one")
    half = train(_changed(small, steps=4, precision="bf16"), blobs, tmp_path / "half")
    assert [each["loss"] for each in half.curve] == pytest.approx([each["loss"] for each in one.curve], rel=5e-3)
    assert all(value.dtype == torch.float32 for value in _weights(half).values())


def test_two_processes_do_what_one_does(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = _changed(small, steps=4, micro_batch=2, validate_every=4)
    one = train(settings, blobs, tmp_path / "one")
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    (tmp_path / "config.json").write_text(settings.model_dump_json())
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    arguments = [str(tmp_path / "config.json"), str(blobs.path), str(blobs.home), str(tmp_path / "two")]
    done = subprocess.run(
        [sys.executable, *command, *arguments], capture_output=True, text=True, timeout=120, env=_environment()
    )
    assert done.returncode == 0, done.stderr
    curve = [each for each in journal.read(tmp_path / "two" / "log.jsonl") if each["kind"] == "step"]
    assert np.allclose([[each[part] for part in losses.PARTS] for each in curve],
                       [each[1:] for each in _curve(one)], rtol=1e-4)  # fmt: skip
    assert _apart(_weights(one), load_file(tmp_path / "two" / "weights" / "model.safetensors")) < 1e-5
    (tested,) = (e for e in journal.read(tmp_path / "two" / "log.jsonl") if e["kind"] == "validation")
    assert tested["instances"] == one.validation[0]["instances"]
    assert tested["ellipse_dice"] == one.validation[0]["ellipse_dice"]
    assert next(journal.read(tmp_path / "two" / "log.jsonl"))["processes"] == 2


_SCRIPT = """
import sys
from pathlib import Path
from us43d.harmonize.corpus import Corpus
from us43d.train.config import TrainConfig
from us43d.train.loop import train

settings, corpus, home, run = map(Path, sys.argv[1:5])
result = train(
    TrainConfig.model_validate_json(settings.read_text()), Corpus.open(corpus, home), run, resume=len(sys.argv) > 5
)
print("stopped" if result.stopped else "finished", result.step)
"""


def _environment() -> dict[str, str]:
    root = str(Path(loop.__file__).parents[2])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}


# ------------------------------------------------------------------------------------------------------------- killed


@contextlib.contextmanager
def _started(settings: TrainConfig, corpus: Corpus, folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "script.py").write_text(_SCRIPT)
    (folder / "config.json").write_text(settings.model_dump_json())
    places = [str(folder / "script.py"), str(folder / "config.json"), str(corpus.path), str(corpus.home)]
    command = [sys.executable, *places, str(folder / "run"), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as process:
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
    with _started(_changed(small, steps=5000, save_every=5000, workers=1), blobs, tmp_path) as process:
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
    settings = _changed(small, steps=5000, save_every=1, keep=2)
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
    train(_changed(settings, steps=5000), blobs, tmp_path / "run", resume=True, report=_Stop())
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


# ------------------------------------------------------------------------------------------------- the best, the end


def _scored(patch: pytest.MonkeyPatch, *scores: float) -> None:
    """Validations have these scores, whatever they measure; step 2 the first, step 4 the second."""
    patch.setattr(loop._Run, "_validate", _validated(scores))


def _validated(scores: tuple[float, ...]) -> Callable[[loop._Run], None]:
    original = loop._Run._validate

    def validate(self: loop._Run) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(self.task), "score", lambda task, summary: scores[self.step // 2 - 1])
            original(self)

    return validate


def test_the_best_checkpoint_is_kept(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """Though it is not the newest; after a stop and resume, too. The first of equal scores is the best."""
    settings = _changed(small, steps=8, validate_every=2, save_every=6, keep=1, milestones=())
    scores = (0.5, 0.9, 0.9, 0.3)
    for name in ("whole", "parts"):
        with pytest.MonkeyPatch.context() as patch:
            _scored(patch, *scores)
            if name == "parts":
                with pytest.MonkeyPatch.context() as inner:
                    _stop_after(inner, 5)
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
    settings = _changed(small, steps=12, validate_every=2, save_every=100, log_every=5, patience=2)
    with pytest.MonkeyPatch.context() as patch:
        _scored(patch, 0.5, 0.9, 0.3, 0.9, 0.95, 0.1)
        ended = train(settings, blobs, tmp_path / "run")
        assert (ended.step, ended.stopped) == (8, False)
        assert [each["step"] for each in ended.curve] == [5, 8]
        notes = [each["text"] for each in journal.read(tmp_path / "run" / "log.jsonl") if each["kind"] == "note"]
        assert notes == ["Early stopping: no better score in 2 validations."]
        assert train(settings, blobs, tmp_path / "run", resume=True).step == 8
        longer = train(_changed(settings, patience=3), blobs, tmp_path / "run", resume=True)
    assert (longer.step, longer.stopped) == (12, False)
    assert json.loads((tmp_path / "run" / "best" / "config.json").read_text())["meta"]["step"] == 10
    with pytest.raises(ConfigError, match="patience needs a validation split"):
        train(_changed(settings, validation_images=0), blobs, tmp_path / "other")


def test_training_goes_on_while_a_checkpoint_is_written(
    blobs: Corpus, small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread writes the first one only when two more steps are done; it is that of its own step nevertheless."""
    settings = _changed(small, steps=8, save_every=4, validation_images=0)
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
    assert _equal(whole, loop.Result(tmp_path / "run" / "weights", tmp_path, 8, False))


# ----------------------------------------------------------------------------------------------------------- optimizer


def test_what_does_not_decay() -> None:
    """The names of one model of each kind, by what they are; all others decay."""
    model = UltraSam.random(PRESETS["tiny"].model, 0)
    spared = without_decay(model)
    block = "image_encoder.blocks.0"
    assert {name for name in spared if name.startswith(f"{block}.")} == {
        f"{block}.{name}"
        for name in (
            "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "attn.qkv.bias", "attn.proj.bias",
            "attn.rel_pos_h", "attn.rel_pos_w", "mlp.lin1.bias", "mlp.lin2.bias",
        )
    }  # fmt: skip
    assert {name for name in spared if "embed" in name or "token" in name.rpartition(".")[0].rpartition(".")[2]} == {
        "image_encoder.pos_embed", "image_encoder.patch_embed.proj.bias", "prompt_encoder.not_a_point_embed.weight",
        "prompt_encoder.no_mask_embed.weight", "mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight",
        *(f"prompt_encoder.point_embeddings.{n}.weight" for n in range(4)),
    }  # fmt: skip
    conv = UltraSam.random(PRESETS["nano"].model, 0)
    spared = without_decay(conv)
    assert {"prompt_encoder.structure_embeddings.weight", "mask_decoder.presence_token.weight",
            "image_encoder.stages.1.1.norm1.weight", "second_look.stem.1.weight"} <= spared  # fmt: skip
    decayed = {name: value for name, value in conv.named_parameters() if name not in spared}
    assert all(value.ndim >= 2 for value in decayed.values())
    assert {"image_encoder.stages.0.0.0.weight", "second_look.mask.weight",
            "mask_decoder.transformer.layers.0.mlp.lin1.weight"} <= decayed.keys()  # fmt: skip
    settings = PRESETS["nano"]
    optimizer = adamw(conv, [(0.1, list(conv.parameters()))], settings, fused=False)
    assert [(group["weight_decay"], group["factor"]) for group in optimizer.param_groups] == [
        (settings.weight_decay, 0.1), (0.0, 0.1),
    ]  # fmt: skip
    assert {id(value) for value in optimizer.param_groups[0]["params"]} == {id(value) for value in decayed.values()}


def test_a_checkpoint_of_an_older_version_is_refused(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = _changed(small, steps=4, save_every=4)
    train(settings, blobs, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "step_000004" / "state.json"
    state = json.loads(file.read_text())
    del state["version"]
    file.write_text(json.dumps(state))
    kept = _content(tmp_path / "run")
    with pytest.raises(ConfigError, match="written by another version of us43d") as caught:
        train(settings, blobs, tmp_path / "run", resume=True)
    assert f"--init {file.parent} " in str(caught.value.next)
    assert _content(tmp_path / "run") == kept


def test_float16_with_a_scaled_loss(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """Close to float32; the scale is part of the state; a gradient that overflows leaves its step out."""
    single = train(_changed(small, steps=4), blobs, tmp_path / "single")
    settings = _changed(small, steps=8, precision="fp16", save_every=4)
    with pytest.MonkeyPatch.context() as patch:
        # Overflows in the first steps, so that the scale changes before and after the stop.
        patch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=2.0**24))
        whole = train(settings, blobs, tmp_path / "whole")
        with pytest.MonkeyPatch.context() as inner:
            _stop_after(inner, 4)
            train(settings, blobs, tmp_path / "parts")
        scales = [each["loss_scale"] for each in whole.curve]
        assert scales[0] < 2.0**24
        state = json.loads((tmp_path / "parts" / "checkpoints" / "step_000004" / "state.json").read_text())
        assert state["scaler"]["scale"] == scales[3]
    parts = train(settings, blobs, tmp_path / "parts", resume=True)
    assert _curve(parts) == _curve(whole)
    assert _equal(parts, whole)
    half = train(_changed(small, steps=4, precision="fp16"), blobs, tmp_path / "half")
    for one, other in zip(_curve(single), _curve(half), strict=True):
        assert one[1] == pytest.approx(other[1], rel=0.03)


# ------------------------------------------------------------------------------------------------------- bad beginnings


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
    assert _equal(parts, train(small, blobs, tmp_path / "whole"))


@pytest.fixture
def copied(blobs: Corpus, tmp_path: Path) -> Corpus:
    """The corpus with images of its own, to be damaged."""
    shutil.copytree(blobs.home, tmp_path / "images")
    shutil.copytree(blobs.path, tmp_path / "corpus")
    return Corpus.open(tmp_path / "corpus", tmp_path / "images")


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_an_image_that_is_damaged_meanwhile(
    copied: Corpus, small: TrainConfig, tmp_path: Path, damage: str, workers: int
) -> None:
    """It is named, the checkpoints stay, and the repaired run ends as one that was never disturbed."""
    settings = _changed(small, steps=8, save_every=4, workers=workers)
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
    assert caught.value.next == "the same again with the image as it was"
    assert "step_000004." in caught.value.disk
    kept = _content(tmp_path / "run" / "checkpoints")
    assert {Path(name).parts[0] for name in kept} == {"step_000004"}
    with pytest.raises(TrainError, match=victim.name):
        train(settings, copied, tmp_path / "run", resume=True)
    assert _content(tmp_path / "run" / "checkpoints") == kept
    victim.write_bytes(content)
    assert _equal(train(settings, copied, tmp_path / "run", resume=True), whole)


@pytest.mark.parametrize("file", ["corpus.json", "images.npy", "annotations.npy", "rle.bin", "strings.bin"])
def test_a_corpus_of_which_a_file_is_missing(copied: Corpus, file: str) -> None:
    (copied.path / file).unlink()
    with pytest.raises(BuildError, match=rf"not a readable corpus.*{file}") as caught:
        Corpus.open(copied.path, copied.home)
    assert caught.value.next == "us43d build --all"


def test_a_corpus_of_which_masks_are_cut_off(copied: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = _changed(small, steps=4)
    train(settings, copied, tmp_path / "run")
    kept = _content(tmp_path / "run")
    (copied.path / "rle.bin").write_bytes(b"")
    with pytest.raises(TrainError, match=r"A mask of image .* cannot be decoded"):
        train(settings, Corpus.open(copied.path, copied.home), tmp_path / "other")
    assert not checkpoint.latest(tmp_path / "other" / "checkpoints")
    assert _content(tmp_path / "run") == kept


def test_a_run_is_not_written_over(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = _changed(small, steps=4)
    train(settings, blobs, tmp_path / "run")
    kept = _content(tmp_path / "run")
    with pytest.raises(ConfigError, match="already contains a run"):
        train(settings, blobs, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"other settings: learning_rate was 0.001"):
        train(_changed(settings, learning_rate=1e-4), blobs, tmp_path / "run", resume=True)
    assert _content(tmp_path / "run") == kept


def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(
    blobs: Corpus, small: TrainConfig, tmp_path: Path
) -> None:
    """A changed digest counts as damage; a folder of another name is none; the order is that of the numbers."""
    settings = _changed(small, steps=4, save_every=2, keep=3)
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
    settings = _changed(small, steps=4, save_every=2)
    train(settings, blobs, tmp_path / "run")
    for state in ("[]", "{}", '{"step": "x", "config": 1, "corpus": 2, "window": 3}', "7", ""):
        for path in checkpoint.finished(tmp_path / "run" / "checkpoints"):
            (path / "state.json").write_text(state)
        kept = _content(tmp_path / "run")
        with pytest.raises(TrainError, match="step_000004 cannot be read"):
            train(settings, blobs, tmp_path / "run", resume=True)
        assert _content(tmp_path / "run") == kept


def test_weights_have_the_mode_that_the_umask_allows(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        train(_changed(small, steps=3), blobs, tmp_path / "run")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*.safetensors")}
    assert modes == {"model.safetensors": 0o640, "state.safetensors": 0o640}


def test_another_corpus_is_refused(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    settings = _changed(small, steps=4)
    train(settings, blobs, tmp_path / "run")
    other = Corpus.open(blobs.path, blobs.home)
    other.facts["digest"] = "0" * 64
    kept = _content(tmp_path / "run")
    with pytest.raises(TrainError, match="a different corpus"):
        train(settings, other, tmp_path / "run", resume=True)
    assert _content(tmp_path / "run") == kept


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
        train(_changed(small, sources=("BUSI",)), blobs, tmp_path / "run")
    with pytest.raises(LicenceError, match="not settled for data"):
        train(_changed(small, commercial=True), blobs, tmp_path / "run")
    with pytest.raises(BuildError, match="not a readable corpus"):
        Corpus.open(tmp_path / "nothing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 0)
        with pytest.raises(ConfigError, match="Device cuda:0 not found: PyTorch finds 0 GPUs"):
            train(small, blobs, tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


# ----------------------------------------------------------------------------------------------------------- recipes

#: Losses of the first steps of `small` on the synthetic images of conftest.py, in float32. Another recipe gives others.
FIRST_LOSSES = (3.42474, 3.61060, 4.50186)


def test_a_short_stretch_of_the_recipe_that_ships(blobs: Corpus, tmp_path: Path) -> None:
    """Twice the same bits, over a stop and resume too; and the losses that were recorded."""
    short = {"steps": 3, "batch": 2, "micro_batch": 2, "warm_up": 1, "log_every": 1, "validation_images": 0}
    settings = _changed(PRESETS["small"], precision="float32", **short)
    whole = train(settings, blobs, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(patch, 2)
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
    after = _weights(result)
    assert not torch.equal(after["mask_decoder.presence_token.weight"], random["mask_decoder.presence_token.weight"])


# ------------------------------------------------------------------------------------------------------- weights, LoRA


def test_starting_from_weights(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    begun = train(_changed(small, steps=4), blobs, tmp_path / "one")
    gentle = _changed(small, steps=1, warm_up=0, learning_rate=1e-9, weight_decay=0.0, ema=0.0, milestones=())
    gone_on = train(gentle, blobs, tmp_path / "two", init=begun.weights)
    assert _apart(_weights(begun), _weights(gone_on)) < 1e-6
    wider = small.model.model_dump() | {"embed_dim": 32}
    with pytest.raises(WeightsError, match=r"does not fit the model of the configuration: .* of another shape"):
        train(_changed(small, model=wider), blobs, tmp_path / "three", init=begun.weights)


def test_where_the_first_weights_are_from(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """It is in the log, with the weights and on their card, also after going on; --commercial asks for it, too."""
    held = weights.Loaded(UltraSam.random(small.model, 0).state_dict(), small.model, "us43d")
    weights.export(held, tmp_path / "ultrasam", "us43d", public="ultrasam")
    digest = hashlib.sha256((tmp_path / "ultrasam" / "model.safetensors").read_bytes()).hexdigest()
    known = {"name": "ultrasam", "sha256": digest, "licence": "CC-BY-NC-SA-4.0", "commercial": False,
             "seen": journal.UNKNOWN}  # fmt: skip
    settings = _changed(small, steps=6)
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(patch, 3)
        train(settings, blobs, tmp_path / "run", init=tmp_path / "ultrasam")
    result = train(settings, blobs, tmp_path / "run", resume=True)
    begun = [e["init"] for e in journal.read(tmp_path / "run" / "log.jsonl") if e["kind"] in ("run", "resumed")]
    assert begun == [known, known]
    assert json.loads((result.weights / "config.json").read_text())["meta"]["init"] == known
    assert "weights ultrasam" in (result.weights / "README.md").read_text()
    # What is made of it inherits the answer, and that nobody knows what the first weights saw.
    assert journal.origin(result.weights)["seen"]["complete"] is False
    assert journal.origin(result.weights)["seen"]["sources"] == {"data": ["cyst", "lesion"]}
    assert journal.origin(result.weights)["commercial"] is False
    assert "CC-BY-NC-SA-4.0" in journal.origin(result.weights)["licence"]
    free = Corpus.open(blobs.path, blobs.home)
    free.facts["sources"][0]["licence"]["commercial"] = True
    wanted = _changed(settings, commercial=True)
    for start in (tmp_path / "ultrasam", result.weights):
        with pytest.raises(LicenceError, match=r"Commercial use of the weights .* is not permitted"):
            train(wanted, free, tmp_path / "other", init=start)
    assert not (tmp_path / "other").exists()
    # A licence is known by a digest, never by a file's name.
    weights.export(held, tmp_path / "sam_vit_b.pth", "meta")
    with pytest.raises(LicenceError, match=r"Commercial use of the weights sam_vit_b is not permitted or not settled"):
        train(wanted, free, tmp_path / "other", init=tmp_path / "sam_vit_b.pth")
    digest = hashlib.sha256((tmp_path / "sam_vit_b.pth").read_bytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(published.PUBLISHED, "sam_vit_b", published.PUBLISHED["sam_vit_b"]._replace(sha256=digest))
        assert train(wanted, free, tmp_path / "other", init=tmp_path / "sam_vit_b.pth").step == 6


def test_public_weights_are_known_by_their_digest(small: TrainConfig, tmp_path: Path) -> None:
    """Copies of one random model under three names are of no known licence; the right digest or receipt is."""
    held = weights.Loaded(UltraSam.random(small.model, 0).state_dict(), small.model, "us43d")
    for name in ("sam_vit_b", "UltraSam", "ultrasam"):
        file = tmp_path / f"{name}.pth"
        weights.export(held, file, "meta")
        known = journal.origin(file)
        assert (known["licence"], known["commercial"], known["seen"]) == (None, None, journal.UNKNOWN)
    (tmp_path / "ultrasam.json").write_text(json.dumps({"name": "ultrasam", "sha256": known["sha256"]}))
    assert journal.origin(tmp_path / "ultrasam.pth")["licence"] == "CC-BY-NC-SA-4.0"
    (tmp_path / "ultrasam.json").write_text(json.dumps({"name": "ultrasam", "sha256": "of another file"}))
    assert journal.origin(tmp_path / "ultrasam.pth")["licence"] is None
    md5 = hashlib.md5((tmp_path / "UltraSam.pth").read_bytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(published.PUBLISHED, "medsam", published.PUBLISHED["medsam"]._replace(md5=md5))
        assert journal.origin(tmp_path / "UltraSam.pth")["licence"] == "Apache-2.0"


def test_a_decoder_of_another_residual_starts_as_the_same_function(
    blobs: Corpus, small: TrainConfig, tmp_path: Path
) -> None:
    single = UltraSam.random(small.model, 0).eval()
    weights.save(single, tmp_path / "single")
    double = _changed(small, model=small.model.model_dump() | {"mlp_residual": "double"})
    model = promptable.initial(double, tmp_path / "single").eval()
    points, labels = torch.tensor([[[9.0, 9.0], [40.0, 50.0]]]), torch.tensor([[2, 3]])
    embedding = Features(torch.randn(1, 16, 8, 8))
    with torch.inference_mode():
        assert torch.allclose(
            model.decode(embedding, points, labels)[0], single.decode(embedding, points, labels)[0], atol=1e-3
        )


def test_a_finished_run_is_extended(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    short = train(_changed(small, steps=4, save_every=2), blobs, tmp_path / "run")
    assert short.step == 4
    before = _weights(short)
    longer = train(_changed(small, steps=6, save_every=2), blobs, tmp_path / "run", resume=True)
    assert (longer.step, longer.stopped) == (6, False)
    assert any(not torch.equal(before[name], value) for name, value in _weights(longer).items())


def test_another_micro_batch_goes_on_but_not_where_batches_are_of_one_aspect(
    blobs: Corpus, small: TrainConfig, tmp_path: Path
) -> None:
    assert small.batch % 2 == 0
    for name, by_aspect in (("free", False), ("aspect", True)):
        settings = _changed(small, steps=4, save_every=2, by_aspect=by_aspect, balance="image", micro_batch=2)
        train(_changed(settings, steps=2, warm_up=1), blobs, tmp_path / name)
        other = _changed(settings, steps=4, warm_up=1, micro_batch=1)
        if by_aspect:
            with pytest.raises(ConfigError, match="micro_batch was 2"):
                train(other, blobs, tmp_path / name, resume=True)
        else:
            assert train(other, blobs, tmp_path / name, resume=True).step == 4


def test_ctrl_c_saves_and_ends(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    number = signal.SIGINT
    before = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        learn = loop._Run._learn

        def interrupted(run: Any, *args: Any) -> Any:
            if run.step == 2:
                os.kill(os.getpid(), number)
            return learn(run, *args)

        patch.setattr(loop._Run, "_learn", interrupted)
        stopped = train(_changed(small, steps=8), blobs, tmp_path / "run")
    assert stopped.stopped
    assert stopped.step == 3
    assert checkpoint.latest(tmp_path / "run" / "checkpoints") is not None
    assert signal.getsignal(number) is before


def test_low_rank_updates(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    begun = train(_changed(small, steps=4), blobs, tmp_path / "one")
    settings = _changed(small, steps=8, lora=2, learning_rate=1e-2, save_every=4)
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(patch, 4)
        train(settings, blobs, tmp_path / "parts", init=begun.weights)
    parts = train(settings, blobs, tmp_path / "parts", init=begun.weights, resume=True)
    whole = train(settings, blobs, tmp_path / "whole", init=begun.weights)
    assert _equal(parts, whole)
    before, after = _weights(begun), _weights(whole)
    assert before.keys() == after.keys()
    encoder = {name for name in before if name.startswith("image_encoder.")}
    changed = {name for name in encoder if not torch.equal(before[name], after[name])}
    assert changed == {f"image_encoder.blocks.{n}.attn.qkv.weight" for n in range(2)}
    for name in changed:
        assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) <= 2


# ------------------------------------------------------------------------------------------------------------- schedule


def test_the_published_schedule() -> None:
    paper = PRESETS["ultrasam-vitb"]
    factors = {step: rate(paper, step) for step in (0, 250, 500, 19_999, 20_000, 28_887, 28_888, 29_999)}
    assert factors == pytest.approx(
        {0: 0.001, 250: 0.5005, 500: 1, 19_999: 1, 20_000: 0.1, 28_887: 0.1, 28_888: 0.01, 29_999: 0.01}
    )
    assert (paper.learning_rate, paper.weight_decay, paper.clip, paper.batch) == (1e-4, 1e-4, 0.1, 32)
    assert (paper.flip, paper.zoom, paper.contrast, paper.box_share, paper.box_jitter) == (0.5, 0, 0, 0.5, 0.05)
    assert (paper.focal, paper.dice, paper.iou, paper.repeats, paper.balance) == (20, 1, 1, 1, "image")
    assert paper.model.mlp_residual == "double"
    cosine = PRESETS["tiny"]
    assert rate(cosine, cosine.warm_up) == 1
    assert rate(cosine, cosine.steps) == pytest.approx(cosine.decay)


def test_a_shortened_run_keeps_its_shape() -> None:
    short = PRESETS["ultrasam-vitb"].shortened(300)
    assert (short.steps, short.warm_up, short.milestones) == (300, 5, (200, 289))


@pytest.mark.parametrize("name", ["tiny", "ultrasam-vitb", "small", "nano"])
def test_arithmetic_is_counted_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against PyTorch's own counter; the encoder's attention, which it does not see, by its plain formula."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from us43d.model import vit as module

    monkeypatch.setattr(module, "biased_attention", lambda q, k, v, rel_h, rel_w: v)
    shape = PRESETS[name].model
    sides = [shape.grid if n in shape.global_blocks else shape.window for n in range(shape.depth)]
    tokens = [(-(-shape.grid // side) * side) ** 2 for side in sides]
    attention = sum(4 * n * side * (side + 1) * shape.embed_dim for n, side in zip(tokens, sides, strict=True))
    attention *= shape.encoder == "vit"
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), sdpa_kernel(SDPBackend.MATH):
        model = UltraSam(shape)
        with counter:
            embedding = model.encode(torch.zeros(1, 3, shape.image_size, shape.image_size))
        assert flops.encoder(shape) == pytest.approx(counter.get_total_flops() + attention, rel=0.01)
        with counter:
            model.decode(embedding, torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.long))
        assert flops.decoder(shape) == pytest.approx(counter.get_total_flops(), rel=0.01)
        if model.second_look is not None:
            side, low = shape.look_size, torch.zeros(1, shape.mask_size, shape.mask_size)
            points, labels = torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.long)
            with counter:
                model.second_look(torch.zeros(1, 3, side, side), torch.zeros(1, 4), points, labels, low)
            assert flops.look(shape) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_the_share_of_a_gpu_is_known_for_known_ones() -> None:
    assert flops.peak("NVIDIA H100 80GB HBM3") == 989e12
    assert flops.peak("GeForce RTX 4090") is None
    paper = PRESETS["ultrasam-vitb"].model
    assert flops.step(paper, 32, 50) == 3 * (32 * flops.encoder(paper) + 100 * flops.decoder(paper))
