"""What is minimised: focal + Dice + error of the predicted IoU, best of three masks, in two passes.

T targets, P prompts, M masks of a prompt, S the side of the low-resolution logits.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from us43d.model.network import UltraSam
from us43d.train.config import TrainConfig
from us43d.train.data import Batch, normalise

__all__ = ["PARTS", "MaskLoss", "Objective", "dice_loss", "focal_loss", "mask_iou"]

#: What `Objective` reports, summed over the prompts: the loss, its parts, and the true IoU of the chosen masks.
PARTS = ("loss", "focal", "dice", "iou_error", "iou")


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Mean over the pixels of each mask of the focal loss (Lin et al. 2017). (…, S, S) → (…)."""
    chance = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = chance * target + (1 - chance) * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * (1 - right) ** gamma * entropy).flatten(-2).mean(-1)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 − Dice of each mask with soft membership, one pixel added to both sides (Milletari et al. 2016)."""
    chance = logits.sigmoid().flatten(-2)
    target = target.flatten(-2)
    return 1 - (2 * (chance * target).sum(-1) + 1) / (chance.sum(-1) + target.sum(-1) + 1)


def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of each thresholded mask with the thresholded target, 1 where both are empty; no gradient."""
    found, truth = (logits.detach() > 0).flatten(-2), (target >= 0.5).flatten(-2)
    either = (found | truth).sum(-1)
    return torch.where(either > 0, (found & truth).sum(-1) / either.clamp(min=1), torch.ones_like(either))


class MaskLoss(NamedTuple):
    """Per prompt (P,): the weighted sum and its parts; iou is the true IoU of the masks that were counted."""

    loss: Tensor
    focal: Tensor
    dice: Tensor
    iou_error: Tensor
    iou: Tensor


class Objective(nn.Module):
    """The loss of a batch. A module, so that it may be wrapped for several processes."""

    def __init__(self, model: UltraSam, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(sum of the loss over the batch's prompts, the sums of PARTS (5,) without gradient).

        The first pass gives mask 0 and the best of masks 1–3; mask 0 is fed back, as in prediction, so it has a loss of
        its own. The second pass gives the best of masks 1–3. The losses of both passes are added.
        """
        model, config = self.model, self.config
        device = batch.images.device
        target = batch.targets.float() / 255
        if not config.soft_targets:
            # What is thinner than half a low-resolution pixel keeps the pixels it fills most.
            target = (target >= target.flatten(1).amax(1).clamp(max=0.5)[:, None, None]).float()
        target = target[batch.target_of]
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            embedding = model.encode(normalise(batch.images, batch.inner))[batch.image_of]
            first, first_iou = model.decode(embedding, batch.points, batch.labels)
            fed = first[:, :1] if config.through_logits else first[:, :1].detach()
            second, second_iou = model.decode(embedding, batch.points, batch.labels, fed)
        passes = (
            self.masks(first[:, :1].float(), first_iou[:, :1].float(), target),
            self.masks(first[:, 1:].float(), first_iou[:, 1:].float(), target),
            self.masks(second[:, 1:].float(), second_iou[:, 1:].float(), target),
        )
        parts = [torch.stack([getattr(each, part) for each in passes]).sum(0).sum() for part in PARTS[:-1]]
        # The IoU shown is that of the last pass, as a sum over the passes would mean nothing.
        sums = torch.stack([*parts, passes[-1].iou.sum()]).detach()
        return parts[0], sums

    def masks(self, logits: Tensor, predicted: Tensor, target: Tensor) -> MaskLoss:
        """Loss of the best of M masks (P, M, S, S) with predicted IoU (P, M) against targets (P, S, S)."""
        config = self.config
        target = target[:, None].expand_as(logits)
        focal, dice, iou = focal_loss(logits, target), dice_loss(logits, target), mask_iou(logits, target)
        best = (config.focal * focal + config.dice * dice).detach().argmin(1, keepdim=True)
        focal, dice = focal.gather(1, best)[:, 0], dice.gather(1, best)[:, 0]
        error = (predicted - iou).square()
        error = error.mean(1) if config.all_ious else error.gather(1, best)[:, 0]
        loss = config.focal * focal + config.dice * dice + config.iou * error
        return MaskLoss(loss, focal, dice, error, iou.gather(1, best)[:, 0])
