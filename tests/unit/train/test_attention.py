"""Attention with relative positions against float64, its memory, and the Triton kernels in Triton's interpreter."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from us43d.errors import ConfigError
from us43d.model import attention
from us43d.model.attention import biased_attention
from us43d.model.network import PRESETS, UltraSam
from us43d.model.vit import EncoderAttention

#: batch, heads, H, W, d
GRIDS = [(2, 3, 5, 7, 24), (3, 2, 14, 14, 64), (1, 1, 64, 64, 16), (1, 2, 2, 9, 16)]


def case(batch: int, heads: int, height: int, width: int, dim: int, dtype: torch.dtype) -> list[Tensor]:
    """q, k, v as the slices of one projection that they are in the model, and the relative positions."""
    draw = torch.Generator().manual_seed(0)
    qkv = torch.randn(batch, height * width, 3, heads, dim, generator=draw).to(dtype)
    sides = [torch.randn(side, side, dim, generator=draw).mul(0.3).to(dtype) for side in (height, width)]
    return [*qkv.permute(2, 0, 3, 1, 4).unbind(), *sides]


def materialised(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """As it is written in the papers."""
    height, width = len(rel_h), len(rel_w)
    grid = q.unflatten(2, (height, width))
    rows = torch.einsum("bnijd,ikd->bnijk", grid, rel_h)
    columns = torch.einsum("bnijd,jld->bnijl", grid, rel_w)
    bias = (rows[..., :, None] + columns[..., None, :]).flatten(4, 5).flatten(2, 3)
    return ((q @ k.mT) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v


def results(function: Any, inputs: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The attention and its five gradients."""
    leaves = [each.to(dtype).detach().requires_grad_() for each in inputs]
    out = function(*leaves)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def off(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth.double()).abs().max() / truth.double().abs().max())


def compiler() -> None:
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        pytest.skip("no C++ compiler is here, which Inductor needs on a CPU")


@pytest.mark.parametrize("shape", GRIDS)
def test_learning_agrees_with_float64(shape: tuple[int, ...]) -> None:
    inputs = case(*shape, torch.float32)
    truth = results(materialised, inputs, torch.float64)
    found = results(biased_attention, inputs, torch.float32)
    assert max(off(a, b) for a, b in zip(found, truth, strict=True)) < 5e-6
    found = results(biased_attention, inputs, torch.float64)
    assert max(off(a, b) for a, b in zip(found, truth, strict=True)) < 1e-13


@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize("scores", [attention.SCORES, 500])
def test_looking_agrees_with_float64(shape: tuple[int, ...], scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if shape[2] == 64 and scores == 500:
        scores = 1 << 18  # 64 queries at a time; 4096 of one each take long
    monkeypatch.setattr(attention, "SCORES", scores)
    inputs = case(*shape, torch.float32)
    truth = materialised(*(each.double() for each in inputs))
    with torch.inference_mode():
        assert off(biased_attention(*inputs), truth) < 2e-6
        assert off(biased_attention(*(each.double() for each in inputs)), truth) < 1e-13


#: Rounding of the shares and the results to the type, of the largest number of each.
HALF = {torch.float16: 3e-3, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", list(HALF))
@pytest.mark.parametrize("shape", [(2, 2, 14, 14, 64), (1, 2, 5, 7, 24)])
def test_one_hot_in_half_precision_agrees_with_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = case(*shape, dtype)
    truth = results(materialised, inputs, torch.float64)
    found = results(attention.BACKENDS["one_hot"], inputs, dtype)
    assert max(off(a, b) for a, b in zip(found, truth, strict=True)) < HALF[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_flex_agrees_with_float64(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its score function and the gradients through it, by FlexAttention's own reference.

    PyTorch refuses to differentiate it on a CPU because the fused kernel of that is missing; the reference is not.
    """
    from torch.nn.attention import flex_attention as flex

    monkeypatch.setattr(flex, "_validate_device", lambda *tensors: None)
    monkeypatch.setattr(attention, "_compiled_flex", lambda: flex.flex_attention)
    inputs = case(2, 2, 5, 7, 24, dtype)
    truth = results(materialised, inputs, torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")  # the reference is meant
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor")  # of what it captures, by its own tracing
        found = results(attention.BACKENDS["flex"], inputs, dtype)
    assert max(off(a, b) for a, b in zip(found, truth, strict=True)) < HALF.get(dtype, 5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_compiled_flex_agrees_with_float64(dtype: torch.dtype) -> None:
    """The kernel that Inductor writes for a CPU."""
    compiler()
    inputs = case(1, 2, 5, 7, 24, dtype)
    truth = materialised(*(each.double() for each in inputs))
    with torch.no_grad():
        found = attention.BACKENDS["flex"](*inputs)
    assert off(found, truth) < HALF.get(dtype, 2e-6)


@pytest.mark.parametrize(
    ("name", "learning", "reason"),
    [
        ("blocks", False, None), ("one_hot", True, None), ("one_hot", False, None), ("flex", False, None),
        ("blocks", True, "cannot train"), ("flex", True, "trains on GPUs only"), ("triton", False, "needs a GPU"),
        ("fastest", False, "one of triton, flex, one_hot, blocks"),
    ],
)  # fmt: skip
def test_a_backend_can_be_forced(
    name: str, learning: bool, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    for known in attention.BACKENDS:
        monkeypatch.setitem(attention.BACKENDS, known, lambda q, *rest, known=known: used.append(known))
    monkeypatch.setattr(attention, "FORCED", name)
    inputs = case(1, 1, 2, 2, 16, torch.float32)
    with torch.set_grad_enabled(learning):
        if reason is None:
            biased_attention(*inputs)
        else:
            with pytest.raises(ConfigError, match=reason):
                biased_attention(*inputs)
    assert used == ([name] if reason is None else [])


def test_the_environment_forces_a_backend() -> None:
    script = "from us43d.model import attention; print(attention.FORCED)"
    environment = os.environ | {"US43D_ATTENTION": "one_hot"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "one_hot"


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made inside has."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        found = func(*args, **(kwargs or {}))
        made = [each.numel() for each in tree_leaves(found) if isinstance(each, Tensor)]
        self.numbers = max(self.numbers, *made, 0)
        return found


@pytest.mark.parametrize("learning", [True, False])
def test_nothing_has_a_number_for_every_pair(learning: bool) -> None:
    inputs = case(1, 1, 64, 64, 16, torch.float32)
    with Largest() as largest:
        if learning:
            results(biased_attention, inputs, torch.float32)
        else:
            with torch.no_grad():
                biased_attention(*inputs)
    assert largest.numbers <= (4096 * (16 + 64 + 64) if learning else attention.SCORES)
    with Largest() as largest:  # the measure itself
        materialised(*inputs)
    assert largest.numbers == 4096**2


@pytest.mark.parametrize("learning", [True, False])
def test_it_compiles(learning: bool) -> None:
    module = EncoderAttention(24, 2, 5)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 5, 5, 24, generator=torch.Generator().manual_seed(1))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(learning):
        expected, found = module(x), compiled(x)
    assert torch.allclose(found, expected, atol=1e-5)
    if learning:
        parameters = list(module.parameters())
        for a, b in zip(*(torch.autograd.grad(each.sum(), parameters) for each in (found, expected)), strict=True):
            assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_the_image_encoder_compiles(backend: str, checkpointing: bool) -> None:
    """As one graph, for learning and for looking, with windows that are padded and without."""
    if backend == "inductor":
        compiler()
    draw = torch.Generator().manual_seed(0)
    shape = PRESETS["tiny"].model_copy(update={"depth": 2, "global_blocks": (1,), "image_size": 64, "window": 5})
    encoder = UltraSam.random(shape, 0).image_encoder.train()
    encoder.checkpointing = checkpointing
    for name, parameter in encoder.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=draw)
    x = torch.randn(2, 3, 64, 64, generator=draw)
    grad = torch.randn(2, shape.prompt_dim, 8, 8, generator=draw)
    torch._dynamo.reset()  # what other tests compiled counts against a limit
    compiled = torch.compile(encoder, fullgraph=True, backend=backend)
    learnt = []
    for each in (encoder, compiled):
        out = each(x)
        learnt.append([out.detach(), *torch.autograd.grad(out, list(encoder.parameters()), grad)])
    assert max(off(found, truth) for truth, found in zip(*learnt, strict=True)) < 1e-5
    encoder.eval()
    with torch.inference_mode():
        assert torch.allclose(compiled(x), encoder(x), atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- kernels


def interpreted(check: str, *arguments: str) -> None:
    """Run a function of kernels_interpreted.py. In a process of its own, as Triton decides on import what it is."""
    pytest.importorskip("triton", reason="Triton is not installed; it comes with PyTorch for CUDA and with us43d[dev]")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("kernels_interpreted.py")), check, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_kernels_agree_with_float64(dtype: str) -> None:
    """Small grids, which one program takes whole, and larger ones or wide heads; one grid row a step and several."""
    whole = ("2,2,5,7,24", "1,1,14,14,64", "1,1,3,64,32", "1,1,3,37,16")
    interpreted("agree", dtype, *whole, "1,1,9,14,80", "1,1,5,64,16", "1,1,19,15,16", "1,1,13,20,16")
    interpreted("backend", dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_kernels_agree_on_the_largest_grid(dtype: str) -> None:
    interpreted("agree", dtype, "1,1,64,64,64")


def test_the_operator_is_what_pytorch_is_told() -> None:
    interpreted("operator")


@pytest.mark.parametrize("target", [90, pytest.param(80, marks=pytest.mark.slow)])
def test_the_compiled_kernels_are_those_of_the_table(target: int) -> None:
    """Registers, spills and shared memory, for an H100 and an A100. The compiler needs no GPU; see tests/gpu too."""
    triton = pytest.importorskip(
        "triton", reason="Triton is not installed; it comes with PyTorch for CUDA and us43d[dev]"
    )
    folder = Path(__file__).parents[3] / "benchmarks"
    table = folder / "kernels.md"
    if f"Triton {triton.__version__}," not in table.read_text():
        pytest.skip(f"the kept table is not of Triton {triton.__version__}")
    command = [sys.executable, str(folder / "kernels.py"), "--target", str(target), "--first", "--check", str(table)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("wgmma" in done.stdout) == (target == 90)
