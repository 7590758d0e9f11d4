"""The small model: prompts of any number, structures by name, a second look at a crop, corrective clicks."""

from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from us43d.errors import UsageError
from us43d.harmonize.corpus import Corpus
from us43d.model import look, prompts, refused
from us43d.model.layers import _GroupNorm
from us43d.model.network import (
    PADDING,
    POSITIVE,
    PRESETS,
    STRUCTURE,
    UPPER_LEFT,
    DecoderAttention,
    ImageToTokens,
    ModelConfig,
    TokensToImage,
    UltraSam,
)
from us43d.model.predictor import Postprocess, Predictor, _Masks
from us43d.train.config import PRESETS as RUNS
from us43d.train.config import TrainConfig, read
from us43d.train.data import Draws, batches, collate, normalise
from us43d.train.loop import train
from us43d.train.losses import Objective


@pytest.fixture(scope="module")
def shape() -> ModelConfig:
    return PRESETS["nano"].model_copy(update={"image_size": 64, "look_size": 32, "widths": (8, 8, 16, 16, 24)})


@pytest.fixture
def config(shape: ModelConfig) -> TrainConfig:
    changes = {"batch": 2, "micro_batch": 2, "precision": "float32", "balance": "image"}
    return read(RUNS["nano"], model=shape.model_dump(), **changes)


def disc(side: int, x: float, y: float, radius: float) -> NDArray[np.bool_]:
    v, u = np.mgrid[:side, :side]
    return np.asarray((u - x) ** 2 + (v - y) ** 2 <= radius**2)


def test_padding_counts_for_nothing(shape: ModelConfig) -> None:
    model = UltraSam.random(shape, 0).eval()
    points, labels = torch.tensor([[[20.0, 30.0]]]), torch.tensor([[POSITIVE]])
    with torch.inference_mode():
        features = model.encode(torch.randn(1, 3, 64, 64))
        plain = model.decode(features, points, labels)
        padded = model.decode(features, F.pad(points, (0, 0, 0, 3)), F.pad(labels, (0, 3), value=PADDING))
    for one, other in zip(plain, padded, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 7, 8, 9])
@pytest.mark.parametrize("kind", [TokensToImage, ImageToTokens])
def test_few_tokens_and_many_cells_attend_in_another_order(kind: type[DecoderAttention], tokens: int) -> None:
    torch.manual_seed(tokens)
    attention = kind(32, 2, 2)
    for value in attention.parameters():
        torch.nn.init.normal_(value, std=0.3)
    many, few = torch.randn(3, 50, 32), torch.randn(3, tokens, 32)
    keep = None if tokens == 1 else torch.arange(tokens).expand(3, 1, 1, -1) < tokens - 1
    given = (few, many, many + 1) if kind is TokensToImage else (many, few, few + 1, keep)
    expected = attention(*given)
    plain = F.scaled_dot_product_attention
    with torch.inference_mode(), mock.patch.object(F, "scaled_dot_product_attention", side_effect=plain) as called:
        out = attention(*given)
    assert torch.allclose(out, expected, atol=1e-5)
    assert called.called == (tokens > 8)  # then projecting the tokens takes more operations


def test_a_structure_has_no_place_but_a_name(shape: ModelConfig) -> None:
    model = UltraSam.random(shape, 0).eval()
    here, there = torch.zeros(1, 1, 2), torch.full((1, 1, 2), 40.0)
    sparse = model.prompt_encoder.sparse
    first, second = torch.tensor([[STRUCTURE + 1]]), torch.tensor([[STRUCTURE + 2]])
    assert torch.equal(sparse(here, first), sparse(there, first))
    assert not torch.equal(sparse(here, first), sparse(here, second))


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.7])
def test_a_crop_shows_what_is_in_its_window(scale: float) -> None:
    """A ramp in x and in y: every pixel of the crop has the value of its place in the image."""
    rows, columns, side = 200, 320, 50
    x = np.tile(np.arange(columns, dtype=np.float64) / 2, (rows, 1)).astype(np.uint8)
    size = np.array([side * scale, side * scale])
    corner = np.array([60.5, 31.25])
    of = np.concatenate([corner / (columns, rows), (corner + size) / (columns, rows)])
    found = look.crop(x, of, side).astype(float)
    centres = corner[0] + (np.arange(side) + 0.5) * scale - 0.5
    assert np.abs(found - centres / 2)[:, 1:-1].max() <= 1.01  # the ramp itself is rounded


@pytest.mark.parametrize("scale", [1.0, 1.6, 2.0, 2.7, 4.0])
def test_a_crop_put_back_is_where_it_was(scale: float) -> None:
    """Without this, the mean over an even number of pixels moved every mask by half a pixel."""
    from us43d.model.look import placed

    truth = disc(600, 300.3, 280.7, 50 * scale / 1.5)
    of = look.window(prompts.box_of(truth), truth.shape)
    side = round((of[2] - of[0]) * 600 / scale)
    back = placed(look.crop(255 * truth.astype(np.uint8), of, side).astype(np.float32) - 127.5, of, truth.shape)
    for axis in (0, 1):
        assert np.nonzero(back)[axis].mean() == pytest.approx(np.nonzero(truth)[axis].mean(), abs=0.05)


def test_a_window_beyond_the_image_is_black_there() -> None:
    image = np.full((40, 60), 200, np.uint8)
    found = look.crop(image, np.array([-0.5, 0.0, 0.5, 1.0]), 20)
    assert (found[:, :9] == 0).all()
    assert (found[2:-2, 12:] == 200).all()
    assert not look.crop(image, np.array([1.5, 1.5, 2.0, 2.0]), 8).any()


def test_pasting_inverts_sampling() -> None:
    mask = torch.from_numpy(disc(64, 30, 25, 12)).float()[None, None] * 16 - 8
    windows = torch.tensor([[0.1, 0.05, 0.9, 0.85]])
    crop = look.sample(mask + 8, windows, 96)[:, 0] - 8
    back = look.paste(crop, windows, 64)
    assert ((back > 0) == (mask[:, 0] > 0)).float().mean() > 0.995
    assert back[0, 0, 0] == look.OUTSIDE


def test_prompts_are_where_they_were_given(shape: ModelConfig) -> None:
    second = look.SecondLook(shape)
    windows = torch.tensor([[0.25, 0.25, 0.75, 0.75]])
    points = torch.tensor([[[24.5, 24.5], [40.5, 40.5], [32.5, 28.5]]])  # pixels of 64, half a pixel added
    labels = torch.tensor([[2, 3, 0]])
    box, positive, negative = (
        maps[0, 0] for maps in second._maps(windows, points, labels, (labels == UPPER_LEFT).any(1)[:, None, None, None])
    )
    assert box.sum() == pytest.approx(16 * 16, abs=1)
    assert box[8:24, 8:24].min() == 1
    assert not positive.any()
    assert divmod(int(negative.argmax()), 32) in {(11, 15), (11, 16), (12, 15), (12, 16)}


def test_the_window_of_a_box_has_a_margin() -> None:
    x0, y0, x1, y1 = look.window((20, 30, 60, 50), (100, 200))
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((0.2, 0.4))
    assert (x1 - x0, y1 - y0) == pytest.approx((look.MARGIN * 0.2, look.MARGIN * 0.2))
    tiny = look.window((5, 5, 6, 6), (1000, 1000))
    assert tiny[2] - tiny[0] == pytest.approx(look.MARGIN * look.LEAST)


def test_the_norms_gradient_is_pytorchs() -> None:
    torch.manual_seed(0)
    x, dy = torch.randn(3, 16, 7, 6), torch.randn(3, 16, 7, 6)
    weight, bias = torch.randn(16), torch.randn(16)
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    mine = _GroupNorm.apply(x, weight, bias, 8, 1e-5)
    theirs = F.group_norm(x, 8, weight, bias, 1e-5)
    assert torch.equal(mine, theirs)
    inputs = (x, weight, bias)
    for one, other in zip(torch.autograd.grad(mine, inputs, dy), torch.autograd.grad(theirs, inputs, dy), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------ training


def test_draws_hold_every_kind_of_prompt(blobs: Corpus, config: TrainConfig) -> None:
    batch = collate([Draws(blobs, config).draw(place) for place in range(60)])
    named = (batch.labels >= STRUCTURE).any(1)
    boxed = (batch.labels == UPPER_LEFT).any(1)
    assert named.any()
    assert boxed.any()
    assert (batch.labels == POSITIVE).any(1)[~boxed & ~named].all()
    assert (batch.labels == 0).any(), "negative points"
    assert ((batch.labels >= 0).sum(1) > 2).any(), "boxes with points"
    assert (batch.clicks > 0).any()
    assert (batch.clicks[named] == 0).all()
    assert batch.crops.shape[1:] == (32, 32, 3)


def test_crops_show_their_targets(blobs: Corpus, config: TrainConfig) -> None:
    """The crop's target is the low-resolution target seen through the window."""
    batch = collate([Draws(blobs, config).draw(place) for place in range(20)])
    there = batch.present
    low = batch.targets[batch.target_of][there].float()[:, None] / 255
    seen = look.sample(low, batch.windows[there], 32)[:, 0] > 0.5
    truth = batch.crop_targets[there] > 127
    dice = 2 * (seen & truth).sum((1, 2)) / (seen.sum((1, 2)) + truth.sum((1, 2)))
    assert dice.median() > 0.85


def test_points_drawn_outside_are_outside() -> None:
    mask = disc(60, 30, 30, 9)
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y = prompts.outside(mask, rng) or (30, 30)
        assert not mask[int(y), int(x)]
        assert np.hypot(x - 30, y - 30) < 9 * 2.5
    assert prompts.outside(np.ones((5, 5), bool), rng) is None


def test_clicks_mend_one_error_after_another() -> None:
    truth, found = disc(80, 25, 40, 10) | disc(80, 60, 40, 8), disc(80, 40, 15, 6)
    places = prompts.clicks(truth, found, 5)
    assert places[0] == prompts.click(truth, found)
    assert [inside for *_, inside in places[:3]] == [1, 1, 0]
    assert prompts.clicks(truth, truth, 3) == []


def test_a_structure_that_is_absent_has_no_mask_but_a_presence(blobs: Corpus, config: TrainConfig) -> None:
    draws = Draws(blobs, config)
    draws.absent = [[7]] * len(draws.absent)  # a structure that no image shows
    batch = collate([draws.draw(place) for place in range(20)])
    absent = ~batch.present
    assert absent.any()
    assert (batch.labels[absent] >= STRUCTURE).any(1).all()
    assert not batch.targets[batch.target_of[absent]].any()
    objective = Objective(UltraSam.random(config.model, 0), config)
    loss, sums = objective(batch)
    loss.backward()
    assert torch.isfinite(sums).all()
    assert objective.model.mask_decoder.presence_head.layers[-1].bias.grad.abs() > 0


def test_one_batch_is_learnt(blobs: Corpus, config: TrainConfig) -> None:
    changes = {"batch": 4, "micro_batch": 4, "structure_prompts": 0, "instances": 1, "repeats": 1, "zoom": 0.0}
    settings = read(config, **changes)
    batch = next(batches(Draws(blobs, settings), 0, 0, 1))
    model = UltraSam.random(settings.model, 0).train()
    objective, optimizer = Objective(model, settings), torch.optim.AdamW(model.parameters(), 3e-3)
    seen = []
    for _ in range(60):
        loss, sums = objective(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(sums[0]) / len(batch.labels))
    assert seen[-1] < 0.35 * seen[0]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(blobs: Corpus, config: TrainConfig, tmp_path: Path) -> None:
    settings = read(config, steps=4, warm_up=1, validation_images=0, save_every=2, workers=0)
    whole = train(settings, blobs, tmp_path / "whole")
    half = tmp_path / "half"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("us43d.train.loop._Run._note", lambda run: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr("us43d.train.loop._Run._validate", lambda run: None)
        with pytest.raises(KeyboardInterrupt):
            train(read(settings, log_every=3), blobs, half)
    again = train(read(settings, log_every=3), blobs, half, resume=True)
    one, other = (Predictor.from_weights(each.weights).model.state_dict() for each in (whole, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------------------------------------------------- predicting


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A model that has seen bright discs on noise for a minute's worth of steps would be slow; this one is random."""
    shape = PRESETS["nano"].model_copy(update={"image_size": 64, "look_size": 32, "widths": (8, 8, 16, 16, 24)})
    return Predictor(UltraSam.random(shape, 0))


def picture() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return (80 + 100 * disc(150, 70, 60, 25) + rng.normal(0, 8, (150, 150))).clip(0, 255).astype(np.uint8)[:120]


def test_a_box_bounds_its_mask(learnt: Predictor) -> None:
    learnt.set_image(picture())
    mask = learnt.predict(box=(45, 35, 95, 85)).mask
    assert mask.shape == (120, 150)
    x0, y0, x1, y1 = look.window((45, 35, 95, 85), (120, 150)) * (150, 120, 150, 120)
    ys, xs = np.nonzero(mask)
    if len(xs):
        assert xs.min() >= int(x0)
        assert xs.max() <= x1
        assert ys.min() >= int(y0)
        assert ys.max() <= y1


def test_a_second_look_can_be_left_out(learnt: Predictor) -> None:
    learnt.set_image(picture())
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        second = learnt.model.second_look
        patch.setattr(second, "forward", lambda *args: calls.append(1) or type(second).forward(second, *args))
        quick = learnt.predict(box=(45, 35, 95, 85), refine=0)
        assert not calls
        learnt.predict(box=(45, 35, 95, 85))
        assert len(calls) == 1
        learnt.predict(points=[(70, 60)])
        assert len(calls) == 3  # around the first mask, then around what was found there
    assert quick.logits.shape == (learnt.model.config.mask_size,) * 2


@pytest.mark.parametrize("training", [False, True])
def test_boxes_alone_get_the_mean_of_two_networks(shape: ModelConfig, training: bool) -> None:
    second = UltraSam.random(shape, 0).second_look
    assert second is not None
    #: Box; box and click; click; box with a mask to correct; box with a mask of −100, which is none.
    labels = torch.tensor([[2, 3, -1], [2, 3, 0], [1, -1, -1], [2, 3, -1], [2, 3, -1]])
    count, alone = len(labels), [0, 4]
    crops, windows = torch.randn(count, 3, 32, 32), torch.tensor([[0.1, 0.2, 0.7, 0.9]]).repeat(count, 1)
    points, first = torch.full((count, 3, 2), 30.0), torch.randn(count, 16, 16)
    former = torch.full((count, 8, 8), -100.0)
    former[3, 2:5, 2:5] = 8
    arguments = crops, windows, points, labels, first, former
    with torch.no_grad():
        results = second.train(training)(*arguments)
        shown = second.shown(*arguments)
        for values, expected, more in zip(results, second.others(shown), second.boxes(shown[alone]), strict=True):
            expected[alone] = (expected[alone] + more) / 2
            assert torch.allclose(values, expected, atol=1e-6)


def test_the_network_for_boxes_alone_learns_by_itself(blobs: Corpus, config: TrainConfig, tmp_path: Path) -> None:
    """Where nothing else is trained; its loss is that of its own masks, and the encoder does not run."""
    rest = ("image_encoder", "prompt_encoder", "mask_decoder", "second_look.others")
    alone = read(config, freeze=rest, box_share=1.0, clicks=0, extra_points=0.0, structure_prompts=0, iou=0.5, steps=2,
                 warm_up=1, validation_images=0)  # fmt: skip
    assert alone.boxes_alone
    assert not any(read(alone, **{name: 1}).boxes_alone for name in ("clicks", "structure_prompts", "extra_points"))
    assert not read(alone, freeze=rest[:3]).boxes_alone
    batch = collate([Draws(blobs, alone)[n] for n in range(2)])  # type: ignore[misc]
    model = UltraSam.random(alone.model, alone.seed)
    objective = Objective(model, alone)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(UltraSam, "encode", None)
        loss, sums = objective(batch)
        assert model.second_look is not None
        model.second_look.others = model.second_look.boxes  # so that the mean is its mask
    with torch.no_grad():
        features = model.encode(normalise(batch.images, batch.inner)).take(batch.image_of)
        first, whole = objective._looked(batch, features, (batch.targets.float() / 255)[batch.target_of])
    assert float(loss) == pytest.approx(float(whole.loss.sum()), rel=1e-5)
    assert float(sums[-1]) == pytest.approx(float(whole.iou.sum()), rel=1e-5)
    assert len(first.loss) == len(batch.labels)
    before = UltraSam.random(alone.model, alone.seed).state_dict()
    after = Predictor.from_weights(train(alone, blobs, tmp_path / "run").weights).model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed
    assert all(name.startswith("second_look.boxes.") for name in changed)


def test_prompts_in_a_batch_are_as_prompts_alone(learnt: Predictor) -> None:
    encoded = learnt.encode(picture())
    scale = np.array(encoded.scale)
    corners = np.array([[[45, 35], [95, 85]], [[20, 20], [60, 90]]]) * scale + 0.5
    points, labels = torch.from_numpy(corners).float(), torch.tensor([[2, 3], [2, 3]])
    together = learnt.segment(encoded, points, labels)
    alone = [learnt.segment(encoded, points[n : n + 1], labels[n : n + 1])[0] for n in range(2)]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.logits - other.logits).max() < 1e-3
        assert one.score == pytest.approx(other.score, abs=1e-4)


def test_a_mask_can_be_a_prompt_and_clicks_correct_it(learnt: Predictor) -> None:
    learnt.set_image(picture())
    truth = disc(150, 70, 60, 25)[:120]
    first = learnt.predict(mask=truth)
    again = learnt.predict(mask=truth, points=[(70, 60)], labels=[0])
    assert first.mask.shape == truth.shape
    assert not np.array_equal(first.logits, again.logits)
    with pytest.raises(UsageError, match="is empty, or does not have the image's shape"):
        learnt.predict(mask=np.zeros_like(truth))


def test_a_structure_needs_a_model_that_knows_it(learnt: Predictor) -> None:
    learnt.set_image(picture())
    found = learnt.predict(structure=3)
    assert 0 <= found.presence <= 1
    with pytest.raises(UsageError, match="Unknown structure id 500"):
        learnt.predict(structure=500)
    tiny = Predictor(UltraSam.random(PRESETS["tiny"], 0))
    tiny.set_image(picture())
    with pytest.raises(UsageError, match="does not support prompts by the name of a structure"):
        tiny.predict(structure=3)


@pytest.mark.parametrize("shape", [(120, 150), (606, 856), (37, 64), (32, 32)])
def test_masks_are_resized_as_pytorch_resizes(shape: tuple[int, int]) -> None:
    model = UltraSam.random(PRESETS["tiny"], 0)  # it pads the shorter side
    predictor = Predictor(model)
    encoded = predictor.encode(np.zeros(shape, np.uint8))
    side = model.config.mask_size
    logits = F.avg_pool2d(torch.randn(3, 1, side, side, generator=torch.Generator().manual_seed(0)), 5, 1, 2)[:, 0]
    ones = torch.ones(3)
    lows: dict[Postprocess, Tensor] = {"sharp": logits, "paper": (logits > 0).float()}
    for how, low in lows.items():
        size = model.config.image_size
        frame = F.interpolate(low[:, None], (size, size), mode="bilinear")[..., : encoded.inner[0], : encoded.inner[1]]
        wanted = F.interpolate(frame, shape, mode="bilinear")[:, 0] > 0
        found = predictor.masks(_Masks(logits, None, logits, ones, ones), encoded, how)
        assert 0.2 < wanted.float().mean() < 0.9
        assert (np.stack(found) != wanted.numpy()).mean() < 1e-4


def test_a_mask_of_a_window_lies_where_the_window_is() -> None:
    from us43d.model.look import placed

    logits = cv2.resize(np.where(disc(32, 15.5, 15.5, 10), 8.0, -8.0).astype(np.float32), (128, 128))
    mask = placed(logits, np.array([0.2, 0.4, 0.6, 0.8]), (100, 200))
    ys, xs = np.nonzero(mask)
    assert (xs.mean(), ys.mean()) == pytest.approx((79.5, 59.5), abs=0.6)
    assert (np.ptp(xs) + 1, np.ptp(ys) + 1) == pytest.approx((80 * 20 / 32, 40 * 20 / 32), abs=3)


def mask_logits(side: int, *discs: tuple[float, float, float]) -> torch.Tensor:
    inside = np.logical_or.reduce([disc(side, x * side, y * side, radius * side) for x, y, radius in discs])
    return torch.from_numpy(np.where(inside, 5.0, -5.0).astype(np.float32))


LEFT, RIGHT = (0.25, 0.5, 0.15), (0.75, 0.5, 0.15)


@pytest.mark.parametrize(
    ("former", "clicks", "kept"),
    [
        ((LEFT, RIGHT), ((0.25, 0.5, 1), (0.75, 0.5, 0)), (True, False)),
        ((LEFT, RIGHT), ((0.25, 0.5, 1), (0.72, 0.55, 0), (0.8, 0.45, 0)), (True, False)),
        ((LEFT, RIGHT), ((0.25, 0.5, 1), (0.75, 0.5, 0), (0.8, 0.5, 1)), (True, True)),  # a part of it is inside
        ((LEFT, RIGHT), ((0.25, 0.5, 1), (0.5, 0.1, 0)), (True, True)),  # the click is beside both
        ((LEFT, RIGHT), ((0.75, 0.5, 0),), (True, True)),  # without a positive click nothing tells what is meant
        ((LEFT, RIGHT), ((0.25, 0.5, 1),), (True, True)),
        ((LEFT,), ((0.25, 0.5, 1), (0.75, 0.5, 0)), (True, True)),  # new, not what was clicked on
        ((LEFT, (0.5, 0.5, 0.2), RIGHT), ((0.25, 0.5, 1), (0.75, 0.5, 0)), (True, True)),  # one area, with both clicks
        ((LEFT, RIGHT), ((0.1, 0.1, 1), (0.25, 0.5, 0), (0.75, 0.5, 0)), (False, False)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [64, 16])
def test_a_structure_that_a_click_refuses_is_removed(
    former: tuple[Any, ...], clicks: tuple[Any, ...], kept: tuple[bool, bool], size: int
) -> None:
    """The network makes a hole around a negative click; the rest of what was clicked on goes as well."""
    window = torch.tensor([[0.05, 0.2, 0.95, 0.8], [0.0, 0.0, 1.0, 1.0]])
    whole = mask_logits(64, LEFT, RIGHT)
    for x, y, inside in clicks:
        if not inside:
            whole[torch.from_numpy(disc(64, 64 * x, 64 * y, 2))] = -5.0
    refined = look.sample(whole[None, None].expand(2, -1, -1, -1), window, 32)[:, 0].contiguous()
    before = refined.clone()
    places = np.array([[[x, y] for x, y, _ in clicks]] * 2)
    labels = torch.tensor([[inside for *_, inside in clicks]] * 2)
    refused.drop(refined, window, places, labels, mask_logits(size, *former).expand(2, -1, -1))
    for row, (x0, _, x1, _) in enumerate(window.tolist()):
        middle = round((0.5 - x0) / (x1 - x0) * 32)
        for stays, half in zip(kept, (np.s_[:, :middle], np.s_[:, middle:]), strict=True):
            if stays:
                assert torch.equal(refined[row][half], before[row][half])
            else:
                assert not (refined[row][half] > 0).any()
    lone = refined[0] != before[0]
    assert (refined[0][lone] == look.OUTSIDE).all()


def test_corrections_remove_what_a_click_refuses(learnt: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt.set_image(picture())
    first = learnt.predict(points=[(20, 20)])
    asked = []
    monkeypatch.setattr(refused, "drop", lambda *given: asked.append(given))
    learnt.predict(points=[(20, 20)])
    assert asked == []
    learnt.predict(points=[(20, 20), (40, 40)], labels=[1, 0], former=first.logits)
    ((refined, windows, places, labels, former),) = asked
    assert labels[0].tolist()[:2] == [1, 0]
    assert np.array_equal(former[0].numpy(), first.logits)
    assert (len(refined), windows.shape) == (1, (1, 4))
    height, width = picture().shape[:2]
    assert places[0][:2] * (width, height) == pytest.approx(np.array([[20, 20], [40, 40]]))
