"""A whole training step against transformers' SamModel, sdpa and eager. Prints a Markdown table.

    python benchmarks/train_step.py --device cuda                      # ViT-B at 1024, batch 8, bf16, with MFU
    python benchmarks/train_step.py --size 512 --batch 1 --rounds 3    # a smaller one that a CPU can do
    python benchmarks/train_step.py --device cuda --sweep 64           # ours and sdpa, batch 1, 2, 4 … to what fits

Forward, both decoder passes, the loss of us43d.train.losses, backward, clipping and AdamW; one box an image. All begin
with the same random weights, do the same around the model, and take turns in one process.
"""

import argparse
import gc
import statistics

import torch
from beside import EAGER, OURS, SDPA, Turns, models, peak, place, shape

from us43d.model import flops
from us43d.model.network import ModelConfig
from us43d.train.config import TrainConfig
from us43d.train.data import Batch
from us43d.train.losses import Objective


def batch(config: ModelConfig, count: int) -> Batch:
    """Noise with a box of half its side in each image, and that box's inside as the target."""
    side, small = config.image_size, config.mask_size
    draw = torch.Generator().manual_seed(0)
    targets = torch.zeros(count, small, small, dtype=torch.uint8)
    targets[:, small // 4 : 3 * small // 4, small // 4 : 3 * small // 4] = 255
    corners = torch.tensor([[side / 4, side / 4], [3 * side / 4, 3 * side / 4]])
    return Batch.without_look(
        torch.randint(0, 256, (count, side, side, 3), generator=draw, dtype=torch.uint8),
        torch.full((count, 2), side), targets, corners.expand(count, 2, 2).contiguous(),
        torch.tensor([2, 3]).expand(count, 2).contiguous(), torch.arange(count),
    )  # fmt: skip


class Step:
    """One step after the other of one model."""

    def __init__(self, model: torch.nn.Module, config: TrainConfig, data: Batch) -> None:
        self.model, self.config, self.data = model.train(), config, data
        self.objective = Objective(model, config)  # type: ignore[arg-type]
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-5, weight_decay=config.weight_decay, fused=data.images.is_cuda
        )

    def __call__(self) -> float:
        loss, _ = self.objective(self.data)
        (loss / len(self.data.labels)).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


def sweep(options: argparse.Namespace, shaped: ModelConfig, precision: str, others: list[str]) -> None:
    """Double the batch until a way no longer fits the GPU's memory, one way after the other."""
    print(f"{place(options.device)}; {options.model} at {shaped.image_size}, {precision}; ", end="")
    print(
        f"medians of {options.rounds} steps.\n\n| way | batch | images/s | peak memory | MFU |\n|---|--:|--:|--:|--:|"
    )
    best = peak(options.device, precision)
    for name in (OURS, *others):
        model = models(shaped, options.device, others)[name]
        if name == OURS and options.compile:
            model.image_encoder.compile()
        count = 1
        while count <= options.sweep:
            config = TrainConfig(model=shaped, precision=precision, batch=count, micro_batch=count)
            turns = Turns(options.device)
            try:
                step = Step(model, config, batch(shaped, count).to(torch.device(options.device)))
                step()
                turns.run({name: step}, options.rounds)
            except torch.OutOfMemoryError:
                print(f"| {name} | {count} | does not fit | – | – |", flush=True)
                break
            finally:
                model.zero_grad(set_to_none=True)
                step = None
                gc.collect()
                torch.cuda.empty_cache()
            seconds = statistics.median(turns.seconds[name])
            used = f"{flops.step(shaped, count, count) / seconds / best:.1%}" if best else "–"
            print(
                f"| {name} | {count} | {count / seconds:.3g} | {turns.bytes[name] / 1e9:.2f} GB | {used} |", flush=True
            )
            count *= 2
        del model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="vit_b", help="a preset of us43d.model.network")
    parser.add_argument("--size", type=int, help="side of the images, if not the preset's")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), help="bf16 on a GPU, else float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--compile", action="store_true", help="compile our encoder, as `compile` in a run's config does"
    )
    parser.add_argument("--checkpointing", action="store_true", help="ours with activation checkpointing")
    parser.add_argument(
        "--sweep", type=int, metavar="N", help="instead of one batch, all powers of two up to N that fit"
    )
    parser.add_argument("--without", nargs="*", choices=("sdpa", "eager"), default=[])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    precision = options.precision or ("float32" if options.device == "cpu" else "bf16")

    shaped = shape(options.model, options.size)
    others = [name for name in (SDPA, EAGER) if name.split()[-1] not in options.without]
    if options.sweep:
        sweep(options, shaped, precision, others)
        return
    config = TrainConfig(model=shaped, precision=precision, batch=options.batch, micro_batch=options.batch)
    data = batch(shaped, options.batch).to(torch.device(options.device))
    named = models(shaped, options.device, others)
    named[OURS].image_encoder.checkpointing = options.checkpointing
    if options.compile:
        named[OURS].image_encoder.compile()
    ways = {name: Step(model, config, data) for name, model in named.items()}
    for step in ways.values():  # makes the optimizer's state, which is kept and is the same for all
        step()
    gc.collect()
    turns = Turns(options.device)
    turns.run(ways, options.rounds)

    side = shaped.image_size
    how = [word for word in ("compile", "checkpointing") if getattr(options, word)]
    print(f"{place(options.device)}; {options.model} at {side}, batch {options.batch}, {precision}", end="")
    print(f"{''.join(', ours with ' + word for word in how)}; medians of {options.rounds} rounds in turn.\n")
    operations = flops.step(shaped, options.batch, options.batch)
    best = peak(options.device, precision)
    print(turns.table(options.batch, operations, best))
    if best and options.model == "vit_b" and side == 1024 and SDPA in others:
        seconds = sorted(turns.seconds[OURS])[options.rounds // 2]
        print(
            f"\nTimes as fast as transformers sdpa: {turns.ratio(SDPA):.2f} (aim: 3). Its memory to ours: "
            f"{turns.bytes[SDPA] / turns.bytes[OURS]:.2f} (aim: 2). "
            f"MFU: {operations / seconds / best:.0%} (aim: 45 %). "
            f"960,000 images: {960_000 / options.batch * seconds / 3600:.1f} h (aim: 3 h on one H100)."
        )
    else:
        print("\nThe aims are for ViT-B at 1024 in bf16 on an H100 or H200: not measured in this run.")


if __name__ == "__main__":
    main()
