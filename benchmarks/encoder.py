"""The image encoder's forward pass against transformers' SamModel, sdpa and eager. Prints a Markdown table.

    python benchmarks/encoder.py                                   # ViT-B at 1024, one image, float32, on the CPU
    python benchmarks/encoder.py --device cuda --batch 8           # bf16, with MFU

All have the same random weights and take turns in one process. Their embeddings are compared first.
"""

import argparse

import torch
from beside import EAGER, OURS, SDPA, Turns, models, peak, place, shape

from us43d.model import flops


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="vit_b", help="a preset of us43d.model.network")
    parser.add_argument("--size", type=int, help="side of the images, if not the preset's")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), help="bf16 on a GPU, else float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="also ours compiled")
    parser.add_argument("--without", nargs="*", choices=("sdpa", "eager"), default=[])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    precision = options.precision or ("float32" if options.device == "cpu" else "bf16")

    config = shape(options.model, options.size)
    others = [name for name in (SDPA, EAGER) if name.split()[-1] not in options.without]
    named = {name: model.eval() for name, model in models(config, options.device, others).items()}
    side = config.image_size
    images = torch.randn(options.batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(options.device)

    @torch.inference_mode()
    @torch.autocast(options.device.split(":")[0], torch.bfloat16, enabled=precision == "bf16")
    def encode(name: str) -> torch.Tensor:
        return named[name].encode(images).embedding

    ways = {name: lambda name=name: encode(name) for name in named}
    if options.compile:
        compiled = f"{OURS} compiled"
        named[compiled] = models(config, options.device, [])[OURS].eval()
        named[compiled].image_encoder.compile()
        ways[compiled] = lambda: encode(compiled)
    truth = encode(OURS).float()
    off = {name: float((encode(name).float() - truth).abs().max() / truth.abs().max()) for name in others}
    turns = Turns(options.device)
    turns.run(ways, options.rounds)

    print(f"{place(options.device)}; {options.model} at {side}, batch {options.batch}, {precision}; ", end="")
    print(f"medians of {options.rounds} rounds in turn.")
    if off:
        print("Largest difference to ours: " + ", ".join(f"{name} {value:.0e}" for name, value in off.items()) + ".")
    print()
    print(turns.table(options.batch, options.batch * flops.encoder(config), peak(options.device, precision)))
    aimed_at = options.device != "cpu" and options.model == "vit_b" and side == 1024 and precision == "bf16"
    if aimed_at and SDPA in others:
        best = max((name for name in ways if name.startswith(OURS)), key=lambda n: 1 / turns.ratio(n))
        print(f"\n{best} is {turns.ratio(SDPA) / turns.ratio(best):.2f} times as fast as transformers sdpa (aim: 3).")
    else:
        print("\nThe aim, 3 times transformers sdpa, is for ViT-B at 1024 in bf16 on a GPU: not measured in this run.")


if __name__ == "__main__":
    main()
