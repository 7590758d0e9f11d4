"""Train the second look alone, from exact boxes, with several normalisations. Prints a Markdown table of Dice.

    python benchmarks/look_norm.py FOLDER [--steps 600] [--norms instance groups]

FOLDER: train.json, val.json and images/, as for small_model.py. Every row has the same draws, loss and number of steps,
and random numbers to start from. instance: instance normalisation and leaky ReLU, as in us43d.model.look; groups: eight
groups of channels and ReLU; instance-relu and groups-leaky: the other two pairs.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from small_model import corpus
from torch import nn

from us43d.harmonize.corpus import Corpus
from us43d.model.look import SecondLook
from us43d.model.network import UltraSam
from us43d.train import data, losses, validate
from us43d.train.config import PRESETS, read

#: Groups of channels (None: one per channel), and activation.
NORMS = {
    "instance": (None, nn.LeakyReLU(0.1, True)), "groups": (8, nn.ReLU(True)),
    "instance-relu": (None, nn.ReLU(True)), "groups-leaky": (8, nn.LeakyReLU(0.1, True)),
}  # fmt: skip
CONFIG = read(
    PRESETS["small-look"], box_share=1.0, clicks=0, extra_points=0.0, repeats=1, instances=1, batch=8, micro_batch=8,
    zoom=0.0, quality=0.0, learning_rate=2e-3, validation_images=200,
)  # fmt: skip


def changed(second: SecondLook, norm: str) -> SecondLook:
    """Exchange normalisations and activations in place."""
    groups, activation = NORMS[norm]
    for block in second.modules():
        for name, part in list(block.named_children()):
            if isinstance(part, nn.GroupNorm):
                setattr(block, name, nn.GroupNorm(groups or part.num_channels, part.num_channels))
            elif isinstance(part, nn.LeakyReLU):
                setattr(block, name, activation)
    return second


def learnt(opened: Corpus, norm: str, steps: int) -> tuple[dict[str, float], float]:
    """Train; returns box Dice per source on the validation patients, and processor seconds per step."""
    model = UltraSam.random(CONFIG.model, 1)
    assert model.second_look is not None
    second = changed(model.second_look, norm).train()
    optimizer = torch.optim.AdamW(second.parameters(), CONFIG.learning_rate, weight_decay=CONFIG.weight_decay)
    draws, began = data.Draws(opened, CONFIG), time.process_time()
    for step in range(steps):
        batch = data.collate([draws[step * CONFIG.batch + n] for n in range(CONFIG.batch)])  # type: ignore[misc]
        for group in optimizer.param_groups:
            group["lr"] = CONFIG.learning_rate * min(1, (step + 1) / 50) * (1 + math.cos(math.pi * step / steps)) / 2
        crops = data.normalise_crops(batch.crops)
        first = torch.zeros(len(crops), 4, 4)  # hidden, as a box is given
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = second(crops, batch.windows, batch.points, batch.labels, first)
        target = batch.crop_targets.float() / 255
        loss = (
            F.binary_cross_entropy_with_logits(logits.float(), target) + losses.dice_loss(logits.float(), target).mean()
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(second.parameters(), CONFIG.clip)
        optimizer.step()
    seconds = (time.process_time() - began) / steps
    second.others = second.boxes  # whose mean prediction takes
    table = validate.validate(model.eval(), opened, validate.held_out(opened, CONFIG), torch.device("cpu"), "float32")
    sources = validate.summary(table, opened)["sources"]
    return {name: values["box_dice"] for name, values in sources.items()}, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=["instance", "groups"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        opened = corpus(options.folder, Path(folder, "corpus"))
        header = True
        for norm in options.norms:
            dice, seconds = learnt(opened, norm, options.steps)
            if header:
                print(f"| normalisation | {' | '.join(dice)} | s a step |\n|---|{'--:|' * (len(dice) + 1)}")
            header = False
            print(f"| {norm} | {' | '.join(f'{value:.4f}' for value in dice.values())} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
