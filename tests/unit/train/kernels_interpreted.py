"""Run by test_attention.py with TRITON_INTERPRET=1: the Triton kernels on a CPU."""

import math
import sys

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter

from us43d.model.flash import flash_attention

torch.set_num_threads(1)


def _dot(builder, a, b, d, precision, imprecise):
    """The interpreter multiplies the bit patterns of bfloat16 (triton-lang/triton issue 11584), and slowly float16."""

    def value(x):
        if x.dtype.scalar == tl.bfloat16:
            return (x.data.astype(np.uint32) << 16).view(np.float32)
        return x.data.astype(np.float32)

    return interpreter.TensorHandle(value(a) @ value(b) + d.data, d.dtype.scalar)


interpreter.InterpreterBuilder.create_dot = _dot


def case(batch: int, heads: int, height: int, width: int, dim: int, dtype: torch.dtype) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    qkv = torch.randn(batch, height * width, 3, heads, dim, generator=draw).to(dtype)
    count = height * width
    bias_h = torch.randn(batch, heads, height, count, generator=draw).to(dtype)
    bias_w = torch.randn(batch, heads, count, width, generator=draw).to(dtype)
    return [each.detach().requires_grad_() for each in (*qkv.permute(2, 0, 3, 1, 4).unbind(), bias_h, bias_w)]


def materialised(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    bias = (bias_h.mT[..., :, None] + bias_w[..., None, :]).flatten(-2) * math.log(2)
    return ((q @ k.mT) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v


def results(function, inputs: list[Tensor]) -> list[Tensor]:
    out = function(*inputs)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(torch.float16).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def agree(dtype: str, *shapes: str) -> None:
    # Rounding of the scores' shares to the dtype, at most one unit in the last place of each; the interpreter cuts
    # bfloat16 off instead of rounding it.
    bound = {"float16": 2e-3, "bfloat16": 1.6e-2}[dtype]
    for shape in shapes:
        inputs = case(*map(int, shape.split(",")), getattr(torch, dtype))
        truth = results(materialised, [each.detach().double().requires_grad_() for each in inputs])
        found = results(lambda *given: flash_attention(*given)[0], inputs)
        for name, a, b in zip(("out", "q", "k", "v", "bias_h", "bias_w"), found, truth, strict=True):
            off = float((a.double() - b).abs().max() / b.abs().max())
            print(f"{dtype} {shape} {name} {off:.1e}")
            assert off < bound, f"{shape}: {name} is off by {off:.1e}"


def operator() -> None:
    """What PyTorch checks of an operator, with inputs in the model's layout and with three different ones; and that
    equal inputs give equal bits."""
    inputs = case(2, 2, 5, 7, 16, torch.float16)
    torch.library.opcheck(flash_attention, inputs)
    q, k, v, *biases = (each.detach() for each in case(1, 1, 3, 4, 16, torch.float16))
    torch.library.opcheck(flash_attention, [each.requires_grad_() for each in (q, k.mT.contiguous().mT, v, *biases)])
    once, again = (results(lambda *given: flash_attention(*given)[0], inputs) for _ in range(2))
    assert all((a == b).all() for a, b in zip(once, again, strict=True))


def backend(dtype: str) -> None:
    """`biased_attention` as the model calls it, with the biases made from the embeddings."""
    from us43d.model import attention

    draw = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 15, 16, generator=draw).to(getattr(torch, dtype))
    sides = [torch.randn(side, side, 16, generator=draw).mul(0.3).to(q.dtype) for side in (3, 5)]
    inputs = [each.detach().requires_grad_() for each in (q, k, v, *sides)]
    wide = [each.detach().double().requires_grad_() for each in inputs]
    found, truth = results(attention.BACKENDS["triton"], inputs), results(attention.BACKENDS["one_hot"], wide)
    for name, a, b in zip(("out", "q", "k", "v", "rel_h", "rel_w"), found, truth, strict=True):
        off = float((a.double() - b).abs().max() / b.abs().max())
        print(f"{dtype} {name} {off:.1e}")
        assert off < {"float16": 4e-3, "bfloat16": 3e-2}[dtype], name


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
