"""Low-rank adaptation (Hu et al. 2022) of the image encoder: W + B·A in place of W, and only A and B are trained."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from us43d.model.network import UltraSam
from us43d.model.vit import EncoderAttention

__all__ = ["LowRank", "adapt"]


class LowRank(nn.Module):
    """Adds a product of rank `rank` to a weight (out, in); nothing at first, as B begins with zeros."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.empty(rank, columns, device=weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))
        nn.init.normal_(self.down, std=columns**-0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def adapt(model: UltraSam, rank: int) -> None:
    """Freeze the image encoder but for low-rank updates of its qkv projections. Prompt encoder and decoder are trained.

    `checkpoint.plain` merges the updates into the weights again.
    """
    for parameter in model.image_encoder.parameters():
        parameter.requires_grad_(False)
    for module in model.image_encoder.modules():
        if isinstance(module, EncoderAttention):
            parametrize.register_parametrization(module.qkv, "weight", LowRank(module.qkv.weight, rank))
