"""Tasks beside promptable segmentation, on simulated images: each learns above its trivial baseline, and resumes."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from us43d import specimen
from us43d.coco import own as coco
from us43d.errors import TrainError, WeightsError
from us43d.harmonize.corpus import Corpus
from us43d.model import prompts, weights
from us43d.model.network import Features, ModelConfig, UltraSam
from us43d.train import journal
from us43d.train.config import InstanceHead, TrainConfig
from us43d.train.loop import train
from us43d.train.tasks import box_unet, classify, evaluation, instances, semantic, task_of

TINY = ModelConfig(
    image_size=64, patch_size=8, embed_dim=32, depth=2, heads=2, window=4, global_blocks=(1,), prompt_dim=32,
    decoder_heads=4, decoder_mlp=64, iou_hidden=16, fourier_scale=0.5,
)  # fmt: skip
CONV = ModelConfig(
    encoder="conv", image_size=64, stretch=True, widths=(8, 16, 24, 32, 32), blocks=(0, 1, 1, 1, 0), prompt_dim=32,
    decoder_heads=4, decoder_mlp=64, iou_hidden=16, fourier_scale=0.5,
)  # fmt: skip
SMALL = TrainConfig(
    name="small", model=TINY, batch=6, micro_batch=6, steps=80, warm_up=5, learning_rate=3e-3, clip=1.0,
    milestones=(70,), precision="float32", workers=0, validate_every=80, validation_images=24, save_every=80,
    log_every=20, ema=0.9,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Speckle with one blob: dark ones are cysts, bright ones solid; two images to a patient."""
    folder, rng = tmp_path_factory.mktemp("tasks"), np.random.default_rng(0)
    listing: list[dict[str, Any]] = []
    annotations = []
    for n in range(96):
        shape = ((60, 90), (80, 64))[n % 2]
        mask, solid = specimen.blob(shape, rng, 0.3), bool((n // 2) % 2)
        picture = specimen.speckle(shape, [np.zeros(shape, bool), mask] if solid else [mask], rng)
        cv2.imwrite(str(folder / f"{n}.png"), picture)
        tags = {"diagnosis": "Solid" if solid else "Cyst", "view": "a"}
        listing.append({"id": n + 1, "file_name": f"{n}.png", "height": shape[0], "width": shape[1],
                        "group": f"p{n // 2}", "tags": tags if n != 5 else {}})  # fmt: skip
        runs = coco_runs(mask)
        annotations.append({"id": n + 1, "image_id": n + 1, "category_id": 1 + solid, "iscrowd": 0,
                            "segmentation": {"size": list(shape), "counts": runs}})  # fmt: skip
    content = {"images": listing, "annotations": annotations,
               "categories": [{"id": 1, "name": "cyst"}, {"id": 2, "name": "solid"}]}  # fmt: skip
    (folder / "data.json").write_text(json.dumps(content))
    made = coco.read(folder / "data.json", folder / "corpus")
    return made[0] if isinstance(made, tuple) else made


def coco_runs(mask: np.ndarray) -> str:
    from pycocotools import mask as tool

    return tool.encode(np.asfortranarray(mask.view(np.uint8)))["counts"].decode()


def changed(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(SMALL.model_dump() | changes)


@pytest.mark.parametrize("changes", [
    {"task": "classify"}, {"task": "classify", "frozen": True, "steps": 150, "milestones": (), "learning_rate": 2e-2},
    {"task": "classify", "lora": 4, "class_weights": True},
    {"task": "classify", "model": CONV, "pool": "levels"},
    {"task": "classify-prompt", "target": "structure", "pool": "levels", "model": CONV, "context": 0.3},
], ids=["full", "frozen", "lora", "levels", "prompted"])  # fmt: skip
def test_classification_learns_above_the_most_frequent_class(
    changes: dict[str, Any], corpus: Corpus, tmp_path: Path
) -> None:
    config = changed(**changes)
    result = train(config, corpus, tmp_path / "run")
    last = result.validation[-1]
    assert last["accuracy"] > last["majority"] + 0.15, last
    assert last["auroc"] > 0.7
    model, task = classify.load(result.weights)
    assert task.classes == (["cyst", "solid"])
    held = task_of(config, corpus).held_out
    found = classify.chances(model, corpus, config, held, torch.device("cpu"))
    right = np.mean([task.classes[n] == item.label for n, item in zip(found.argmax(1), held, strict=True)])
    assert right == pytest.approx(last["accuracy"], abs=1e-4)
    if model.prompted:  # a box of a person is shown as that of a mask is
        box = prompts.box_of(corpus.mask(held[0].annotation)).tolist()
        assert np.allclose(classify.classify(model, corpus.picture(held[0].image), box, "cpu"), found[0], atol=1e-6)
    card = (result.weights / "README.md").read_text()
    assert "Classes: cyst, solid" in card
    if config.frozen:
        start = UltraSam.random(TINY, config.seed).state_dict()
        for name, value in model.state_dict().items():
            if name.startswith("image_encoder."):
                assert torch.equal(value, start[name]), name


def test_a_classifier_resumes_exactly(corpus: Corpus, tmp_path: Path) -> None:
    config = changed(task="classify", steps=20, milestones=(), save_every=10, validate_every=20, zoom=0.2, contrast=0.1)
    whole = train(config, corpus, tmp_path / "whole")
    half = train(config, corpus, tmp_path / "half")
    for folder in ("weights", "checkpoints/step_000020"):
        shutil.rmtree(half.run / folder)
    again = train(config, corpus, tmp_path / "half", resume=True)
    one, two = (classify.load(result.weights)[0].state_dict() for result in (whole, again))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    kinds = [record["kind"] for record in journal.read(tmp_path / "half" / "log.jsonl")]
    assert kinds.count("resumed") == 1


def test_classifier_starts_from_weights(corpus: Corpus, tmp_path: Path) -> None:
    weights.save(UltraSam.random(TINY, 7), tmp_path / "seven")
    task = task_of(changed(task="classify"), corpus)
    own, other = task.initial(tmp_path / "seven"), task.initial(None)
    start = UltraSam.random(TINY, 7).image_encoder.pos_embed
    assert torch.equal(own.image_encoder.pos_embed, start)
    assert not torch.equal(other.image_encoder.pos_embed, start)
    with pytest.raises(WeightsError):
        classify.load(tmp_path / "seven")


def test_a_classifier_starts_from_a_unet_of_pixels(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("monai", reason="MONAI is not installed: pip install 'us43d[tasks]'")
    pixels = task_of(changed(task="semantic", network="unet", seed=3), corpus)
    whole = pixels.initial(None)
    pixels.save(whole, tmp_path / "pixels", {})
    config = changed(task="classify", network="unet", steps=2, warm_up=0, milestones=(), frozen=True)
    result = train(config, corpus, tmp_path / "run", init=tmp_path / "pixels")
    model, task = classify.load(result.weights)
    assert task.network == "unet"
    state = model.image_encoder.state_dict()
    assert len(state) == 40
    for name, value in state.items():
        assert torch.equal(value, whole.state_dict()[f"unet.{name.removeprefix('levels.')}"]), name
    found = classify.classify(model, corpus.picture(0), None, "cpu")
    assert found.shape == (2,)
    other = task_of(changed(task="semantic"), corpus)
    other.save(other.initial(None), tmp_path / "encoder", {})
    for wrong, said in (("encoder", "not of a U-Net"), ("none", "does not hold weights of a task")):
        with pytest.raises(WeightsError, match=said):
            task_of(config, corpus).initial(tmp_path / wrong)
    with pytest.raises(ValueError, match="network unet belongs to"):
        changed(task="classify-prompt", network="unet")
    with pytest.raises(ValueError, match="network dynunet belongs to"):
        changed(task="classify", network="dynunet")


def test_groups_stay_apart_and_images_without_a_label_are_no_items(corpus: Corpus) -> None:
    task = task_of(changed(task="classify"), corpus)
    held = {corpus.group(item.image) for item in task.held_out}
    assert held
    assert not held & {corpus.group(int(row)) for row in task.images}
    keys = {corpus.key(item.image) for item in [*task.items, *task.held_out]}
    assert "5.png" not in keys
    assert len(keys) == 95
    with pytest.raises(TrainError, match="1 classes of the target 'view'"):
        task_of(changed(task="classify", target="view"), corpus)


def test_padding_does_not_count_in_the_average() -> None:
    model = classify.Classifier(UltraSam.random(TINY, 0), ["a", "b"], False)
    embedding, fine = torch.randn(1, 32, 8, 8), torch.randn(1, 8, 16, 16)
    whole = torch.zeros(1, 2), torch.tensor([[32.0, 64.0]])
    found = model._pooled(Features(embedding, (fine,)), *whole)
    assert torch.allclose(found, embedding[:, :, :4].mean((2, 3)), atol=1e-6)
    embedding[:, :, 4:], fine[:, :, 8:] = 99, 99
    model.pool = "levels"
    found = model._pooled(Features(embedding, (fine,)), *whole)
    wanted = [
        one for level in (embedding[:, :, :4], fine[:, :, :8]) for one in (level.mean((2, 3)), level.amax((2, 3)))
    ]
    assert torch.allclose(found, torch.cat(wanted, 1), atol=1e-6)
    # A box reaches the cells it touches; one smaller than a cell, the cell it lies in.
    found = model._pooled(Features(embedding), torch.tensor([[9.0, 16.0]]), torch.tensor([[17.0, 24.0]]))
    cells = embedding[:, :, 1:3, 2:3]
    assert torch.allclose(found, torch.cat([cells.mean((2, 3)), cells.amax((2, 3))], 1), atol=1e-6)
    found = model._pooled(Features(embedding), torch.tensor([[8.0, 16.0]]), torch.tensor([[8.0, 16.0]]))
    assert torch.allclose(found[:, :32], embedding[:, :, 1, 2], atol=1e-6)


def test_the_network_is_shown_the_box_with_its_context() -> None:
    pixels = np.zeros((100, 200), np.uint8)
    pixels[20:60, 50:90] = 255
    box = np.array([50.0, 20, 90, 60])
    near = classify._placed(pixels, box, CONV, 0.25, 0)
    assert ((near.corners - 0.5) * 60 / 64).flatten().tolist() == pytest.approx([10, 10, 50, 50])
    assert float((near.images > 127).float().mean()) == pytest.approx((40 / 60) ** 2, abs=0.03)
    edge = classify._placed(pixels, np.array([-5.0, 20, 30, 60]), CONV, 1.0, 0)
    assert ((edge.corners - 0.5) * torch.tensor([65 / 64, 100 / 64])).flatten().tolist() == pytest.approx(
        [-5, 20, 30, 60]
    )
    with pytest.raises(ValueError, match="context belongs to"):
        changed(task="classify", context=0.5)
    with pytest.raises(ValueError, match="turn belongs to the task promptable"):
        changed(task="classify", turn=10)


@pytest.mark.parametrize(("network", "batch", "steps"), [("encoder", 6, 110), ("unet", 4, 30), ("dynunet", 4, 30)])
def test_semantic_segmentation_learns_above_the_mean_mask(
    network: str, batch: int, steps: int, corpus: Corpus, tmp_path: Path
) -> None:
    if network != "encoder":
        pytest.importorskip("monai")
    config = changed(
        task="semantic", network=network, steps=steps, milestones=(), schedule="cosine", decay=0.02,
        batch=batch, micro_batch=batch, validation_images=16, validate_every=steps, save_every=steps,
    )  # fmt: skip
    result = train(config, corpus, tmp_path / "run")
    last = result.validation[-1]
    assert last["dice"] > last["mean_mask"] + 0.05, last
    assert set(last["structures"]) == {"cyst", "solid"}
    model, task = semantic.load(result.weights)
    found = evaluation.evaluate(result.weights, corpus, split="val")
    assert found.numbers["structures"][0]["dice"]["mean"] == pytest.approx(last["dice"], abs=1e-5)
    found.write(tmp_path / "e")
    table = (tmp_path / "e" / "table.md").read_text()
    assert "Overlap" in table
    assert "connected components as instances" in table
    assert 0 <= found.numbers["average_precision"]["structures"][0]["segm"]["map"] <= 1
    labels = semantic.segment(model, corpus.picture(0), "cpu")
    assert labels.shape == corpus.picture(0).shape[:2]
    assert labels.max() <= len(task.classes)


def test_where_structures_overlap_the_later_one_wins(corpus: Corpus) -> None:
    one, two = int(corpus.annotations["category"][0]), 99
    labels = semantic.truth(corpus, 0, {one: 1, two: 2})
    assert (labels == corpus.mask(corpus.of(0)[0])).all()
    assert not semantic.truth(corpus, 0, {two: 2}).any()


HEAD = InstanceHead(width=32, queries=6, pixel_layers=1, query_layers=3, heads=4, feedforward=64, points=512)


def instance_config(shape: ModelConfig, **changes: Any) -> TrainConfig:
    return changed(
        task="instances", model=shape, head=HEAD, warm_up=1, milestones=(), schedule="cosine", decay=0.02, batch=6,
        micro_batch=6, scale=(0.7, 1.4), validation_images=12, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [CONV, TINY], ids=["conv", "vit"])
def test_instance_segmentation_learns_above_the_mean_mask(shape: ModelConfig, corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = instance_config(shape, steps=90, validate_every=90, save_every=90)
    result = train(config, corpus, tmp_path / "run")
    last = result.validation[-1]
    assert last["segm_map"] > last["mean_mask"] + 0.1, last
    assert last["instances"] == 12
    assert "mean average precision" in (result.weights / "README.md").read_text()
    model, task = instances.load(result.weights)
    assert task.classes == ["cyst", "solid"]
    found = evaluation.evaluate(result.weights, corpus, split="val")
    whole, *by = found.numbers["average_precision"]["structures"]
    if found.facts["images"] == last["images"]:
        assert whole["segm"]["map"] == pytest.approx(last["segm_map"], abs=1e-4)
    assert {entry["structure"] for entry in by} == {"cyst", "solid"}
    drawings = task_of(config, corpus).shown(model, task_of(config, corpus).held_out[:2], torch.device("cpu"))
    assert [drawing.ndim for drawing in drawings] == [3, 3]
    one, *_ = instances.detect(model, corpus.picture(0), "cpu")
    assert one.mask.shape == corpus.picture(0).shape[:2]
    assert 0 < one.score <= 1


def test_instances_resume_exactly(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = instance_config(CONV, steps=4, validate_every=4, save_every=2)
    whole, half = (train(config, corpus, tmp_path / name) for name in ("whole", "half"))
    for folder in ("weights", "checkpoints/step_000004"):
        shutil.rmtree(half.run / folder)
    again = train(config, corpus, tmp_path / "half", resume=True)
    one, two = (instances.load(result.weights)[0].state_dict() for result in (whole, again))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_the_encoder_of_instances_learns_at_its_own_rate(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    weights.save(UltraSam.random(CONV, 7), tmp_path / "seven")
    task = task_of(instance_config(CONV, steps=4, encoder_rate=0.1), corpus)
    model = task.initial(tmp_path / "seven")
    start = UltraSam.random(CONV, 7).image_encoder.state_dict()
    assert all(torch.equal(value, start[name]) for name, value in model.image_encoder.state_dict().items())
    (slow, inside), (fast, others) = task.rates(model)
    assert (slow, fast) == (0.1, 1.0)
    assert not {id(value) for value in inside} & {id(value) for value in others}
    batch = task.collate([task.draws[n] for n in range(6)])
    loss, _ = task.objective(model)(batch)
    loss.backward()
    without = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert not without  # several processes cannot train a parameter that takes no part


def test_large_scale_jitter_drops_instances_that_leave_the_image(corpus: Corpus) -> None:
    task = task_of(instance_config(CONV, steps=4).model_copy(update={"scale": (4.0, 8.0)}), corpus)
    drawn = [task.draws[n] for n in range(24)]
    counts = [int(one.counts) for one in drawn]
    assert {0, 1} == set(counts)
    for one in drawn:
        assert len(one.masks) == len(one.classes) == int(one.counts)
        assert one.masks.flatten(1).any(1).all()
    batch = task.collate(drawn)
    assert batch.counts.tolist() == counts
    empty = task.collate([one for one in drawn if not int(one.counts)])
    loss, sums = task.objective(task.initial(None))(empty)
    assert torch.isfinite(loss)
    assert sums[2:].sum() == 0  # the classes alone have a loss where no instance is


def test_weights_of_instances_that_are_damaged(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    task = task_of(instance_config(CONV, steps=4), corpus)
    task.save(task.initial(None), tmp_path / "w", {})
    instances.load(tmp_path / "w")
    content = json.loads((tmp_path / "w" / "config.json").read_text())
    for change in ({"categories": "x"}, {"head": {"width": 33}}, {"head": {"width": 64, "heads": 4}}):
        (tmp_path / "w" / "config.json").write_text(json.dumps({"task": content["task"] | change}))
        with pytest.raises(WeightsError):
            instances.load(tmp_path / "w")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": "guess"}, "name: Input should be 'promptable'"),
        ({"name": "instances"}, "are not the classes"),
        ({"classes": []}, "are empty or repeated"),
        ({"classes": ["a", "a"]}, "are empty or repeated"),
        ({"classes": 3}, "classes: Input should be a valid list"),
        ({"model": {}}, "do not fit the model"),
        ({"network": "other"}, "network: Input should be 'encoder', 'unet' or 'dynunet'"),
        ({"name": "semantic"}, "holds weights of the task semantic, not of classify, classify-prompt"),
    ],
)
def test_a_damaged_record_of_a_task_is_one_message(
    corpus: Corpus, tmp_path: Path, change: dict[str, Any], fault: str
) -> None:
    task = task_of(changed(task="classify"), corpus)
    task.save(task.initial(None), tmp_path / "w", {})
    file = tmp_path / "w" / "config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({"task": content["task"] | change}))
    with pytest.raises(WeightsError, match=fault):
        classify.load(tmp_path / "w")


def test_the_box_unet_learns_above_the_ellipse(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("monai")
    config = changed(
        task="box-unet", model=TINY, steps=80, warm_up=5, milestones=(), schedule="cosine", decay=0.02, batch=4,
        micro_batch=4, box_jitter=0.04, validation_images=12, validate_every=80, save_every=40, precision="float32",
    )  # fmt: skip
    result = train(config, corpus, tmp_path / "run")
    last = result.validation[-1]
    assert last["box_dice"] > last["ellipse_dice"] + 0.02, last
    model, _ = box_unet.load(result.weights)
    task = task_of(config, corpus)
    table = task.validate(model, task.held_out, torch.device("cpu"))
    assert table[:, 2].mean() == pytest.approx(last["box_dice"], abs=1e-4)
    assert len(task.shown(model, task.held_out[:2], torch.device("cpu"))) == 2
    shutil.rmtree(result.weights)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_000080")
    again = train(config, corpus, tmp_path / "run", resume=True)
    other, _ = box_unet.load(again.weights)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_crop_goes_back_to_its_place() -> None:
    """A network that answers with the crop itself gives back what the box shows, to the pixel's fraction."""
    pytest.importorskip("monai")

    class Threshold(torch.nn.Module):
        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            return crops.float() - 127.5

    mask = np.zeros((80, 120), bool)
    cv2.ellipse(mask.view(np.uint8), (70, 35), (30, 18), 20, 0, 360, 1, -1)
    pixels = 255 * mask.astype(np.uint8)
    ((found, score),) = box_unet.segment(Threshold(), pixels, np.array([[38.0, 12.0, 102.0, 58.0]]), "cpu")
    assert np.count_nonzero(found ^ mask) <= 0.01 * mask.sum()
    assert score > 0.99
