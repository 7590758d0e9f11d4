"""The Triton attention on a GPU: exactness, equal bits, memory, torch.compile. Its speed is benchmarks/encoder.py's."""

import pytest
import torch
from torch import Tensor

from us43d.model.attention import BACKENDS, biased_attention
from us43d.model.network import PRESETS, UltraSam
from us43d.model.vit import EncoderAttention

pytestmark = pytest.mark.gpu
BOUND = {torch.float16: 3e-3, torch.bfloat16: 2e-2}
#: batch, heads, H, W, d: the global blocks of ViT-B and ViT-H, their windows, and grids of other shapes
GRIDS = [
    (1, 2, 64, 64, 64),
    (1, 1, 64, 64, 80),
    (5, 3, 14, 14, 64),
    (2, 2, 5, 7, 16),
    (1, 2, 20, 37, 32),
    (1, 1, 33, 64, 64),
]


@pytest.fixture(autouse=True)
def _gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")


def case(batch: int, heads: int, height: int, width: int, dim: int, dtype: torch.dtype) -> list[Tensor]:
    draw = torch.Generator("cuda").manual_seed(0)
    qkv = torch.randn(batch, height * width, 3, heads, dim, generator=draw, device="cuda").to(dtype)
    sides = [torch.randn(n, n, dim, generator=draw, device="cuda").mul(0.2).to(dtype) for n in (height, width)]
    return [*qkv.permute(2, 0, 3, 1, 4).unbind(), *sides]


def materialised(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    grid = q.unflatten(2, (len(rel_h), len(rel_w)))
    rows = torch.einsum("bnijd,ikd->bnijk", grid, rel_h)
    columns = torch.einsum("bnijd,jld->bnijl", grid, rel_w)
    bias = (rows[..., :, None] + columns[..., None, :]).flatten(4, 5).flatten(2, 3)
    return ((q @ k.mT) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v


def results(function, inputs: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    leaves = [each.to(dtype).detach().requires_grad_() for each in inputs]
    out = function(*leaves)
    grad = torch.randn(out.shape, generator=torch.Generator("cuda").manual_seed(1), device="cuda").to(dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


@pytest.mark.parametrize("shape", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["triton", "flex", "one_hot"])
def test_it_agrees_with_float64(backend: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch._dynamo.reset()  # FlexAttention is compiled for every shape, which counts against a limit
    inputs = case(*shape, dtype)
    truth = results(materialised, inputs, torch.float64)
    found = results(BACKENDS[backend], inputs, dtype)
    for name, a, b in zip(("out", "q", "k", "v", "rel_h", "rel_w"), found, truth, strict=True):
        assert (a.double() - b).abs().max() / b.abs().max() < BOUND[dtype], name


@pytest.mark.parametrize("shape", [(1, 2, 64, 64, 64), (5, 3, 14, 14, 64)])
def test_equal_inputs_give_equal_bits(shape: tuple[int, ...]) -> None:
    inputs = case(*shape, torch.bfloat16)
    first = results(biased_attention, inputs, torch.bfloat16)
    for _ in range(3):
        assert all(
            (a == b).all() for a, b in zip(results(biased_attention, inputs, torch.bfloat16), first, strict=True)
        )


@pytest.mark.parametrize("shape", [(1, 2, 64, 64, 64), (5, 3, 14, 14, 64)])
def test_the_choice_of_warps_and_stages_changes_no_bit(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are chosen by the clock, so that two processes of one run, or a resumed run, may choose differently."""
    from triton.runtime.errors import OutOfResources

    from us43d.model import kernels

    tuned = (kernels._forward, kernels._backward_queries, kernels._backward_keys, kernels._backward_whole)
    inputs, seen = case(*shape, torch.bfloat16), []
    for kernel in tuned:
        for config in list(kernel.configs):
            with monkeypatch.context() as patch:
                patch.setattr(kernel, "configs", [config])
                try:
                    seen.append(results(BACKENDS["triton"], inputs, torch.bfloat16))
                except OutOfResources:
                    print(f"{config} does not fit this GPU")
    assert len(seen) > len(tuned)
    assert all((a == b).all() for each in seen[1:] for a, b in zip(each, seen[0], strict=True))


def test_memory_is_linear() -> None:
    inputs = case(1, 4, 64, 64, 64, torch.bfloat16)
    results(biased_attention, inputs, torch.bfloat16)  # choosing warps and stages takes room of its own
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    results(biased_attention, inputs, torch.bfloat16)
    # One head's bias alone would be 32 MiB in bfloat16, the four heads' 128 MiB; q, k, v and their like are 2 MiB each.
    assert torch.cuda.max_memory_allocated() - before < 64 << 20


@pytest.mark.parametrize("side", [14, 64])
def test_it_compiles(side: int) -> None:
    module = EncoderAttention(128, 2, side).cuda().bfloat16()
    x = torch.randn(2, side, side, 128, device="cuda", dtype=torch.bfloat16)
    compiled = torch.compile(module, fullgraph=True)
    parameters = list(module.parameters())
    (a, *grads_a), (b, *grads_b) = (
        [out := each(x), *torch.autograd.grad(out.float().square().sum(), parameters)] for each in (module, compiled)
    )
    for one, other in zip([a, *grads_a], [b, *grads_b], strict=True):
        assert (one - other).abs().max() <= 0.03 * one.abs().max()


def test_a_whole_encoder_in_bfloat16_is_near_the_one_in_float32() -> None:
    model = UltraSam.random(PRESETS["vit_b"], 0).cuda().eval()
    image = torch.randn(1, 3, 1024, 1024, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    with torch.inference_mode():
        exact = model.encode(image).embedding
        with torch.autocast("cuda", torch.bfloat16):
            found = model.encode(image).embedding.float()
    assert (found - exact).abs().mean() < 0.02 * exact.abs().mean()
