"""Prompts through the mask decoder: as it is, compiled, and as a CUDA graph. Prints a Markdown table.

    python benchmarks/decoder.py --device cuda                # ViT-B's, bf16
    python benchmarks/decoder.py --no-compile --prompts 16    # on a CPU

In float32, cross-attention with few tokens does not project the image (`DecoderAttention.few`). SAM's code projects it:
that is another row of the table.

The image is encoded before. What a person waits for after a click is this, and it is so little work that a GPU waits
for the launches: a graph launches them all at once.
"""

import argparse
import statistics
from collections.abc import Callable
from unittest import mock

import torch
from beside import Turns, place, shape
from torch import Tensor

from us43d.model.network import DecoderAttention, Features, UltraSam


def graphed(decode: Callable[..., tuple[Tensor, Tensor]], inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """Capture one call as a CUDA graph, which reads the same tensors at every replay."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what is allocated and chosen at first must not be in the graph
        for _ in range(3):
            decode(*inputs)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = decode(*inputs)
    expected = decode(*inputs)
    graph.replay()
    torch.cuda.synchronize()
    if not all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True)):
        raise SystemExit("The CUDA graph's masks differ from those of the call it was captured from.")
    return graph.replay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_b", help="a preset of us43d.model.network")
    parser.add_argument("--prompts", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-compile", action="store_true", help="without the compiled decoder")
    options = parser.parse_args()
    on_gpu = options.device != "cpu"
    config, count = shape(options.model, None), options.prompts
    model = UltraSam.random(config, 0).to(options.device).eval()
    draw = torch.Generator().manual_seed(0)
    embedding = torch.randn(count, config.prompt_dim, config.grid, config.grid, generator=draw).to(options.device)
    points = (torch.rand(count, 2, 2, generator=draw) * config.image_size).to(options.device)
    labels = torch.tensor([[2, 3]], device=options.device).expand(count, 2).contiguous()
    inputs = (embedding, points, labels)

    @torch.autocast(options.device.split(":")[0], torch.bfloat16, enabled=on_gpu)
    def decode(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        embedding, *prompts = tensors
        logits, iou, _ = model.decode(Features(embedding), *prompts)
        return logits, iou

    with torch.inference_mode():
        ways: dict[str, Callable[[], object]] = {"eager": lambda: decode(*inputs)}
        if not on_gpu:
            projected = mock.patch.object(DecoderAttention, "few", mock.Mock(return_value=False))
            ways["eager, the image projected"] = projected(ways["eager"])
        if not options.no_compile:
            compiled = torch.compile(decode)
            ways["compiled"] = lambda: compiled(*inputs)
        if on_gpu:
            ways["CUDA graph"] = graphed(decode, inputs)
        for way in ways.values():
            way()
        turns = Turns(options.device)
        turns.run(ways, options.rounds)
    print(
        f"{place(options.device)}; decoder of {options.model}, {count} prompt(s), {'bf16' if on_gpu else 'float32'}; ",
        end="",
    )
    print(f"medians of {options.rounds} rounds in turn.\n\n| way | milliseconds | prompts/s |\n|---|--:|--:|")
    for name, seconds in turns.seconds.items():
        middle = statistics.median(seconds)
        print(f"| {name} | {1000 * middle:.3g} | {count / middle:.3g} |")
    if not on_gpu:
        print("\nA CUDA graph needs a GPU: not in the table.")


if __name__ == "__main__":
    main()
