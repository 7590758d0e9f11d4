"""Register the Triton kernels of kernels.py as a PyTorch operator, for autograd and torch.compile.

Triton is imported when the operator first runs: it is not available on every platform, and a CPU does not need it.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["flash_attention", "room"]


def room(q: Tensor) -> Tensor:
    """Allocate a tensor of q's shape (B, heads, N, D), in memory (B, N, heads, D): merging the heads copies nothing."""
    batch, heads, count, dim = q.shape
    return q.new_empty(batch, count, heads, dim).transpose(1, 2)


def _outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    return room(q), q.new_empty(q.shape[:3], dtype=torch.float32)


def _gradients(q: Tensor, bias_h: Tensor, bias_w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return room(q), room(q), room(q), bias_h.new_empty(bias_h.shape), bias_w.new_empty(bias_w.shape)


@torch.library.custom_op("us43d::flash_attention", mutates_args=())
def flash_attention(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> tuple[Tensor, Tensor]:
    """Compute softmax(q kᵀ/√D + ln 2 · bias) v in half precision. It has no second derivatives.

    Args:
        q, k, v: (B, heads, H·W, D), D ≤ 128.
        bias_h: (B, heads, H, H·W): of each grid row of keys, for every query; in base 2 (times log2 e).
        bias_w: (B, heads, H·W, W): of each query, for every grid column of keys; in base 2. H and W ≤ 64.

    Returns:
        The attention (B, heads, H·W, D), in memory (B, H·W, heads, D), and log2 of the softmax's denominator
        (B, heads, H·W) float32, which the backward pass needs.
    """
    from us43d.model import kernels

    out, lse = _outputs(q)
    kernels.forward(q, k, v, bias_h, bias_w, out, lse)
    return out, lse


@flash_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> tuple[Tensor, Tensor]:
    return _outputs(q)


@torch.library.custom_op("us43d::flash_attention_backward", mutates_args=())
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    from us43d.model import kernels

    gradients = _gradients(q, bias_h, bias_w)
    kernels.backward(grad, q, k, v, bias_h, bias_w, out, lse, gradients)
    return gradients


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _gradients(q, bias_h, bias_w)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, *output)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    return _backward(grad, *ctx.saved_tensors)


flash_attention.register_autograd(_differentiate, setup_context=_keep)
