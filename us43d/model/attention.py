"""Attention over a grid with decomposed relative positions, without the (H·W)² bias.

The bias of query (i, j) and key (k, l) is q·Rh[i, k] + q·Rw[j, l]: one number per query and grid row, and one per query
and grid column. Four backends mix them into the softmax; `biased_attention` chooses one of them:

    triton    the kernels of kernels.py, forward and backward: half precision on a GPU
    flex      PyTorch's FlexAttention with the bias as its score function, compiled; trains on GPUs only
    one_hot   the bias as part of the scalar product, so that any fused attention computes it and its gradients
    blocks    the bias of a block of queries at a time; for inference only
"""

import functools
import math
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from us43d.errors import ConfigError
from us43d.model.flash import flash_attention, room

__all__ = ["BACKENDS", "biased_attention", "chosen"]

HAS_TRITON = find_spec("triton") is not None

#: Name of the backend used for every attention; with None, `chosen` decides.
FORCED = os.environ.get("US43D_ATTENTION")

#: Numbers of the bias that `blocks` writes at once: 32 MB of float32, about the size of a processor's last-level cache.
SCORES = 1 << 23

#: Largest number of cells of a grid that counts as a window in `ON_GPU`.
WINDOW = 256
#: The backend of half precision on a GPU. A GUESS, not a measurement: no backend has been run on a GPU yet. `make gpu`
#: times the three, forward and backward, and names the fastest of each; those names belong here, with the GPU's.
ON_GPU = {"window": "triton", "global": "triton"}


def biased_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Compute softmax(q kᵀ/√d + bias) v in memory that is linear in H·W.

    Args:
        q, k, v: (B, heads, H·W, d), of one floating-point type.
        rel_h: (H, H, d), embeddings of query row against key row.
        rel_w: (W, W, d), embeddings of query column against key column.

    Returns:
        (B, heads, H·W, d), in the type of q.

    Raises:
        ConfigError: US43D_ATTENTION names an unknown backend, or one that does not support these inputs.
    """
    return BACKENDS[chosen(q, rel_h, rel_w)](q, k, v, rel_h, rel_w)


def chosen(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> str:
    """Choose the backend by data type, device, grid, and whether gradients are needed.

    Returns:
        A key of `BACKENDS`.

    Raises:
        ConfigError: US43D_ATTENTION names an unknown backend, or one that does not support these inputs.
    """
    if torch.onnx.is_in_onnx_export():
        return "one_hot"  # plain operators only
    learning = torch.is_grad_enabled()
    half = q.dtype in (torch.bfloat16, torch.float16)
    fits = half and max(len(rel_h), len(rel_w)) <= 64 and q.shape[-1] <= 128
    if FORCED is not None:
        if FORCED not in BACKENDS:
            raise ConfigError(
                f"Unknown attention backend US43D_ATTENTION={FORCED!r}: one of {', '.join(BACKENDS)}.",
                next="unset US43D_ATTENTION",
            )
        refused = {
            "triton": not (q.is_cuda and HAS_TRITON and fits) and "needs a GPU, Triton, and bf16 or float16",
            "flex": learning and not q.is_cuda and "trains on GPUs only",
            "blocks": learning and "cannot train in linear memory",
        }
        if reason := refused.get(FORCED):
            raise ConfigError(
                f"US43D_ATTENTION={FORCED} {reason}; this attention is {q.dtype} on {q.device}.",
                next="unset US43D_ATTENTION",
            )
        return FORCED
    if q.is_cuda and fits:
        backend = ON_GPU["window" if len(rel_h) * len(rel_w) <= WINDOW else "global"]
        return backend if backend != "triton" or HAS_TRITON else "one_hot"
    return "one_hot" if learning else "blocks"


def _biases(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the biases of each query for grid rows (B, heads, H·W, H) and grid columns (B, heads, H·W, W) of keys."""
    grid = q.unflatten(2, (len(rel_h), len(rel_w)))
    bias_h = torch.einsum("bnhwd,hkd->bnhwk", grid, rel_h.to(q.dtype)).flatten(2, 3)
    bias_w = torch.einsum("bnhwd,wkd->bnhwk", grid, rel_w.to(q.dtype)).flatten(2, 3)
    return bias_h, bias_w


def _triton(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Run the Triton kernels; the embeddings are scaled to base 2, which adds no rounding step."""
    rel_h, rel_w = ((table.float() * math.log2(math.e)).to(q.dtype) for table in (rel_h, rel_w))
    grid = q.unflatten(2, (len(rel_h), len(rel_w)))
    bias_h = torch.einsum("bnhwd,hkd->bnkhw", grid, rel_h).flatten(3)
    bias_w = torch.einsum("bnhwd,wkd->bnhwk", grid, rel_w).flatten(2, 3)
    return flash_attention(q, k, v, bias_h, bias_w)[0]


def _flex(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    from torch.nn.attention import flex_attention

    width = len(rel_w)
    bias_h, bias_w = _biases(q, rel_h, rel_w)

    def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + bias_h[batch, head, query, key // width] + bias_w[batch, head, query, key % width]

    # Without torch.compile, FlexAttention materializes all scores.
    attend = flex_attention.flex_attention if torch.compiler.is_compiling() else _compiled_flex()
    return attend(q, k, v, score_mod=biased)


@functools.cache
def _compiled_flex() -> Any:
    from torch.nn.attention import flex_attention

    return torch.compile(flex_attention.flex_attention, dynamic=False)


def _one_hot(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Express the bias as part of q' k'ᵀ: q' = [q/√d, bias_h, bias_w], k' = [k, onehot(row), onehot(column)]."""
    dim, height, width = q.shape[-1], len(rel_h), len(rel_w)
    rows = torch.eye(height, dtype=q.dtype, device=q.device).repeat_interleave(width, 0)
    columns = torch.eye(width, dtype=q.dtype, device=q.device).repeat(height, 1)
    where = torch.cat([rows, columns], 1).expand(*q.shape[:2], -1, -1)
    long_q = torch.cat([q * dim**-0.5, *_biases(q, rel_h, rel_w)], -1)
    long_k = torch.cat([k, where], -1)
    # Fused GPU kernels need equal widths of q, k and v, a multiple of 8; padding with zeros changes no product.
    extra = -long_q.shape[-1] % 8
    long_q, long_k = F.pad(long_q, (0, extra)), F.pad(long_k, (0, extra))
    long_v = F.pad(v, (0, height + width + extra))
    return F.scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., :dim]


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Process queries in blocks. Faster than `_one_hot` with its wider heads, but gradients would need all scores."""
    out = room(q)
    bias_h, bias_w = _biases(q, rel_h, rel_w)
    for b, n, m in _blocks(*q.shape[:3]):
        bias = (bias_h[b, n, m, :, None] + bias_w[b, n, m, None, :]).flatten(-2)
        out[b, n, m] = F.scaled_dot_product_attention(q[b, n, m], k[b, n], v[b, n], attn_mask=bias)
    return out


def _blocks(batch: int, heads: int, count: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield (batch entries, heads, queries) with at most SCORES scores.

    Blocks are large in queries first: PyTorch's CPU attention processes 256 queries at a time if a call has 768 or
    more, else fewer.
    """
    queries = max(1, min(count, 1024, SCORES // count))
    some = max(1, min(heads, SCORES // (count * queries)))
    entries = max(1, min(batch, SCORES // (count * queries * heads)))
    for b in range(0, batch, entries):
        for n in range(0, heads, some):
            for m in range(0, count, queries):
                yield slice(b, b + entries), slice(n, n + some), slice(m, m + queries)


BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "triton": _triton, "flex": _flex, "one_hot": _one_hot, "blocks": _in_blocks,
}  # fmt: skip
