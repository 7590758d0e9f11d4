"""Attention over a grid with decomposed relative positions, without the (H·W)² bias.

The bias of query (i, j) and key (k, l) is q·Rh[i, k] + q·Rw[j, l]. With q' = [q, rel_h/s, rel_w/s] and
k' = [k, onehot(row), onehot(column)] it is part of the scalar product, so that any fused attention computes it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["biased_attention"]


def biased_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """softmax(s·q kᵀ + bias) v with s = 1/√d.

    q, k, v: (B, heads, H·W, d). rel_h: (H, H, d), rel_w: (W, W, d), the embeddings of query row (column) against key
    row (column). Returns (B, heads, H·W, d). Memory is linear in H·W where the fused kernel is.
    """
    batch, heads, _, dim = q.shape
    height, width = len(rel_h), len(rel_w)
    grid = q.view(batch, heads, height, width, dim)
    bias_h = torch.einsum("bnhwd,hkd->bnhwk", grid, rel_h.to(q.dtype)).flatten(2, 3)
    bias_w = torch.einsum("bnhwd,wkd->bnhwk", grid, rel_w.to(q.dtype)).flatten(2, 3)
    rows = torch.eye(height, dtype=q.dtype, device=q.device).repeat_interleave(width, 0)
    cols = torch.eye(width, dtype=q.dtype, device=q.device).repeat(height, 1)
    where = torch.cat([rows, cols], 1).expand(batch, heads, -1, -1)
    long_q = torch.cat([q * dim**-0.5, bias_h, bias_w], -1)
    long_k = torch.cat([k, where], -1)
    # One width for all three lets every backend of the fused kernel take part.
    long_v = F.pad(v, (0, height + width))
    return F.scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., :dim]
