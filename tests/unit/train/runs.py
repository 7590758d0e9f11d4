"""Runs of the tests of training: their configurations, weights and losses, and how they are stopped."""

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from us43d.train import data, loop, losses
from us43d.train.config import TrainConfig


def configured(base: TrainConfig, **changes: object) -> TrainConfig:
    return TrainConfig.model_validate(base.model_dump() | changes)


def tensors(result: loop.Result) -> dict[str, torch.Tensor]:
    return load_file(result.weights / "model.safetensors")


def equal(one: loop.Result, two: loop.Result) -> bool:
    a, b = tensors(one), tensors(two)
    return all(torch.equal(a[name], b[name]) for name in a)


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference of two sets of weights. Biases of keys are left out: softmax does not see them, so their
    gradient is rounding alone, and Adam makes steps of full size of it."""
    seen = [name for name in a if not name.endswith(("k_proj.bias", "qkv.bias"))]
    return max(float((a[name] - b[name]).abs().max()) for name in seen)


def curve_of(result: loop.Result) -> list[tuple]:
    return [(each["step"], *(each[part] for part in losses.PARTS)) for each in result.curve]


def stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """SIGTERM reaches this process during a step."""
    original = loop._Run._learn

    def signalled(self: loop._Run, micro: list[data.Batch], prompts: int) -> None:
        original(self, micro, prompts)
        if self.step + 1 == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(loop._Run, "_learn", signalled)


SCRIPT = """
import sys
from pathlib import Path
from us43d.harmonize.corpus import Corpus
from us43d.train.config import TrainConfig
from us43d.train.loop import train

settings, corpus, home, run = map(Path, sys.argv[1:5])
result = train(
    TrainConfig.model_validate_json(settings.read_text()), Corpus.open(corpus, home), run, resume=len(sys.argv) > 5
)
print("stopped" if result.stopped else "finished", result.step)
"""


def environment() -> dict[str, str]:
    root = str(Path(loop.__file__).parents[2])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
