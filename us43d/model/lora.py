"""Low-rank adaptation (LoRA, Hu et al. 2022) of the image encoder: W + B·A replaces W; only A and B are trained."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from us43d.model.network import UltraSam
from us43d.model.vit import EncoderAttention

__all__ = ["LowRank", "adapt"]


class LowRank(nn.Module):
    """Add a product of rank `rank` to a weight (out, in). The sum is zero at first, as B is initialized with zeros."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.empty(rank, columns, device=weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))
        nn.init.normal_(self.down, std=columns**-0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def adapt(model: UltraSam, rank: int) -> None:
    """Freeze the image encoder except for low-rank updates of its qkv projections; all other weights are trained.

    `checkpoint.plain` merges the updates into the weights.

    Args:
        model: Changed in place.
        rank: Rank of the updates.
    """
    for parameter in model.image_encoder.parameters():
        parameter.requires_grad_(False)
    for module in model.image_encoder.modules():
        if isinstance(module, EncoderAttention):
            parametrize.register_parametrization(module.qkv, "weight", LowRank(module.qkv.weight, rank))
