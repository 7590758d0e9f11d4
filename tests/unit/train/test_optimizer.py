"""Weight decay, precision, the schedule of the learning rate, and the arithmetic of a step."""

import functools
import json
from pathlib import Path

import pytest
import torch

from us43d.harmonize.corpus import Corpus
from us43d.model import flops
from us43d.model.look import SecondLook
from us43d.model.network import UltraSam
from us43d.train.config import PRESETS, TrainConfig
from us43d.train.loop import rate, train
from us43d.train.optimizer import adamw, without_decay
from us43d.train.precision import autocast, computed

from .runs import configured, curve_of, equal, stop_after


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
            "image_encoder.stages.1.1.norm1.weight", "second_look.boxes.stem.1.weight"} <= spared  # fmt: skip
    decayed = {name: value for name, value in conv.named_parameters() if name not in spared}
    assert all(value.ndim >= 2 for value in decayed.values())
    assert {"image_encoder.stages.0.0.0.weight", "second_look.boxes.mask.weight",
            "mask_decoder.transformer.layers.0.mlp.lin1.weight"} <= decayed.keys()  # fmt: skip
    settings = PRESETS["nano"]
    optimizer = adamw(conv, [(0.1, list(conv.parameters()))], settings, fused=False)
    assert [(group["weight_decay"], group["factor"]) for group in optimizer.param_groups] == [
        (settings.weight_decay, 0.1), (0.0, 0.1),
    ]  # fmt: skip
    assert {id(value) for value in optimizer.param_groups[0]["params"]} == {id(value) for value in decayed.values()}


def test_float16_with_a_scaled_loss(blobs: Corpus, small: TrainConfig, tmp_path: Path) -> None:
    """Close to float32; the scale is part of the state; a gradient that overflows leaves its step out."""
    single = train(configured(small, steps=4), blobs, tmp_path / "single")
    settings = configured(small, steps=8, precision="fp16", save_every=4)
    with pytest.MonkeyPatch.context() as patch:
        # Overflows in the first steps, so that the scale changes before and after the stop.
        patch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=2.0**24))
        whole = train(settings, blobs, tmp_path / "whole")
        with pytest.MonkeyPatch.context() as inner:
            stop_after(inner, 4)
            train(settings, blobs, tmp_path / "parts")
        scales = [each["loss_scale"] for each in whole.curve]
        assert scales[0] < 2.0**24
        state = json.loads((tmp_path / "parts" / "checkpoints" / "step_000004" / "state.json").read_text())
        assert state["scaler"]["scale"] == scales[3]
    parts = train(settings, blobs, tmp_path / "parts", resume=True)
    assert curve_of(parts) == curve_of(whole)
    assert equal(parts, whole)
    half = train(configured(small, steps=4, precision="fp16"), blobs, tmp_path / "half")
    for one, other in zip(curve_of(single), curve_of(half), strict=True):
        assert one[1] == pytest.approx(other[1], rel=0.03)


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
    if shape.look:  # on the CPU: which of its networks runs depends on the prompts
        side, low = shape.look_size, torch.zeros(1, shape.mask_size, shape.mask_size)
        points, labels = torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.long)
        with counter:
            SecondLook(shape)(torch.zeros(1, 3, side, side), torch.tensor([[0.0, 0, 1, 1]]), points, labels, low)
        assert flops.look(shape) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_the_share_of_a_gpu_is_known_for_known_ones() -> None:
    assert flops.peak("NVIDIA H100 80GB HBM3") == 989e12
    assert flops.peak("GeForce RTX 4090") is None
    paper = PRESETS["ultrasam-vitb"].model
    assert flops.step(paper, 32, 50) == 3 * (32 * flops.encoder(paper) + 100 * flops.decoder(paper))


@pytest.mark.parametrize(
    ("features", "precision", "used"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "bf16", "float32"),
        ({"avx512_bf16": True}, "bf16", "bf16"),
        ({"amx_bf16": True}, "bf16", "bf16"),
        (None, "bf16", "float32"),
        ({"avx2": True}, "float32", "float32"),
    ],
)
def test_a_processor_that_emulates_bf16_computes_in_float32(
    features: dict[str, bool] | None, precision: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if features is None:  # an older PyTorch
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    device = torch.device("cpu")
    assert computed(device, precision) == used
    with autocast(device, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == (torch.bfloat16 if used == "bf16" else torch.float32)
    assert computed(torch.device("cuda"), "bf16") == "bf16"
