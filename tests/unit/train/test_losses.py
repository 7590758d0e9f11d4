"""The losses against plain formulas, written out pixel by pixel."""

import math

import pytest
import torch

from us43d.harmonize.corpus import Corpus
from us43d.model.network import UltraSam
from us43d.train.config import TrainConfig
from us43d.train.data import Draws, collate
from us43d.train.losses import PARTS, Objective, dice_loss, focal_loss, mask_iou


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return 3 * torch.randn(2, 3, 6, 6), torch.rand(2, 3, 6, 6)


@pytest.mark.parametrize("hard", [False, True])
def test_focal(pair: tuple[torch.Tensor, torch.Tensor], hard: bool) -> None:
    logits, target = pair
    target = (target > 0.5).float() if hard else target
    found = focal_loss(logits, target)
    for at in [(0, 0), (1, 2)]:
        total = 0.0
        for x, t in zip(logits[at].flatten().tolist(), target[at].flatten().tolist(), strict=True):
            p = 1 / (1 + math.exp(-x))
            entropy = -t * math.log(p) - (1 - t) * math.log(1 - p)
            right = p * t + (1 - p) * (1 - t)
            total += (0.25 * t + 0.75 * (1 - t)) * (1 - right) ** 2 * entropy
        assert float(found[at]) == pytest.approx(total / 36, rel=1e-5)


def test_dice(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = pair
    found = dice_loss(logits, target)
    p, t = torch.sigmoid(logits[1, 1]), target[1, 1]
    assert float(found[1, 1]) == pytest.approx(1 - (2 * float((p * t).sum()) + 1) / (float(p.sum() + t.sum()) + 1))
    perfect = 50 * (2 * (target > 0.5).float() - 1)
    assert float(dice_loss(perfect, (target > 0.5).float()).max()) < 1e-6


def test_iou_of_masks() -> None:
    logits = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    target = torch.tensor([[[1.0, 0.0], [0.6, 0.4]], [[0.0, 0.0], [0.0, 0.3]]])
    assert mask_iou(logits, target).tolist() == [pytest.approx(1 / 3), 1.0]


@pytest.fixture
def whole(blobs: Corpus, small: TrainConfig) -> tuple[UltraSam, TrainConfig]:
    return UltraSam.random(small.model, 0).train(), small


def test_the_best_of_three_counts(whole: tuple[UltraSam, TrainConfig]) -> None:
    model, config = whole
    target = torch.zeros(1, 4, 4)
    target[:, :2] = 1
    good = 10 * (2 * target - 1)
    logits = torch.stack([-good, good, torch.zeros_like(good)], dim=1)
    predicted = torch.tensor([[0.3, 0.8, 0.1]])
    loss = Objective(model, config).masks(logits, predicted, target)
    assert float(loss.dice) < 1e-3
    assert float(loss.iou) == 1
    assert float(loss.iou_error) == pytest.approx(0.04)
    assert float(loss.loss) == pytest.approx(20 * float(loss.focal) + float(loss.dice) + 0.04, abs=1e-6)
    every = Objective(model, config.model_copy(update={"all_ious": True})).masks(logits, predicted, target)
    # A mask of zeros is one without a pixel above zero, so that both wrong ones have IoU 0.
    assert float(every.iou_error) == pytest.approx((0.3**2 + 0.2**2 + 0.1**2) / 3)


def _batch(blobs: Corpus, config: TrainConfig):
    draws = Draws(blobs, config)
    return collate([draws[n] for n in range(4)])


def test_two_passes_are_added(blobs: Corpus, whole: tuple[UltraSam, TrainConfig]) -> None:
    model, config = whole
    batch = _batch(blobs, config)
    objective = Objective(model, config)
    loss, parts = objective(batch)
    loss = loss.detach()
    assert float(loss) == pytest.approx(float(parts[0]))
    focal, dice, error = (float(parts[PARTS.index(name)]) for name in ("focal", "dice", "iou_error"))
    assert float(loss) == pytest.approx(20 * focal + dice + error, rel=1e-5)
    # Three masks of Dice loss near 1 at random weights for each prompt: mask 0 and the best one, then the best one.
    assert 1.5 * len(batch.labels) < dice < 3 * len(batch.labels)


def test_gradients_flow_through_the_fed_logits_only_if_asked(
    blobs: Corpus, whole: tuple[UltraSam, TrainConfig]
) -> None:
    model, config = whole
    batch = _batch(blobs, config)
    norms = {}
    for through in (True, False):
        model.zero_grad()
        objective = Objective(model, config.model_copy(update={"through_logits": through}))
        loss, _ = objective(batch)
        loss.backward()
        norms[through] = float(model.mask_decoder.output_hypernetworks_mlps[0].layers[2].weight.grad.norm())
    assert norms[True] != norms[False]


def test_hard_targets_keep_what_is_thin(blobs: Corpus, whole: tuple[UltraSam, TrainConfig]) -> None:
    model, config = whole
    batch = _batch(blobs, config)
    thin = batch._replace(targets=torch.where(batch.targets > 0, 100, 0).to(torch.uint8))
    full = batch._replace(targets=torch.where(batch.targets > 0, 255, 0).to(torch.uint8))
    objective = Objective(model, config)
    assert float(objective(thin)[1][0]) == float(objective(full)[1][0])
    soft = Objective(model, config.model_copy(update={"soft_targets": True}))
    assert float(soft(thin)[1][0]) != float(soft(full)[1][0])


def test_every_weight_that_matters_gets_a_gradient(blobs: Corpus, whole: tuple[UltraSam, TrainConfig]) -> None:
    model, config = whole
    objective = Objective(model, config.model_copy(update={"box_share": 0.5}))
    objective(_batch(blobs, config))[0].backward()
    without = [name for name, each in model.named_parameters() if each.grad is None]
    assert without == []
