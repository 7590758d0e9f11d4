"""The backends of us43d.model.attention against each other, forward, and forward and backward. Prints Markdown tables.

    python benchmarks/attention.py --device cuda --batch 8        # the windows and the global blocks of ViT-B at 1024
    python benchmarks/attention.py --model tiny --batch 2         # on a CPU, in float32

They take turns in one process on the same numbers. The last line names the fastest for each kind of grid: on a GPU that
is what ON_GPU of us43d/model/attention.py is for.
"""

import argparse
import functools
import statistics
from collections.abc import Callable

import torch
from beside import Turns, place, shape
from torch import Tensor

from us43d.errors import ConfigError
from us43d.model import attention


def inputs(batch: int, heads: int, side: int, dim: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    """q, k, v as slices of one projection, as in the model, and the embeddings of the relative positions."""
    draw = torch.Generator().manual_seed(0)
    qkv = torch.randn(batch, side * side, 3, heads, dim, generator=draw).to(device, dtype)
    sides = torch.randn(2, side, side, dim, generator=draw).mul(0.2).to(device, dtype)
    return [tensor.detach().requires_grad_() for tensor in (*qkv.permute(2, 0, 3, 1, 4).unbind(), *sides)]


@torch.no_grad()
def forward(attend: Callable[..., Tensor], tensors: list[Tensor]) -> Tensor:
    return attend(*(tensor.detach() for tensor in tensors))


def both(attend: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
    out = attend(*tensors)
    return [out, *torch.autograd.grad(out, tensors, torch.ones_like(out))]


def usable(name: str, tensors: list[Tensor], learning: bool) -> str | None:
    """The reason why a backend cannot do this; None if it can."""
    attention.FORCED = name
    try:
        with torch.set_grad_enabled(learning):
            attention.chosen(tensors[0], *tensors[3:])
    except ConfigError as error:
        return error.what
    finally:
        attention.FORCED = None
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_b", help="a preset of us43d.model.network")
    parser.add_argument("--batch", type=int, default=1, help="images")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, help="calls that are timed together; 10 on a GPU, else 1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16", "fp16"), help="bf16 on a GPU, else float32")
    parser.add_argument("--without", nargs="*", choices=list(attention.BACKENDS), default=[])
    options = parser.parse_args()
    on_gpu = options.device != "cpu"
    precision = options.precision or ("bf16" if on_gpu else "float32")
    dtype = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    repeats = options.repeats or (10 if on_gpu else 1)
    config = shape(options.model, None)
    windows = (-(-config.grid // config.window)) ** 2
    print(f"{place(options.device)}; {options.model}, {options.batch} images, {precision}; ", end="")
    print(f"medians of {options.rounds} rounds in turn, of one block's attention.")
    fastest = {}
    for kind, batch, side in (
        ("window", windows * options.batch, config.window),
        ("global", options.batch, config.grid),
    ):
        tensors = inputs(batch, config.heads, side, config.embed_dim // config.heads, options.device, dtype)
        for learning in (False, True):
            ways: dict[str, Callable[[], object]] = {}
            print(f"\n{kind}, {side} × {side}, {'forward and backward' if learning else 'forward'}:\n")
            for name, attend in attention.BACKENDS.items():
                if name in options.without:
                    continue
                if reason := usable(name, tensors, learning):
                    print(f"{name} is not in the table: {reason}\n")
                    continue
                call = functools.partial(both if learning else forward, attend, tensors)

                def way(call: Callable[[], object] = call) -> None:
                    for _ in range(repeats):
                        call()

                ways[name] = way
                way()  # compiles, and chooses warps and stages
            turns = Turns(options.device)
            turns.run(ways, options.rounds)
            print("| backend | milliseconds | peak memory |\n|---|--:|--:|")
            medians = {name: statistics.median(seconds) / repeats for name, seconds in turns.seconds.items()}
            for name, seconds in medians.items():
                print(f"| {name} | {1000 * seconds:.3g} | {turns.bytes[name] / 1e6:.0f} MB |", flush=True)
            fastest[kind] = min(medians, key=medians.__getitem__)
    print(f"\nFastest forward and backward: {fastest}.")


if __name__ == "__main__":
    main()
