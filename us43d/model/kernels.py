"""Attention over a grid with decomposed relative positions as Triton kernels, forward and backward.

The keys are taken a few whole grid rows at a time. A row's share of the bias is then one number per query, a column's
the same tile at every step, so that the bias costs two additions a score and is nowhere written out. Scores and biases
are in base 2, where the exponential is one instruction: score·log2(e), with log2(e) in the biases already.

H, W is the grid, N = H·W, D the width of a head. bias_h is (B, heads, H, N), so that the biases of neighbouring queries
are neighbours in memory; bias_w is (B, heads, N, W), whose rows are read whole. Sums are float32 whatever the inputs.

The backward pass of a small grid (a window of 14 × 14) is one program per head on Hopper: five matrix products, and
every exponential once. Of a large grid the scores are computed twice, once for the queries and once for the keys: seven
products, but every number has one writer, so that equal inputs give equal bits. With five, the gradients of the queries
would be sums over programs: atomics, whose order no run repeats, or buffers of H times their size.
"""

# The arguments of a kernel are pointers and numbers that have no Python type.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
# ruff: noqa: ANN001, ANN202

import os
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["LN2", "LOG2E", "backward", "forward"]

LOG2E, LN2 = 1.4426950408889634, 0.6931471805599453
_LOG2E, _LN2 = tl.constexpr(LOG2E), tl.constexpr(LN2)

_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")

#: Grids of at most so many cells are small: all queries of a head are one tile.
SMALL = 256


class Choice(NamedTuple):
    """Launch parameters of a kernel. queries: per tile, 0 for all of a small grid. registers: limit per thread."""

    queries: int
    warps: int
    stages: int
    registers: int | None = None


# Among these the clock chooses, so none may change a bit of the result: a warp has 16 queries, whatever the tile, so
# that the sums over a query's keys run in the same order; the keys' sums run over tiles of queries of one size.
# 128 registers let two programs of 8 warps share a multiprocessor, 168 three of 4 warps. What each choice uses is in
# benchmarks/kernels.md.
FORWARD = (Choice(128, 8, 3, 128), Choice(128, 8, 2, 128), Choice(64, 4, 3, 128), Choice(128, 8, 2), Choice(64, 4, 1))
QUERIES = (Choice(64, 4, 2, 168), Choice(64, 4, 2), Choice(64, 4, 3), Choice(128, 8, 2), Choice(64, 4, 1))
KEYS = (Choice(32, 4, 2), Choice(32, 4, 3), Choice(32, 4, 1))
WHOLE = (Choice(0, 8, 1), Choice(0, 8, 2))


def _tuned(choices: tuple[Choice, ...]) -> Any:
    """Autotune: use the fastest choice for a shape, a data type and a total number of heads (as a power of two).

    The interpreter cannot measure time and uses the first choice.
    """
    configs = [
        triton.Config(
            {"M": choice.queries} if choice.queries else {}, choice.warps, choice.stages, maxnreg=choice.registers
        )
        for choice in choices
    ]
    return triton.autotune(configs[:1] if _INTERPRETED.value else configs, key=["H", "W", "D", "load"])


def _kernel(function: Any) -> Any:
    return triton.jit(function, do_not_specialize=["load"])


@triton.jit
def _tile(at, rows, columns, WHOLE: tl.constexpr):
    """Load a tile, zero where it is beyond the tensor; WHOLE if it never is."""
    if WHOLE:
        return tl.load(at)
    return tl.load(at, mask=rows[:, None] & columns[None, :], other=0.0)


@triton.jit
def _row_bias(
    bias_h, m, m_ok, first, N: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, QUERIES_WHOLE: tl.constexpr
):
    """Load the biases of queries m against ROWS grid rows: (M,) for one row, else (M, ROWS), −inf beyond H."""
    if ROWS > 1:
        rows = first + tl.arange(0, ROWS)[None, :]
        bias = tl.load(bias_h + rows * N + m[:, None], mask=m_ok[:, None] & (rows < H), other=0.0).to(tl.float32)
        if H % ROWS:
            bias = tl.where(rows < H, bias, float("-inf"))
    elif QUERIES_WHOLE:
        bias = tl.load(bias_h + first * N + m).to(tl.float32)
    else:
        bias = tl.load(bias_h + first * N + m, mask=m_ok, other=0.0).to(tl.float32)
    return bias


@triton.jit
def _column_bias(bias_w, m, m_ok, W: tl.constexpr, PW: tl.constexpr, ROWS: tl.constexpr, QUERIES_WHOLE: tl.constexpr):
    """Load the biases of queries m against the columns of ROWS grid rows: (M, ROWS·PW), −inf beyond W."""
    columns = tl.arange(0, PW)[None, :]
    at = bias_w + m[:, None] * W + columns
    if QUERIES_WHOLE and W == PW:
        bias = tl.load(at)
    else:
        bias = tl.load(at, mask=m_ok[:, None] & (columns < W), other=0.0)
        bias = tl.where(columns < W, bias, float("-inf"))
    if ROWS > 1:
        M: tl.constexpr = bias.shape[0]
        bias = tl.reshape(tl.broadcast_to(bias[:, None, :], [M, ROWS, PW]), [M, ROWS * PW])
    return bias


@triton.jit
def _over_columns(row_bias, PW: tl.constexpr):
    """(M, ROWS) → (M, ROWS·PW), the same for every column."""
    M: tl.constexpr = row_bias.shape[0]
    ROWS: tl.constexpr = row_bias.shape[1]
    return tl.reshape(tl.broadcast_to(row_bias[:, :, None], [M, ROWS, PW]), [M, ROWS * PW])


@_tuned(FORWARD)
@_kernel
def _forward(
    q, k, v, bias_h, bias_w, out, lse, load, heads, in_b, in_h, in_n, out_b, out_h, out_n, scale,
    H: tl.constexpr, W: tl.constexpr, D: tl.constexpr, PW: tl.constexpr, PD: tl.constexpr, ROWS: tl.constexpr,
    M: tl.constexpr,
):  # fmt: skip
    """M queries of a head against all keys. PW, PD: W and D padded to powers of two; ROWS: grid rows of a step."""
    N: tl.constexpr = H * W
    KEYS_WHOLE: tl.constexpr = (W == PW) and (H % ROWS == 0) and (D == PD)
    M_WHOLE: tl.constexpr = N % M == 0
    head = (tl.program_id(0) // tl.cdiv(N, M)).to(tl.int64)
    m = tl.program_id(0) % tl.cdiv(N, M) * M + tl.arange(0, M)
    n = tl.arange(0, ROWS * PW)
    d = tl.arange(0, PD)
    m_ok, d_ok = m < N, d < D
    start_in = head // heads * in_b + head % heads * in_h
    k += start_in
    v += start_in
    bias_h += head * N * H

    q_tile = _tile(q + start_in + m[:, None] * in_n + d[None, :], m_ok, d_ok, M_WHOLE and (D == PD))
    column_bias = _column_bias(bias_w + head * N * W, m, m_ok, W, PW, ROWS, M_WHOLE)
    total = tl.zeros([M], tl.float32)
    top = tl.full([M], float("-inf"), tl.float32)
    mixed = tl.zeros([M, PD], tl.float32)
    at_keys = (n // PW * W + n % PW)[:, None] * in_n + d[None, :]
    for first in range(0, H, ROWS):
        n_ok = (first + n // PW < H) & (n % PW < W)
        k_tile = _tile(k + first * W * in_n + at_keys, n_ok, d_ok, KEYS_WHOLE)
        v_tile = _tile(v + first * W * in_n + at_keys, n_ok, d_ok, KEYS_WHOLE)
        row_bias = _row_bias(bias_h, m, m_ok, first, N, H, ROWS, M_WHOLE)
        scores = tl.dot(q_tile, tl.trans(k_tile)) * (scale * _LOG2E) + column_bias.to(tl.float32)
        # One number per query needs no addition to every score: it moves what they are compared with.
        if ROWS == 1:
            higher = tl.maximum(top, tl.max(scores, 1) + row_bias)
            share = tl.math.exp2(scores - (higher - row_bias)[:, None])
        else:
            scores += _over_columns(row_bias, PW)
            higher = tl.maximum(top, tl.max(scores, 1))
            share = tl.math.exp2(scores - higher[:, None])
        fade = tl.math.exp2(top - higher)
        total = total * fade + tl.sum(share, 1)
        mixed = tl.dot(share.to(v_tile.dtype), v_tile, mixed * fade[:, None])
        top = higher

    at = head // heads * out_b + head % heads * out_h + m[:, None] * out_n + d[None, :]
    tl.store(out + at, (mixed / total[:, None]).to(out.dtype.element_ty), mask=m_ok[:, None] & d_ok[None, :])
    tl.store(lse + head * N + m, top + tl.math.log2(total), mask=m_ok)


@_tuned(QUERIES)
@_kernel
def _backward_queries(
    q, k, v, bias_h, bias_w, out, lse, grad, delta, grad_q, grad_bias_h, grad_bias_w,
    load, heads, in_b, in_h, in_n, out_b, out_h, out_n, scale,
    H: tl.constexpr, W: tl.constexpr, D: tl.constexpr, PW: tl.constexpr, PD: tl.constexpr, ROWS: tl.constexpr,
    M: tl.constexpr,
):  # fmt: skip
    """Gradients of M queries and their biases; delta, Σ out·grad of each query, is left for the keys."""
    N: tl.constexpr = H * W
    KEYS_WHOLE: tl.constexpr = (W == PW) and (H % ROWS == 0) and (D == PD)
    M_WHOLE: tl.constexpr = N % M == 0
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
    q_tile = _tile(q + start_in + m[:, None] * in_n + d[None, :], m_ok, d_ok, M_WHOLE and (D == PD))
    grad_tile = _tile(grad + at_out, m_ok, d_ok, M_WHOLE and (D == PD))
    out_tile = _tile(out + at_out, m_ok, d_ok, M_WHOLE and (D == PD))
    sums = tl.sum(grad_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    tl.store(delta + head * N + m, sums, mask=m_ok)
    top = tl.load(lse + head * N + m, mask=m_ok, other=0.0)
    column_bias = _column_bias(bias_w + head * N * W, m, m_ok, W, PW, ROWS, M_WHOLE)
    column_sums = tl.zeros([M, ROWS * PW], tl.float32)
    mixed = tl.zeros([M, PD], tl.float32)
    at_keys = (n // PW * W + n % PW)[:, None] * in_n + d[None, :]
    for first in range(0, H, ROWS):
        n_ok = (first + n // PW < H) & (n % PW < W)
        k_tile = _tile(k + first * W * in_n + at_keys, n_ok, d_ok, KEYS_WHOLE)
        v_tile = _tile(v + first * W * in_n + at_keys, n_ok, d_ok, KEYS_WHOLE)
        row_bias = _row_bias(bias_h, m, m_ok, first, N, H, ROWS, M_WHOLE)
        scores = tl.dot(q_tile, tl.trans(k_tile)) * (scale * _LOG2E) + column_bias.to(tl.float32)
        if ROWS == 1:
            share = tl.math.exp2(scores - (top - row_bias)[:, None])
        else:
            share = tl.math.exp2(scores + _over_columns(row_bias, PW) - top[:, None])
        grad_scores = share * (tl.dot(grad_tile, tl.trans(v_tile)) - sums[:, None])
        mixed = tl.dot(grad_scores.to(k_tile.dtype), k_tile, mixed)
        column_sums += grad_scores
        _store_row_sums(grad_bias_h, grad_scores, m, m_ok, first, N, H, ROWS, PW)

    tl.store(grad_q + at_out, (mixed * scale).to(grad_q.dtype.element_ty), mask=m_ok[:, None] & d_ok[None, :])
    if ROWS > 1:
        column_sums = tl.sum(tl.reshape(column_sums, [M, ROWS, PW]), 1)
    _store_column_sums(grad_bias_w + head * N * W, column_sums, m, m_ok, W, PW)


@triton.jit
def _store_row_sums(
    grad_bias_h, grad_scores, m, m_ok, first, N: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, PW: tl.constexpr
):  # fmt: skip
    """Store the gradients of the row biases, which are complete after one step."""
    if ROWS == 1:
        sums = (tl.sum(grad_scores, 1) * _LN2).to(grad_bias_h.dtype.element_ty)
        tl.store(grad_bias_h + first * N + m, sums, mask=m_ok)
    else:
        M: tl.constexpr = grad_scores.shape[0]
        rows = first + tl.arange(0, ROWS)[None, :]
        sums = (tl.sum(tl.reshape(grad_scores, [M, ROWS, PW]), 2) * _LN2).to(grad_bias_h.dtype.element_ty)
        tl.store(grad_bias_h + rows * N + m[:, None], sums, mask=m_ok[:, None] & (rows < H))


@triton.jit
def _store_column_sums(grad_bias_w, sums, m, m_ok, W: tl.constexpr, PW: tl.constexpr):
    columns = tl.arange(0, PW)[None, :]
    sums = (sums * _LN2).to(grad_bias_w.dtype.element_ty)
    tl.store(grad_bias_w + m[:, None] * W + columns, sums, mask=m_ok[:, None] & (columns < W))


@_tuned(KEYS)
@_kernel
def _backward_keys(
    q, k, v, bias_h, bias_w, lse, grad, delta, grad_k, grad_v,
    load, heads, in_b, in_h, in_n, out_b, out_h, out_n, scale,
    H: tl.constexpr, W: tl.constexpr, D: tl.constexpr, PW: tl.constexpr, PD: tl.constexpr, ROWS: tl.constexpr,
    M: tl.constexpr,
):  # fmt: skip
    """Gradients of the keys and values of ROWS grid rows, M queries a step. Tiles of scores are keys × queries here,
    as they are the left factors of both sums."""
    N: tl.constexpr = H * W
    KEYS_WHOLE: tl.constexpr = (W == PW) and (H % ROWS == 0) and (D == PD)
    M_WHOLE: tl.constexpr = N % M == 0
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
    k_tile = _tile(k + at, n_ok, d_ok, KEYS_WHOLE)
    v_tile = _tile(v + at, n_ok, d_ok, KEYS_WHOLE)
    mixed_k = tl.zeros([ROWS * PW, PD], tl.float32)
    mixed_v = tl.zeros([ROWS * PW, PD], tl.float32)
    at_queries = tl.arange(0, M)[:, None] * in_n + d[None, :]
    at_grads = tl.arange(0, M)[:, None] * out_n + d[None, :]
    for start in range(0, N, M):
        m = start + tl.arange(0, M)
        m_ok = m < N
        q_tile = _tile(q + start * in_n + at_queries, m_ok, d_ok, M_WHOLE and (D == PD))
        grad_tile = _tile(grad + start * out_n + at_grads, m_ok, d_ok, M_WHOLE and (D == PD))
        top = tl.load(lse + m, mask=m_ok, other=0.0)
        sums = tl.load(delta + m, mask=m_ok, other=0.0)
        row_bias = _row_bias(bias_h, m, m_ok, first, N, H, ROWS, M_WHOLE)
        column_bias = tl.trans(_column_bias(bias_w, m, m_ok, W, PW, ROWS, M_WHOLE)).to(tl.float32)
        scores = tl.dot(k_tile, tl.trans(q_tile)) * (scale * _LOG2E) + column_bias
        if ROWS == 1:
            share = tl.math.exp2(scores - (top - row_bias)[None, :])
        else:
            share = tl.math.exp2(scores + tl.trans(_over_columns(row_bias, PW)) - top[None, :])
        mixed_v = tl.dot(share.to(grad_tile.dtype), grad_tile, mixed_v)
        grad_scores = share * (tl.dot(v_tile, tl.trans(grad_tile)) - sums[None, :])
        mixed_k = tl.dot(grad_scores.to(q_tile.dtype), q_tile, mixed_k)

    at = start_out + (row * W + column)[:, None] * out_n + d[None, :]
    ok = n_ok[:, None] & d_ok[None, :]
    tl.store(grad_k + at, (mixed_k * scale).to(grad_k.dtype.element_ty), mask=ok)
    tl.store(grad_v + at, mixed_v.to(grad_v.dtype.element_ty), mask=ok)


@_tuned(WHOLE)
@_kernel
def _backward_whole(
    q, k, v, bias_h, bias_w, out, lse, grad, grad_q, grad_k, grad_v, grad_bias_h, grad_bias_w,
    load, heads, in_b, in_h, in_n, out_b, out_h, out_n, scale,
    H: tl.constexpr, W: tl.constexpr, D: tl.constexpr, PW: tl.constexpr, PD: tl.constexpr, ROWS: tl.constexpr,
    PN: tl.constexpr,
):  # fmt: skip
    """All gradients of a head of a small grid. PN: N padded; ROWS grid rows of keys are done at a step."""
    N: tl.constexpr = H * W
    KEYS_WHOLE: tl.constexpr = (W == PW) and (H % ROWS == 0) and (D == PD)
    M_WHOLE: tl.constexpr = N == PN
    head = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, PN)
    n = tl.arange(0, ROWS * PW)
    d = tl.arange(0, PD)
    m_ok, d_ok = m < N, d < D
    start_in = head // heads * in_b + head % heads * in_h
    start_out = head // heads * out_b + head % heads * out_h
    k += start_in
    v += start_in
    grad_k += start_out
    grad_v += start_out
    bias_h += head * N * H
    grad_bias_h += head * N * H

    at_out = start_out + m[:, None] * out_n + d[None, :]
    q_tile = _tile(q + start_in + m[:, None] * in_n + d[None, :], m_ok, d_ok, M_WHOLE and (D == PD))
    grad_tile = _tile(grad + at_out, m_ok, d_ok, M_WHOLE and (D == PD))
    out_tile = _tile(out + at_out, m_ok, d_ok, M_WHOLE and (D == PD))
    sums = tl.sum(grad_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    # +inf: the shares of queries that do not exist are 0.
    top = tl.load(lse + head * N + m, mask=m_ok, other=float("inf"))
    column_bias = _column_bias(bias_w + head * N * W, m, m_ok, W, PW, ROWS, M_WHOLE)
    column_sums = tl.zeros([PN, PW], tl.float32)
    mixed = tl.zeros([PN, PD], tl.float32)
    at_keys = (n // PW * W + n % PW)[:, None] * in_n + d[None, :]
    for first in range(0, H, ROWS):
        n_ok = (first + n // PW < H) & (n % PW < W)
        k_tile = _tile(k + first * W * in_n + at_keys, n_ok, d_ok, KEYS_WHOLE)
        v_tile = _tile(v + first * W * in_n + at_keys, n_ok, d_ok, KEYS_WHOLE)
        row_bias = _row_bias(bias_h, m, m_ok, first, N, H, ROWS, M_WHOLE)
        scores = tl.dot(q_tile, tl.trans(k_tile)) * (scale * _LOG2E) + column_bias.to(tl.float32)
        if ROWS == 1:
            share = tl.math.exp2(scores - (top - row_bias)[:, None])
        else:
            share = tl.math.exp2(scores + _over_columns(row_bias, PW) - top[:, None])
        grad_scores = share * (tl.dot(grad_tile, tl.trans(v_tile)) - sums[:, None])
        left = grad_scores.to(k_tile.dtype)
        mixed = tl.dot(left, k_tile, mixed)
        # Transposed, as the fewest rows a tensor core of sm_90 multiplies are 64: channels, not keys.
        mixed_v = tl.dot(tl.trans(grad_tile), share.to(grad_tile.dtype))
        mixed_k = tl.dot(tl.trans(q_tile), left) * scale
        at = ((first + n // PW) * W + n % PW)[None, :] * out_n + d[:, None]
        ok = n_ok[None, :] & d_ok[:, None]
        tl.store(grad_v + at, mixed_v.to(grad_v.dtype.element_ty), mask=ok)
        tl.store(grad_k + at, mixed_k.to(grad_k.dtype.element_ty), mask=ok)
        if ROWS == 1:
            column_sums += grad_scores
        else:
            column_sums += tl.sum(tl.reshape(grad_scores, [PN, ROWS, PW]), 1)
        _store_row_sums(grad_bias_h, grad_scores, m, m_ok, first, N, H, ROWS, PW)

    tl.store(grad_q + at_out, (mixed * scale).to(grad_q.dtype.element_ty), mask=m_ok[:, None] & d_ok[None, :])
    _store_column_sums(grad_bias_w + head * N * W, column_sums, m, m_ok, W, PW)


# --------------------------------------------------------------------------------------------------------- launching


def _alike(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three with the same strides and adjacent channels, as slices of one projection have them anyway."""
    if q.stride() == k.stride() == v.stride() and q.stride(-1) == 1:
        return q, k, v
    return q.contiguous(), k.contiguous(), v.contiguous()


def shape(height: int, width: int, dim: int) -> dict[str, int]:
    """What the kernels of a grid are compiled for and with, but for the tiles of queries."""
    padded = max(16, triton.next_power_of_2(width))  # 16: the least a tensor core multiplies
    keys = 32 if height * width <= SMALL else 64  # of a step: 14 × 14 are seven steps of two rows, none of them cut
    return {
        "H": height, "W": width, "D": dim, "PW": padded, "PD": max(16, triton.next_power_of_2(dim)),
        "ROWS": max(1, keys // padded), "enable_fp_fusion": True,
    }  # fmt: skip


def whole(constants: dict[str, int], capability: tuple[int, int] | None) -> bool:
    """Whether one program takes all of a head backward.

    Its queries, gradients and scores take 96 KiB of shared memory with the instructions of Hopper and Blackwell, 160
    KiB without, and twice that for wider heads.

    Args:
        constants: what `shape` gives.
        capability: the GPU's; None for the interpreter.
    """
    fits = constants["H"] * constants["W"] <= SMALL and constants["PD"] <= 64
    return fits and (capability is None or capability[0] in (9, 10))


def forward(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor, out: Tensor, lse: Tensor) -> None:
    """Compute the attention into `out` and log2 of the softmax's denominator into `lse`.

    Args:
        q, k, v: (B, heads, N, D) in half precision.
        bias_h: (B, heads, H, N) in base 2.
        bias_w: (B, heads, N, W) in base 2.
        out: (B, heads, N, D), channels adjacent.
        lse: (B, heads, N) float32.
    """
    batch, heads, count, dim = q.shape
    q, k, v = _alike(q, k, v)
    groups = batch * heads
    with torch.cuda.device_of(q):
        _forward[lambda meta: (groups * triton.cdiv(count, meta["M"]),)](
            q, k, v, bias_h.contiguous(), bias_w.contiguous(), out, lse,
            triton.next_power_of_2(groups), heads, *q.stride()[:3], *out.stride()[:3], dim**-0.5,
            **shape(bias_h.shape[-2], bias_w.shape[-1], dim),
        )  # fmt: skip


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor, out: Tensor, lse: Tensor,
    grads: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
) -> None:  # fmt: skip
    """Compute the gradients of q, k, v, bias_h and bias_w into `grads`.

    Args:
        grad: that of out.
        q, k, v, bias_h, bias_w, out, lse: as in `forward`.
        grads: (B, heads, N, D) three times, laid out as out is; bias_h and bias_w contiguous.
    """
    batch, heads, count, dim = q.shape
    q, k, v = _alike(q, k, v)
    if grad.stride() != out.stride():
        grad = torch.empty_like(out).copy_(grad)
    bias_h, bias_w = bias_h.contiguous(), bias_w.contiguous()
    grad_q, grad_k, grad_v, grad_bias_h, grad_bias_w = grads
    constants = shape(bias_h.shape[-2], bias_w.shape[-1], dim)
    groups = batch * heads
    layout = (triton.next_power_of_2(groups), heads, *q.stride()[:3], *out.stride()[:3], dim**-0.5)
    with torch.cuda.device_of(q):
        if whole(constants, torch.cuda.get_device_capability() if q.is_cuda else None):
            _backward_whole[(groups,)](
                q, k, v, bias_h, bias_w, out, lse, grad, *grads, *layout, **constants,
                PN=max(64, triton.next_power_of_2(count)),
            )  # fmt: skip
            return
        delta = torch.empty_like(lse)
        _backward_queries[lambda meta: (groups * triton.cdiv(count, meta["M"]),)](
            q, k, v, bias_h, bias_w, out, lse, grad, delta, grad_q, grad_bias_h, grad_bias_w, *layout, **constants
        )
        _backward_keys[(groups * triton.cdiv(constants["H"], constants["ROWS"]),)](
            q, k, v, bias_h, bias_w, lse, grad, delta, grad_k, grad_v, *layout, **constants
        )
