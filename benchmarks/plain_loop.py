"""Training steps per second of us43d beside a plain PyTorch loop with the same network, draws and loss.

    python benchmarks/plain_loop.py CORPUS IMAGES [--preset small] [--steps 12] [--rounds 3]

The plain loop is what one writes first: draw, forward, backward, clip, step, average; no log, validation, checkpoint,
signals, scaler or resumable state. Both take turns; the ratio is the median over the rounds. us43d saves two
checkpoints in each round. Other work on the machine disturbs steps per second; it disturbs processor seconds less.
"""

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import torch

from us43d.harmonize.corpus import Corpus
from us43d.model.network import UltraSam
from us43d.train import data, losses
from us43d.train.config import PRESETS, TrainConfig
from us43d.train.loop import rate, train

#: Steps that are not timed.
WARM = 2


def now() -> tuple[float, float]:
    """Seconds on the clock, and processor seconds of all threads."""
    return time.perf_counter(), time.process_time()


def per_step(began: tuple[float, float], ended: tuple[float, float], config: TrainConfig) -> tuple[float, float]:
    """Seconds and processor seconds of one step."""
    wall, processor = ((b - a) / (config.steps - WARM) for a, b in zip(began, ended, strict=True))
    return wall, processor


def plain(config: TrainConfig, corpus: Corpus) -> tuple[float, float]:
    """`per_step` of the plain loop."""
    model = UltraSam.random(config.model, config.seed).train()
    average = copy.deepcopy(model).requires_grad_(False)
    objective = losses.Objective(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    loader = torch.utils.data.DataLoader(data.Draws(corpus, config), config.batch, collate_fn=data.collate)
    began = now()
    for step, batch in zip(range(config.steps), loader, strict=False):
        if step == WARM:
            began = now()
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate(config, step)
        loss, _ = objective(batch)
        (loss / len(batch.labels)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for kept, value in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(value, 1 - config.ema)
    return per_step(began, now(), config)


def ours(config: TrainConfig, corpus: Corpus, folder: Path) -> tuple[float, float]:
    """`per_step` of us43d, the log and the copies for checkpoints included."""
    at: dict[int, tuple[float, float]] = {}
    train(config, corpus, folder, progress=lambda done, total: at.setdefault(done, now()))
    return per_step(at[WARM], at[config.steps], config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = Corpus.open(options.corpus, options.images)
    preset = PRESETS[options.preset]
    changes = {
        "steps": options.steps, "warm_up": 1, "validation_images": 0, "workers": 0, "log_every": 4,
        "save_every": max(1, options.steps // 2), "micro_batch": preset.batch,
    }  # fmt: skip
    config = TrainConfig.model_validate(preset.model_dump() | changes)
    ratios: list[list[float]] = []
    print("| round | plain loop, steps/s | us43d, steps/s | ratio | ratio by processor time |\n|--:|--:|--:|--:|--:|")
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            both = [(0.0, 0.0), (0.0, 0.0)]
            for turn in ((0, 1), (1, 0))[number % 2]:
                both[turn] = ours(config, corpus, Path(folder, "run")) if turn else plain(config, corpus)
        ratios.append([a / b for a, b in zip(*both, strict=True)])
        wall, processor = ratios[-1]
        print(
            f"| {number + 1} | {1 / both[0][0]:.3f} | {1 / both[1][0]:.3f} | {wall:.3f} | {processor:.3f} |", flush=True
        )
    load = Path("/proc/loadavg").read_text().split()[0]
    wall, processor = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"\nmedian ratio {wall:.3f}, by processor time {processor:.3f}; ", end="")
    print(f"{options.preset}, one thread, load average {load}")


if __name__ == "__main__":
    main()
