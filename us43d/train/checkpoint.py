"""Saving a run so that it goes on exactly, and never half-written: a folder made beside its place, then renamed.

    checkpoints/step_000500/
      model.safetensors  config.json     the weights to use (the average where there is one): `us43d predict --weights`
      state.safetensors  state.json      what resuming needs: parameters, average, optimizer; step, config, log window

Chance has no state of its own: every step seeds itself from the run's seed, and a draw from its place in the sequence,
so that the step's number is the state of the sampler and of all generators.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from us43d import atomic
from us43d.errors import TrainError
from us43d.model import weights
from us43d.model.network import UltraSam

__all__ = ["finished", "latest", "load", "plain", "save", "tidy"]

_STATE = "state.json"
#: What state.json must have for a run to go on.
_KEYS = frozenset({"step", "config", "corpus", "window"})
_NAME = re.compile(r"step_(\d{1,12})")
_TENSORS = "state.safetensors"


def save(
    folder: Path,
    step: int,
    model: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int,
    write: Callable[[Path], None],
) -> Path:
    """Write folder/step_<step> and remove all but the newest `keep`. state: JSON kept for `load`. write: writes the
    weights to use into a folder. Raises StorageError; what was there before stays."""
    from safetensors.torch import save_file

    final = folder / f"step_{step:06}"
    temporary = folder / f".{final.name}.tmp"
    with atomic.storage_errors(final, "The checkpoints before it are intact."):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        write(temporary)
        tensors = _named("model", model.state_dict())
        if average is not None:
            tensors |= _named("average", average.state_dict())
        for number, held in optimizer.state_dict()["state"].items():
            tensors |= _named(f"optimizer.{number}", held)
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary / _TENSORS)
        for file in temporary.iterdir():
            atomic.open_to_others(file)
        digests = {file.name: _digest(file) for file in sorted(temporary.iterdir())}
        atomic.write_bytes(temporary / _STATE, json.dumps({"step": step, "files": digests} | state, indent=1).encode())
        for file in temporary.iterdir():
            _sync(file)
        if final.exists():
            _remove(final)
        temporary.rename(final)
        _sync(folder)
        for old in finished(folder)[:-keep]:
            _remove(old)
    return final


def latest(folder: Path) -> Path | None:
    """The newest checkpoint, None if there is none."""
    return next(reversed(finished(folder)), None)


def load(path: Path, model: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Bring all three to the state of a checkpoint; returns its JSON. Raises TrainError if it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = json.loads((path / _STATE).read_text("utf-8"))
        if not isinstance(state, dict) or not state.keys() >= _KEYS or not isinstance(state["step"], int):
            raise ValueError(f"{_STATE} is not that of a checkpoint")
        for name, digest in state.get("files", {}).items():
            if _digest(path / name) != digest:
                raise ValueError(f"{name} was changed since it was saved")
        tensors = load_file(path / _TENSORS)
        model.load_state_dict(_under("model.", tensors))
        if average is not None:
            average.load_state_dict(_under("average.", tensors))
        held = optimizer.state_dict()
        for name, value in _under("optimizer.", tensors).items():
            number, _, what = name.partition(".")
            held["state"].setdefault(int(number), {})[what] = value
        optimizer.load_state_dict(held)
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError, SafetensorError,
    ) as error:  # fmt: skip
        raise TrainError(f"The checkpoint {path} cannot be read: {error}.", next=f"rm -r {path}") from error
    return state


def tidy(folder: Path) -> None:
    """Remove what a killed process left half-written or half-removed."""
    for path in folder.glob(".step_*"):
        shutil.rmtree(path, ignore_errors=True)


def plain(model: UltraSam) -> UltraSam:
    """The model with low-rank updates merged into the weights they belong to; itself where there are none."""
    adapted = {name: each for name, each in model.named_modules() if parametrize.is_parametrized(each)}
    if not adapted:
        return model
    state = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in name}
    state |= {f"{name}.weight": each.weight.detach() for name, each in adapted.items()}
    merged = UltraSam(model.config)
    weights.fit(merged, state)
    return merged


def finished(folder: Path) -> list[Path]:
    """The checkpoints of a folder in the order of their steps; what has another name is none."""
    numbers = {path: int(match[1]) for path in folder.glob("step_*") if (match := _NAME.fullmatch(path.name))}
    return sorted((path for path in numbers if path.is_dir()), key=lambda path: numbers[path])


def _digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    """First from its name, so that no half-removed checkpoint is ever taken for one."""
    hidden = path.with_name(f".{path.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _named(prefix: str, state: dict[str, Any]) -> dict[str, Tensor]:
    # Tensors that share memory are refused by safetensors; clones are cheap beside the disk.
    return {f"{prefix}.{name}": value.clone() for name, value in state.items() if isinstance(value, Tensor)}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
