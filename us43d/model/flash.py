"""Attention over a grid with decomposed relative positions as Triton kernels, forward and backward.

The keys are taken a few whole grid rows at a time. A row's share of the bias is then one number per query, a column's
the same tile at every step, so that the bias costs two additions a score and is nowhere written out. The scores are
kept in base 2, where the exponential is one instruction.

B·heads is flattened to G programs' worth of heads; H, W is the grid, N = H·W, D the width of a head. Sums are float32
whatever the inputs. The backward pass computes the scores anew, once for the keys and once for the queries: every
number has one writer, so that equal inputs give equal bits.
"""

# The arguments of a kernel are pointers and numbers that have no Python type.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
# ruff: noqa: ANN001, ANN202

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from us43d.model.attention import room

__all__ = ["backward", "forward"]

LOG2E = tl.constexpr(1.4426950408889634)

# (warps, stages): how many threads a program has and how far it loads ahead, which change the time and not the result.
# The last are for GPUs with less shared memory than a Hopper's; what does not fit is passed over.
_FORWARD = [(8, 3), (8, 4), (8, 2), (4, 1)]
_BACKWARD = [(4, 2), (8, 2), (4, 3), (8, 3), (8, 1)]

#: Keys of a step, and queries of a program.
KEYS, QUERIES_FORWARD, QUERIES_BACKWARD = 64, 128, 64


def _tuned(choices: list[tuple[int, int]]) -> Any:
    """The fastest of (warps, stages) for a shape. The interpreter has no clock to choose by: it takes the first."""
    configs = [triton.Config({}, num_warps=warps, num_stages=stages) for warps, stages in choices]
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return triton.autotune(configs[:1] if interpreted else configs, key=["H", "W", "D"])


@triton.jit
def _load(at, rows, columns, WHOLE: tl.constexpr):
    """A tile, zero where it is beyond the tensor; WHOLE if it never is."""
    if WHOLE:
        return tl.load(at)
    return tl.load(at, mask=rows[:, None] & columns[None, :], other=0.0)


@triton.jit
def _row_bias(bias_h, m, m_ok, row, H: tl.constexpr, ROWS: tl.constexpr):
    """Bias of queries m against grid rows `row` in base 2: for one row a number per query, −inf for rows beyond H."""
    if ROWS == 1:
        return tl.load(bias_h + m * H + row, mask=m_ok, other=0.0).to(tl.float32) * LOG2E
    ok = m_ok & (row < H)
    return tl.where(row < H, tl.load(bias_h + m * H + row, mask=ok, other=0.0).to(tl.float32) * LOG2E, float("-inf"))


@triton.jit
def _column_bias(bias_w, m, m_ok, column, W: tl.constexpr):
    """Bias of queries m against grid columns in base 2, −inf for columns beyond W."""
    bias = tl.load(bias_w + m * W + column, mask=m_ok & (column < W), other=0.0).to(tl.float32) * LOG2E
    return tl.where(column < W, bias, float("-inf"))


@_tuned(_FORWARD)
@triton.jit
def _forward(
    q, k, v, bias_h, bias_w, out, lse, heads, in_b, in_h, in_n, out_b, out_h, out_n, scale,
    H: tl.constexpr, W: tl.constexpr, D: tl.constexpr, PW: tl.constexpr, PD: tl.constexpr, ROWS: tl.constexpr,
    M: tl.constexpr,
):  # fmt: skip
    """M queries of a head against all keys. PW, PD: W and D padded to powers of two; ROWS: grid rows of a step."""
    N: tl.constexpr = H * W
    KEYS_WHOLE: tl.constexpr = (W == PW) and (H % ROWS == 0) and (D == PD)
    QUERIES_WHOLE: tl.constexpr = (N % M == 0) and (D == PD)
    head = (tl.program_id(0) // tl.cdiv(N, M)).to(tl.int64)
    m = tl.program_id(0) % tl.cdiv(N, M) * M + tl.arange(0, M)
    n = tl.arange(0, ROWS * PW)
    d = tl.arange(0, PD)
    m_ok, d_ok = m < N, d < D
    start_in = head // heads * in_b + head % heads * in_h
    k += start_in
    v += start_in
    bias_h += head * N * H

    q_tile = _load(q + start_in + m[:, None] * in_n + d[None, :], m_ok, d_ok, QUERIES_WHOLE)
    column_bias = _column_bias(bias_w + head * N * W, m[:, None], m_ok[:, None], (n % PW)[None, :], W)
    total = tl.zeros([M], tl.float32)
    top = tl.full([M], float("-inf"), tl.float32)
    mixed = tl.zeros([M, PD], tl.float32)
    for first in range(0, H, ROWS):
        row = first + n // PW
        n_ok = (row < H) & (n % PW < W)
        at = (row * W + n % PW)[:, None] * in_n + d[None, :]
        k_tile = _load(k + at, n_ok, d_ok, KEYS_WHOLE)
        v_tile = _load(v + at, n_ok, d_ok, KEYS_WHOLE)
        scores = tl.dot(q_tile, tl.trans(k_tile)) * (scale * LOG2E) + column_bias
        # One number per query needs no addition to every score: it moves what they are compared with.
        if ROWS == 1:
            shift = _row_bias(bias_h, m, m_ok, first, H, ROWS)
            higher = tl.maximum(top, tl.max(scores, 1) + shift)
            share = tl.math.exp2(scores - (higher - shift)[:, None])
        else:
            scores += _row_bias(bias_h, m[:, None], m_ok[:, None], row[None, :], H, ROWS)
            higher = tl.maximum(top, tl.max(scores, 1))
            share = tl.math.exp2(scores - higher[:, None])
        fade = tl.math.exp2(top - higher)
        total = total * fade + tl.sum(share, 1)
        mixed = tl.dot(share.to(v_tile.dtype), v_tile, mixed * fade[:, None])
        top = higher

    at = head // heads * out_b + head % heads * out_h + m[:, None] * out_n + d[None, :]
    tl.store(out + at, (mixed / total[:, None]).to(out.dtype.element_ty), mask=m_ok[:, None] & d_ok[None, :])
    tl.store(lse + head * N + m, top + tl.math.log2(total), mask=m_ok)


@_tuned(_BACKWARD)
@triton.jit
def _backward_queries(
    q, k, v, bias_h, bias_w, out, lse, grad, delta, grad_q, grad_bias_h, grad_bias_w,
    heads, in_b, in_h, in_n, out_b, out_h, out_n, scale,
    H: tl.constexpr, W: tl.constexpr, D: tl.constexpr, PW: tl.constexpr, PD: tl.constexpr, ROWS: tl.constexpr,
    M: tl.constexpr,
):  # fmt: skip
    """Gradients of M queries and their biases; delta, Σ out·grad of each query, is left for the keys."""
    N: tl.constexpr = H * W
    KEYS_WHOLE: tl.constexpr = (W == PW) and (H % ROWS == 0) and (D == PD)
    QUERIES_WHOLE: tl.constexpr = (N % M == 0) and (D == PD)
    head = (tl.program_id(0) // tl.cdiv(N, M)).to(tl.int64)
    m = tl.program_id(0) % tl.cdiv(N, M) * M + tl.arange(0, M)
    n = tl.arange(0, ROWS * PW)
    d = tl.arange(0, PD)
    m_ok, d_ok = m < N, d < D
    start_in = head // heads * in_b + head % heads * in_h
    k += start_in
    v += start_in
    bias_h += head * N * H
    grad_bias_h += head * N * H

    at_out = head // heads * out_b + head % heads * out_h + m[:, None] * out_n + d[None, :]
    q_tile = _load(q + start_in + m[:, None] * in_n + d[None, :], m_ok, d_ok, QUERIES_WHOLE)
    grad_tile = _load(grad + at_out, m_ok, d_ok, QUERIES_WHOLE)
    out_tile = _load(out + at_out, m_ok, d_ok, QUERIES_WHOLE)
    sums = tl.sum(grad_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    tl.store(delta + head * N + m, sums, mask=m_ok)
    top = tl.load(lse + head * N + m, mask=m_ok, other=0.0)
    column_bias = _column_bias(bias_w + head * N * W, m[:, None], m_ok[:, None], (n % PW)[None, :], W)
    column_sums = tl.zeros([M, ROWS * PW], tl.float32)
    mixed = tl.zeros([M, PD], tl.float32)
    for first in range(0, H, ROWS):
        row = first + n // PW
        n_ok = (row < H) & (n % PW < W)
        at = (row * W + n % PW)[:, None] * in_n + d[None, :]
        k_tile = _load(k + at, n_ok, d_ok, KEYS_WHOLE)
        v_tile = _load(v + at, n_ok, d_ok, KEYS_WHOLE)
        scores = tl.dot(q_tile, tl.trans(k_tile)) * (scale * LOG2E) + column_bias
        if ROWS == 1:
            share = tl.math.exp2(scores - (top - _row_bias(bias_h, m, m_ok, first, H, ROWS))[:, None])
        else:
            scores += _row_bias(bias_h, m[:, None], m_ok[:, None], row[None, :], H, ROWS)
            share = tl.math.exp2(scores - top[:, None])
        grad_scores = share * (tl.dot(grad_tile, tl.trans(v_tile)) - sums[:, None])
        mixed = tl.dot(grad_scores.to(k_tile.dtype), k_tile, mixed)
        column_sums += grad_scores
        if ROWS == 1:
            row_sums = tl.sum(grad_scores, 1).to(grad_bias_h.dtype.element_ty)
            tl.store(grad_bias_h + m * H + first, row_sums, mask=m_ok)
        else:
            rows = first + tl.arange(0, ROWS)[None, :]
            row_sums = tl.sum(tl.reshape(grad_scores, [M, ROWS, PW]), 2).to(grad_bias_h.dtype.element_ty)
            tl.store(grad_bias_h + m[:, None] * H + rows, row_sums, mask=m_ok[:, None] & (rows < H))

    tl.store(grad_q + at_out, (mixed * scale).to(grad_q.dtype.element_ty), mask=m_ok[:, None] & d_ok[None, :])
    if ROWS > 1:
        column_sums = tl.sum(tl.reshape(column_sums, [M, ROWS, PW]), 1)
    columns = tl.arange(0, PW)[None, :]
    at_bias = grad_bias_w + head * N * W + m[:, None] * W + columns
    tl.store(at_bias, column_sums.to(grad_bias_w.dtype.element_ty), mask=m_ok[:, None] & (columns < W))


@_tuned(_BACKWARD)
@triton.jit
def _backward_keys(
    q, k, v, bias_h, bias_w, lse, grad, delta, grad_k, grad_v,
    heads, in_b, in_h, in_n, out_b, out_h, out_n, scale,
    H: tl.constexpr, W: tl.constexpr, D: tl.constexpr, PW: tl.constexpr, PD: tl.constexpr, ROWS: tl.constexpr,
    M: tl.constexpr,
):  # fmt: skip
    """Gradients of the keys and values of ROWS grid rows, M queries a step. Tiles of scores are keys × queries here,
    as they are the left factors of both sums."""
    N: tl.constexpr = H * W
    KEYS_WHOLE: tl.constexpr = (W == PW) and (H % ROWS == 0) and (D == PD)
    QUERIES_WHOLE: tl.constexpr = (N % M == 0) and (D == PD)
    head = (tl.program_id(0) // tl.cdiv(H, ROWS)).to(tl.int64)
    first = tl.program_id(0) % tl.cdiv(H, ROWS) * ROWS
    n = tl.arange(0, ROWS * PW)
    d = tl.arange(0, PD)
    row, column = first + n // PW, n % PW
    n_ok, d_ok = (row < H) & (column < W), d < D
    start_in = head // heads * in_b + head % heads * in_h
    start_out = head // heads * out_b + head % heads * out_h
    q += start_in
    grad += start_out
    bias_h += head * N * H
    bias_w += head * N * W
    lse += head * N
    delta += head * N

    at = start_in + (row * W + column)[:, None] * in_n + d[None, :]
    k_tile = _load(k + at, n_ok, d_ok, KEYS_WHOLE)
    v_tile = _load(v + at, n_ok, d_ok, KEYS_WHOLE)
    mixed_k = tl.zeros([ROWS * PW, PD], tl.float32)
    mixed_v = tl.zeros([ROWS * PW, PD], tl.float32)
    for start in range(0, N, M):
        m = start + tl.arange(0, M)
        m_ok = m < N
        q_tile = _load(q + m[:, None] * in_n + d[None, :], m_ok, d_ok, QUERIES_WHOLE)
        grad_tile = _load(grad + m[:, None] * out_n + d[None, :], m_ok, d_ok, QUERIES_WHOLE)
        top = tl.load(lse + m, mask=m_ok, other=0.0)
        sums = tl.load(delta + m, mask=m_ok, other=0.0)
        column_bias = _column_bias(bias_w, m[None, :], m_ok[None, :], column[:, None], W)
        scores = tl.dot(k_tile, tl.trans(q_tile)) * (scale * LOG2E) + column_bias
        if ROWS == 1:
            share = tl.math.exp2(scores - (top - _row_bias(bias_h, m, m_ok, first, H, ROWS))[None, :])
        else:
            scores += _row_bias(bias_h, m[None, :], m_ok[None, :], row[:, None], H, ROWS)
            share = tl.math.exp2(scores - top[None, :])
        mixed_v = tl.dot(share.to(grad_tile.dtype), grad_tile, mixed_v)
        grad_scores = share * (tl.dot(v_tile, tl.trans(grad_tile)) - sums[None, :])
        mixed_k = tl.dot(grad_scores.to(q_tile.dtype), q_tile, mixed_k)

    at = start_out + (row * W + column)[:, None] * out_n + d[None, :]
    ok = n_ok[:, None] & d_ok[None, :]
    tl.store(grad_k + at, (mixed_k * scale).to(grad_k.dtype.element_ty), mask=ok)
    tl.store(grad_v + at, mixed_v.to(grad_v.dtype.element_ty), mask=ok)


# --------------------------------------------------------------------------------------------------------- launching


def _alike(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three with the same strides and adjacent channels, as slices of one projection have them anyway."""
    if q.stride() == k.stride() == v.stride() and q.stride(-1) == 1:
        return q, k, v
    return q.contiguous(), k.contiguous(), v.contiguous()


def _shape(q: Tensor, bias_h: Tensor, bias_w: Tensor) -> dict[str, int]:
    """What the kernels are compiled for."""
    height, width, dim = bias_h.shape[-1], bias_w.shape[-1], q.shape[-1]
    padded = max(16, triton.next_power_of_2(width))  # 16: the least a tensor core multiplies
    return {
        "H": height, "W": width, "D": dim, "PW": padded, "PD": max(16, triton.next_power_of_2(dim)),
        "ROWS": max(1, KEYS // padded), "enable_fp_fusion": True,
    }  # fmt: skip


def forward(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> tuple[Tensor, Tensor]:
    """q, k, v: (B, heads, N, D) in half precision. bias_h: (B, heads, N, H), bias_w: (B, heads, N, W).

    Returns out (B, heads, N, D) and lse (B, heads, N) float32, log2 of the softmax's denominator.
    """
    batch, heads, count, dim = q.shape
    q, k, v = _alike(q, k, v)
    out, lse = room(q), q.new_empty(batch, heads, count, dtype=torch.float32)
    grid = (batch * heads * triton.cdiv(count, QUERIES_FORWARD),)
    with torch.cuda.device_of(q):
        _forward[grid](
            q, k, v, bias_h.contiguous(), bias_w.contiguous(), out, lse,
            heads, *q.stride()[:3], *out.stride()[:3], dim**-0.5,
            **_shape(q, bias_h, bias_w), M=QUERIES_FORWARD,
        )  # fmt: skip
    return out, lse


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, bias_h and bias_w for that of out, in their types."""
    batch, heads, count, dim = q.shape
    q, k, v = _alike(q, k, v)
    if grad.stride() != out.stride():
        grad = room(q).copy_(grad)
    bias_h, bias_w = bias_h.contiguous(), bias_w.contiguous()
    grad_q, grad_k, grad_v = room(q), room(q), room(q)
    grad_bias_h, grad_bias_w, delta = torch.empty_like(bias_h), torch.empty_like(bias_w), torch.empty_like(lse)
    shape = _shape(q, bias_h, bias_w)
    layout = (heads, *q.stride()[:3], *out.stride()[:3], dim**-0.5)
    with torch.cuda.device_of(q):
        _backward_queries[(batch * heads * triton.cdiv(count, QUERIES_BACKWARD),)](
            q, k, v, bias_h, bias_w, out, lse, grad, delta, grad_q, grad_bias_h, grad_bias_w, *layout,
            **shape, M=QUERIES_BACKWARD,
        )  # fmt: skip
        _backward_keys[(batch * heads * triton.cdiv(shape["H"], shape["ROWS"]),)](
            q, k, v, bias_h, bias_w, lse, grad, delta, grad_k, grad_v, *layout, **shape, M=QUERIES_BACKWARD
        )
    return grad_q, grad_k, grad_v, grad_bias_h, grad_bias_w
