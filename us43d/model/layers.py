"""Layers shared by encoders, decoder and second look."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Features", "Head", "LayerNorm2d", "Mlp", "Norm"]


class Features(NamedTuple):
    """Features of B images.

    Attributes:
        embedding: (B, C, G, G).
        fine: Features that the mask decoder adds while upscaling, (B, C/4, 2G, 2G) and (B, C/8, 4G, 4G); empty for
            SAM's encoder.
    """

    embedding: Tensor
    fine: tuple[Tensor, ...] = ()

    def take(self, rows: Tensor) -> "Features":
        """Select the features of each prompt's image. rows: (P,) int64."""
        return Features(self.embedding[rows], tuple(level[rows] for level in self.fine))

    def expand(self, count: int) -> "Features":
        """Repeat the features of a single image for `count` prompts, without a copy."""
        embedding, *fine = (level.expand(count, -1, -1, -1) for level in (self.embedding, *self.fine))
        return Features(embedding, tuple(fine))


#: Pixels from which PyTorch's group normalisation in channels last, whose variance is E[x²] − E[x]² in one pass, is too
#: inexact in float32 on a CPU (torch 2.13: logits of the second look differed by 1.3e-4 from float64; with this 2e-5).
_MANY = 128 * 128


class Norm(nn.GroupNorm):
    """Group normalisation (Wu & He 2018) with 8 groups, fewer where the channels do not divide, or as many as given."""

    def __init__(self, channels: int, groups: int | None = None) -> None:
        super().__init__(groups or next(n for n in (8, 4, 2, 1) if channels % n == 0), channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.bfloat16 and x.device.type == "cpu" and torch.is_grad_enabled():
            return _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        single = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled()
        if single and x.shape[2] * x.shape[3] >= _MANY:
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(x)


class _GroupNorm(torch.autograd.Function):
    """Group normalisation whose backward pass is fast in bfloat16 on a CPU.

    PyTorch's own is ten times slower there than its forward pass (torch 2.13: 87 ms for 16 × 16 × 128 × 128 in channels
    last, this one 9). Written as dx = a·dy + b·x + c with a, b, c constant in a channel, from two sums per channel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        count, channels, pixels = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
        y, mean, scale = torch.native_group_norm(
            x, weight.to(x.dtype), bias.to(x.dtype), count, channels, pixels, groups, eps
        )
        ctx.save_for_backward(x, weight, mean.float(), scale.float())
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (dy,) = grads
        x, weight, mean, scale = ctx.saved_tensors
        (count, channels), groups = x.shape[:2], mean.shape[1]
        size = channels // groups
        sums = dy.sum((2, 3), dtype=torch.float32).view(count, groups, size)
        products = (dy * x).sum((2, 3), dtype=torch.float32).view(count, groups, size)
        mean, scale, factor = mean[..., None], scale[..., None], weight.view(groups, size)
        along = (products - mean * sums) * scale  # the sum of dy times the normalised x
        elements = size * x.shape[2] * x.shape[3]
        b = -scale.square() * (factor * along).sum(-1, keepdim=True) / elements
        c = -scale * (factor * sums).sum(-1, keepdim=True) / elements - b * mean
        a = (scale * factor).reshape(count, channels, 1, 1).to(x.dtype)
        b, c = (value.expand(-1, -1, size).reshape(count, channels, 1, 1).to(x.dtype) for value in (b, c))
        dx = torch.addcmul(torch.addcmul(c, x, b), dy, a)
        return dx, along.sum(0).view(channels), sums.sum(0).view(channels), None, None


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Two linear layers with an activation between, dropout after each."""

    def __init__(self, dim: int, hidden: int, act: Callable[[Tensor], Tensor], dropout: float = 0.0) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.act, self.dropout = act, dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.act(self.lin1(x)), self.dropout, self.training)
        return F.dropout(self.lin2(x), self.dropout, self.training)


class Head(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, out)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
