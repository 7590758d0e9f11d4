"""Attention over a grid with decomposed relative positions, without the (H·W)² bias.

The bias of query (i, j) and key (k, l) is q·Rh[i, k] + q·Rw[j, l]: bias_h, one number per query and grid row, and
bias_w, one per query and grid column. They are mixed into the softmax in one of three ways:

    flash_attention   half precision on a GPU: the Triton kernels of flash.py, forward and backward
    _one_hot          everything else that is learnt from: the bias as part of the scalar product
    _in_blocks        everything else that is only looked at: the bias of a block of queries at a time
"""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["SCORES", "biased_attention", "flash_attention", "room"]

HAS_TRITON = find_spec("triton") is not None

#: Numbers of the bias that `_in_blocks` writes at once: 32 MB of float32, about what a processor's last cache holds.
SCORES = 1 << 23


def biased_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """softmax(q kᵀ/√d + bias) v.

    q, k, v: (B, heads, H·W, d). rel_h: (H, H, d), rel_w: (W, W, d), the embeddings of query row (column) against key
    row (column). Returns (B, heads, H·W, d). Memory is linear in H·W.
    """
    grid = q.unflatten(2, (len(rel_h), len(rel_w)))
    bias_h = torch.einsum("bnhwd,hkd->bnhwk", grid, rel_h.to(q.dtype)).flatten(2, 3)
    bias_w = torch.einsum("bnhwd,wkd->bnhwk", grid, rel_w.to(q.dtype)).flatten(2, 3)
    half = q.dtype in (torch.bfloat16, torch.float16)
    if q.is_cuda and HAS_TRITON and half and max(len(rel_h), len(rel_w)) <= 64 and q.shape[-1] <= 128:
        return flash_attention(q, k, v, bias_h, bias_w)[0]
    return (_one_hot if torch.is_grad_enabled() else _in_blocks)(q, k, v, bias_h, bias_w)


def _one_hot(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    """With q' = [q/√d, bias_h, bias_w] and k' = [k, onehot(row), onehot(column)] the bias is part of q' k'ᵀ, so that
    any fused attention computes it and its gradients."""
    dim, height, width = q.shape[-1], bias_h.shape[-1], bias_w.shape[-1]
    rows = torch.eye(height, dtype=q.dtype, device=q.device).repeat_interleave(width, 0)
    columns = torch.eye(width, dtype=q.dtype, device=q.device).repeat(height, 1)
    where = torch.cat([rows, columns], 1).expand(*q.shape[:2], -1, -1)
    long_q = torch.cat([q * dim**-0.5, bias_h, bias_w], -1)
    long_k = torch.cat([k, where], -1)
    # One width for all three lets every backend of the fused kernel take part.
    long_v = F.pad(v, (0, height + width))
    return F.scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., :dim]


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    """Faster than `_one_hot`, whose heads are two to three times as wide, but its gradients would need all scores."""
    out = room(q)
    for b, n, m in _blocks(*q.shape[:3]):
        bias = (bias_h[b, n, m, :, None] + bias_w[b, n, m, None, :]).flatten(-2)
        out[b, n, m] = F.scaled_dot_product_attention(q[b, n, m], k[b, n], v[b, n], attn_mask=bias)
    return out


def _blocks(batch: int, heads: int, count: int) -> Iterator[tuple[slice, slice, slice]]:
    """(entries of the batch, heads, queries) of which all scores are SCORES at most. Queries come first: PyTorch's
    attention on a CPU works on 256 of them at once if it is given 768 or more, else on fewer."""
    queries = max(1, min(count, 1024, SCORES // count))
    some = max(1, min(heads, SCORES // (count * queries)))
    entries = max(1, min(batch, SCORES // (count * queries * heads)))
    for b in range(0, batch, entries):
        for n in range(0, heads, some):
            for m in range(0, count, queries):
                yield slice(b, b + entries), slice(n, n + some), slice(m, m + queries)


def room(q: Tensor) -> Tensor:
    """A tensor of q's shape (B, heads, N, d), in memory (B, N, heads, d): merging the heads copies nothing."""
    batch, heads, count, dim = q.shape
    return q.new_empty(batch, count, heads, dim).transpose(1, 2)


# -------------------------------------------------------------------------------------- kernels, as PyTorch knows them


@torch.library.custom_op("us43d::flash_attention", mutates_args=())
def flash_attention(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> tuple[Tensor, Tensor]:
    """q, k, v: (B, heads, H·W, d) in half precision, d ≤ 128. bias_h: (B, heads, H·W, H), bias_w: (B, heads, H·W, W),
    H and W ≤ 64.

    Returns the attention (B, heads, H·W, d), in memory (B, H·W, heads, d), and what the backward pass needs: log2 of
    the softmax's denominator (B, heads, H·W). torch.compile takes it as it is. It has no second derivatives.
    """
    from us43d.model import flash  # Triton is not everywhere

    return flash.forward(q, k, v, bias_h, bias_w)


@flash_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> tuple[Tensor, Tensor]:
    return room(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("us43d::flash_attention_backward", mutates_args=())
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    from us43d.model import flash

    return flash.backward(grad, q, k, v, bias_h, bias_w, out, lse)


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return room(q), room(q), room(q), bias_h.new_empty(bias_h.shape), bias_w.new_empty(bias_w.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, *output)


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    return _backward(grad, *ctx.saved_tensors)


flash_attention.register_autograd(_gradients, setup_context=_keep)
