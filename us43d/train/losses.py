"""Loss of promptable training: focal or cross-entropy + Dice + error of the predicted IoU, over two passes.

T targets, P prompts, M masks of a prompt, S the side of the low-resolution logits, s the side of the second look.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from us43d.model import look, prompts
from us43d.model.network import PADDING, STRUCTURE, Features, UltraSam
from us43d.train.config import TrainConfig
from us43d.train.data import Batch, normalise, normalise_crops
from us43d.train.precision import autocast

__all__ = ["PARTS", "MaskLoss", "Objective", "dice_loss", "focal_loss", "mask_iou"]

#: Values that `Objective` returns, summed over the prompts: the loss, its terms, and the true IoU of the last masks.
PARTS = ("loss", "focal", "dice", "iou_error", "iou")
#: Logits of a mistaken mask.
SURE = 8.0


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Compute the focal loss (Lin et al. 2017), averaged over the pixels of each mask.

    Args:
        logits: (…, S, S).
        target: (…, S, S), 0 to 1.
        gamma: Focusing parameter.
        alpha: Weight of the foreground.

    Returns:
        (…).
    """
    chance = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = chance * target + (1 - chance) * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * (1 - right) ** gamma * entropy).flatten(-2).mean(-1)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the soft Dice loss of each mask, 1 − (2 Σpt + 1) / (Σp + Σt + 1) (after Milletari et al. 2016).

    Args:
        logits: (…, S, S); p is their sigmoid.
        target: (…, S, S), t, 0 to 1.

    Returns:
        (…).
    """
    chance = logits.sigmoid().flatten(-2)
    target = target.flatten(-2)
    return 1 - (2 * (chance * target).sum(-1) + 1) / (chance.sum(-1) + target.sum(-1) + 1)


def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the IoU of thresholded masks and targets, without gradient.

    Args:
        logits: (…, S, S), thresholded at 0.
        target: (…, S, S), thresholded at 0.5.

    Returns:
        (…); 1 where both are empty.
    """
    predicted, truth = (logits.detach() > 0).flatten(-2), (target >= 0.5).flatten(-2)
    either = (predicted | truth).sum(-1)
    return torch.where(either > 0, (predicted & truth).sum(-1) / either.clamp(min=1), torch.ones_like(either))


class MaskLoss(NamedTuple):
    """Loss per prompt.

    Attributes:
        loss: (P,), weighted sum of the terms.
        focal: (P,), focal loss or cross-entropy.
        dice: (P,), Dice loss.
        iou_error: (P,), squared error of the predicted IoU.
        iou: (P,), true IoU of the masks that were used.
    """

    loss: Tensor
    focal: Tensor
    dice: Tensor
    iou_error: Tensor
    iou: Tensor


class Objective(nn.Module):
    """Compute the loss of a batch; a module, so that DistributedDataParallel can wrap it.

    Args:
        model: The model in training.
        config: Weights of the terms, and precision.
    """

    def __init__(self, model: UltraSam, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the loss.

        Args:
            batch: Images with targets and prompts.

        Returns:
            The sum of the loss over the prompts, and the sums (5,) of PARTS without gradient.
        """
        config = self.config
        device = batch.images.device
        target = batch.targets.float() / 255
        if not config.soft_targets:
            # Structures thinner than half a low-resolution pixel keep the pixels they cover most.
            target = (target >= target.flatten(1).amax(1).clamp(max=0.5)[:, None, None]).float()
        target = target[batch.target_of]
        with autocast(device, config.precision):
            if config.boxes_alone:
                passes = self._boxes(batch)
            else:
                features = self.model.encode(normalise(batch.images, batch.inner)).take(batch.image_of)
                passes = (self._looked if config.model.look else self._refined)(batch, features, target)
        parts = [torch.stack([getattr(one, name).sum() for one in passes]).sum() for name in PARTS[:-1]]
        # The IoU is that of the last pass; a sum over passes would be meaningless.
        sums = torch.stack([*parts, passes[-1].iou.sum()]).detach()
        return parts[0], sums

    def _refined(self, batch: Batch, features: Features, target: Tensor) -> list[MaskLoss]:
        """Compute the losses of the published two passes.

        The first pass gives mask 0 and the best of masks 1–3. Mask 0 is fed back, as in prediction, and therefore has
        its own loss. The second pass gives the best of masks 1–3. The losses of both passes are added.
        """
        model, config = self.model, self.config
        first = model.decode(features, batch.points, batch.labels)
        fed = first.logits[:, :1] if config.through_logits else first.logits[:, :1].detach()
        points, labels = batch.points, batch.labels
        if config.clicks:
            points, labels = self._clicked(batch, first.logits[:, 0].detach().float(), target, None)
        second = model.decode(features, points, labels, fed)
        several = slice(1, None) if config.model.masks > 1 else slice(0, 1)
        present = batch.present
        return [
            *self._presence(first.presence, batch),
            self.masks(first.logits[present, :1].float(), first.iou[present, :1].float(), target[present]),
            self.masks(first.logits[present, several].float(), first.iou[present, several].float(), target[present]),
            self.masks(second.logits[present, several].float(), second.iou[present, several].float(), target[present]),
        ]

    def _looked(self, batch: Batch, features: Features, target: Tensor) -> list[MaskLoss]:
        """Compute the losses of the decoder on the frame and of the second look on the crop.

        Prompts with clicks pass both twice: the clicks are placed in the errors of the second look, or of a mistaken
        mask, by the rule of evaluation, and that mask is fed back. No gradient flows from the second look into the
        first mask or into the mask that is fed back.
        """
        model, config = self.model, self.config
        assert model.second_look is not None
        points, labels = batch.points, batch.labels
        first = model.decode(features, points, labels)
        passes = [*self._presence(first.presence, batch)]
        present = batch.present.nonzero()[:, 0]
        passes.append(self.masks(first.logits[present].float(), first.iou[present].float(), target[present]))
        low = first.logits[:, 0].detach().float()
        crops = normalise_crops(batch.crops).to(low.dtype)
        truth = batch.crop_targets.float() / 255
        plain = (batch.present & (batch.clicks == 0)).nonzero()[:, 0]
        if len(plain):
            refined, rated = model.second_look(
                crops[plain], batch.windows[plain], points[plain], labels[plain], low[plain]
            )
            passes.append(self._look_loss(refined, rated, truth[plain]))
        clicked = (batch.present & (batch.clicks > 0)).nonzero()[:, 0]
        if len(clicked):
            windows = batch.windows[clicked]
            with torch.no_grad():
                former, _ = model.second_look(crops[clicked], windows, points[clicked], labels[clicked], low[clicked])
            made_up = batch.mistaken[clicked].amax((1, 2)) > 0
            former[made_up] = SURE * (2 * batch.mistaken[clicked][made_up].to(former.dtype) / 255 - 1)
            chosen = Batch(*(value if name in ("images", "inner", "targets") else value[clicked]
                             for name, value in zip(Batch._fields, batch, strict=True)))  # fmt: skip
            more, kinds = self._clicked(chosen, former.float(), truth[clicked], windows)
            whole = look.paste(former.float(), windows, config.model.image_size)
            fed = F.interpolate(whole[:, None], (config.model.mask_size, config.model.mask_size), mode="area")
            second = model.decode(features.take(clicked), more, kinds, fed)
            passes.append(self.masks(second.logits.float(), second.iou.float(), target[clicked]))
            refined, rated = model.second_look(
                crops[clicked], windows, more, kinds, second.logits[:, 0].detach().float(), whole
            )
            passes.append(self._look_loss(refined, rated, truth[clicked]))
        return passes

    def _boxes(self, batch: Batch) -> list[MaskLoss]:
        """Compute the loss of the second look's network for boxes alone, where nothing else is trained.

        It needs neither encoder nor decoder, as the first masks of boxes are hidden from it; and it learns by itself,
        not as part of the mean: two networks that learnt apart err less alike.
        """
        second, crops = self.model.second_look, normalise_crops(batch.crops)
        assert second is not None
        hidden = crops.new_zeros(len(crops), 1, 1)
        refined, rated = second.boxes(second.shown(crops, batch.windows, batch.points, batch.labels, hidden, None))
        return [self._look_loss(refined, rated, batch.crop_targets.float() / 255)]

    def _presence(self, presence: Tensor | None, batch: Batch) -> list[MaskLoss]:
        """Compute the cross-entropy of the presence of named structures."""
        named = (batch.labels >= STRUCTURE).any(1)
        if presence is None or not bool(named.any()):
            return []
        entropy = F.binary_cross_entropy_with_logits(
            presence[named].float(), batch.present[named].float(), reduction="none"
        )
        nothing = torch.zeros_like(entropy)
        return [MaskLoss(self.config.presence * entropy, nothing, nothing, nothing, nothing)]

    def _look_loss(self, logits: Tensor, predicted: Tensor, target: Tensor) -> MaskLoss:
        """Compute the second look's cross-entropy + Dice + IoU error: logits, target (P, s, s), predicted (P,)."""
        config = self.config
        logits = logits.float()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2))
        dice, iou = dice_loss(logits, target), mask_iou(logits, target)
        error = (predicted.float() - iou).square()
        return MaskLoss(config.look * (entropy + dice + config.iou * error), entropy, dice, error, iou)

    def _clicked(self, batch: Batch, logits: Tensor, target: Tensor, windows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Append corrective clicks to the points and labels of each prompt.

        logits, target: (P, h, h) of the windows (P, 4), or of the whole frame if None.
        """
        side = logits.shape[-1]
        truth, mask = (target >= 0.5).cpu().numpy(), (logits > 0).cpu().numpy()
        count = batch.clicks.tolist()
        most = max(count)
        points = torch.zeros((len(count), most, 2), dtype=batch.points.dtype)
        labels = torch.full((len(count), most), PADDING, dtype=batch.labels.dtype)
        for row, number in enumerate(count):
            for n, (x, y, inside) in enumerate(prompts.clicks(truth[row], mask[row], number)):
                points[row, n, 0], points[row, n, 1], labels[row, n] = x + 0.5, y + 0.5, inside
        places = points.to(batch.points.device) / side
        if windows is not None:
            places = windows[:, None, :2] + places * (windows[:, None, 2:] - windows[:, None, :2])
        placed = places * self.config.model.image_size + 0.5
        return torch.cat([batch.points, placed], 1), torch.cat([batch.labels, labels.to(batch.labels.device)], 1)

    def masks(self, logits: Tensor, predicted: Tensor, target: Tensor) -> MaskLoss:
        """Compute the loss of the best of M masks per prompt.

        Args:
            logits: (P, M, S, S).
            predicted: (P, M), predicted IoU.
            target: (P, S, S), 0 to 1.
        """
        config = self.config
        target = target[:, None].expand_as(logits)
        focal, dice, iou = focal_loss(logits, target), dice_loss(logits, target), mask_iou(logits, target)
        mask = config.focal * focal + config.dice * dice
        if config.bce:
            mask = mask + config.bce * F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((2, 3))
        best = mask.detach().argmin(1, keepdim=True)
        error = (predicted - iou).square()
        error = error.mean(1) if config.all_ious else error.gather(1, best)[:, 0]
        loss = mask.gather(1, best)[:, 0] + config.iou * error
        return MaskLoss(loss, focal.gather(1, best)[:, 0], dice.gather(1, best)[:, 0], error, iou.gather(1, best)[:, 0])
