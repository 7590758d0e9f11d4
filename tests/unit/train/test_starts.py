"""What a run starts from: public weights, another run, low-rank updates."""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from us43d.errors import ConfigError, LicenceError, WeightsError
from us43d.harmonize.corpus import Corpus
from us43d.model import published, weights
from us43d.model.network import Features, UltraSam
from us43d.train import checkpoint, journal, loop
from us43d.train.config import TrainConfig
from us43d.train.loop import train
from us43d.train.tasks import promptable

from .runs import configured, difference, equal, stop_after, tensors


def test_starting_from_weights(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    begun = train(configured(small, steps=4), blobs, tmp_path / "one")
    gentle = configured(small, steps=1, warm_up=0, learning_rate=1e-9, weight_decay=0.0, ema=0.0, milestones=())
    gone_on = train(gentle, blobs, tmp_path / "two", init=begun.weights)
    assert difference(tensors(begun), tensors(gone_on)) < 1e-6
    wider = small.model.model_dump() | {"embed_dim": 32}
    with pytest.raises(WeightsError, match=r"does not fit the model of the configuration: .* of another shape"):
        train(configured(small, model=wider), blobs, tmp_path / "three", init=begun.weights)


def test_where_the_first_weights_are_from(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """It is in the log, with the weights and on their card, also after going on; --commercial asks for it, too."""
    held = weights.Loaded(UltraSam.random(small.model, 0).state_dict(), small.model, "us43d")
    weights.export(held, tmp_path / "ultrasam", "us43d", public="ultrasam")
    digest = hashlib.sha256((tmp_path / "ultrasam" / "model.safetensors").read_bytes()).hexdigest()
    known = {"name": "ultrasam", "sha256": digest, "licence": "CC-BY-NC-SA-4.0", "commercial": False,
             "seen": journal.UNKNOWN}  # fmt: skip
    settings = configured(small, steps=6)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
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
    wanted = configured(settings, commercial=True)
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
    double = configured(small, model=small.model.model_dump() | {"mlp_residual": "double"})
    model = promptable.initial(double, tmp_path / "single").eval()
    points, labels = torch.tensor([[[9.0, 9.0], [40.0, 50.0]]]), torch.tensor([[2, 3]])
    embedding = Features(torch.randn(1, 16, 8, 8))
    with torch.inference_mode():
        assert torch.allclose(
            model.decode(embedding, points, labels)[0], single.decode(embedding, points, labels)[0], atol=1e-3
        )


def test_a_finished_run_is_extended(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    short = train(configured(small, steps=4, save_every=2), blobs, tmp_path / "run")
    assert short.step == 4
    before = tensors(short)
    longer = train(configured(small, steps=6, save_every=2), blobs, tmp_path / "run", resume=True)
    assert (longer.step, longer.stopped) == (6, False)
    assert any(not torch.equal(before[name], value) for name, value in tensors(longer).items())


def test_another_micro_batch_goes_on_but_not_where_batches_are_of_one_aspect(
    blobs: Corpus, small: TrainConfig, tmp_path: Path
) -> None:
    assert small.batch % 2 == 0
    for name, by_aspect in (("free", False), ("aspect", True)):
        settings = configured(small, steps=4, save_every=2, by_aspect=by_aspect, balance="image", micro_batch=2)
        train(configured(settings, steps=2, warm_up=1), blobs, tmp_path / name)
        other = configured(settings, steps=4, warm_up=1, micro_batch=1)
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
        stopped = train(configured(small, steps=8), blobs, tmp_path / "run")
    assert stopped.stopped
    assert stopped.step == 3
    assert checkpoint.latest(tmp_path / "run" / "checkpoints") is not None
    assert signal.getsignal(number) is before


def test_low_rank_updates(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    begun = train(configured(small, steps=4), blobs, tmp_path / "one")
    settings = configured(small, steps=8, lora=2, learning_rate=1e-2, save_every=4)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4)
        train(settings, blobs, tmp_path / "parts", init=begun.weights)
    parts = train(settings, blobs, tmp_path / "parts", init=begun.weights, resume=True)
    whole = train(settings, blobs, tmp_path / "whole", init=begun.weights)
    assert equal(parts, whole)
    before, after = tensors(begun), tensors(whole)
    assert before.keys() == after.keys()
    encoder = {name for name in before if name.startswith("image_encoder.")}
    changed = {name for name in encoder if not torch.equal(before[name], after[name])}
    assert changed == {f"image_encoder.blocks.{n}.attn.qkv.weight" for n in range(2)}
    for name in changed:
        assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) <= 2
