"""Save checkpoints for exact resuming. Each is a folder written under a temporary name, then renamed.

    checkpoints/step_000500/
      model.safetensors  config.json     weights for use (the average, if there is one): `us43d predict --weights`
      state.safetensors  state.json      state for resuming: parameters, average, optimizer; step, config, log window

Random generators need no saved state: every step is seeded from the run's seed and its number, and every draw from its
place in the sequence.

Training waits only for a copy of the state in host memory; a thread writes it to disk.
"""

import copy
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from us43d import atomic
from us43d.errors import ConfigError, StorageError, TrainError, command
from us43d.model import weights
from us43d.model.network import UltraSam

__all__ = ["BEST", "VERSION", "Writer", "finished", "latest", "load", "plain", "tidy"]

#: Version of state.json and state.safetensors. 1 (not recorded in state.json): the optimizer had one group, in which
#: norms, biases, embeddings and position tables decayed like all other weights.
VERSION = 2
#: Folder, in a run's folder, of the weights with the best validation score.
BEST = "best"

_STATE = "state.json"
#: Keys of state.json that resuming needs.
_KEYS = frozenset({"step", "config", "corpus", "window"})
_NAME = re.compile(r"step_(\d{1,12})")
_TENSORS = "state.safetensors"


class Writer:
    """Write checkpoints in a thread, one at a time, while training continues.

    Args:
        folder: Folder of the checkpoints.
        best: Folder of the best weights.
        keep: Number of newest checkpoints to keep, in addition to the best.
        model: A model with the architecture of those to save; copied once.
    """

    def __init__(self, folder: Path, best: Path, keep: int, model: nn.Module) -> None:
        self.folder, self.best, self.keep = folder, best, keep
        self._weights = copy.deepcopy(model).requires_grad_(False).to("cpu")
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[Path] | None = None

    def save(
        self,
        step: int,
        model: nn.Module,
        average: nn.Module | None,
        optimizer: torch.optim.Optimizer,
        state: dict[str, Any],
        write: Callable[[nn.Module, Path], None],
        card: Callable[[Path], None],
        best: int | None,
    ) -> None:
        """Copy the state to host memory and start writing folder/step_<step>; older checkpoints are then removed.

        Args:
            step: Steps done.
            model: The model in training.
            average: Average of its weights; None for a run without one.
            optimizer: Its state is saved as well.
            state: JSON record returned by `load`.
            write: Writes the model for use into a folder. Called in the thread.
            card: Writes the files that accompany the best weights into a folder. Called in the thread.
            best: Step of the best checkpoint, which is kept. If it is this step, its weights become the best ones.

        Raises:
            StorageError: The previous checkpoint could not be written. Earlier ones are intact.
        """
        self.wait()
        self._weights.load_state_dict((model if average is None else average).state_dict())
        tensors = _copied("model", model.state_dict())
        if average is not None:
            tensors |= _copied("average", average.state_dict())
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= _copied(f"optimizer.{number}", values)
        content = {"step": step, "version": VERSION} | state
        self._pending = self._thread.submit(self._write, step, tensors, content, write, card, best)

    def check(self) -> None:
        """Raise the error of a checkpoint that could not be written, without waiting."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait until the checkpoint is on disk. Raises StorageError."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Wait for the thread and end it. Only `wait` raises errors of the thread."""
        self._thread.shutdown()

    def _write(
        self,
        step: int,
        tensors: dict[str, Tensor],
        state: dict[str, Any],
        write: Callable[[nn.Module, Path], None],
        card: Callable[[Path], None],
        best: int | None,
    ) -> Path:
        folder = self.folder
        final = folder / f"step_{step:06}"
        temporary = folder / f".{final.name}.tmp"
        kept = "The checkpoints before it are intact."
        try:
            with atomic.storage_errors(final, kept):
                folder.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()
                write(self._weights, temporary)
                weights.write_tensors(tensors, temporary / _TENSORS)
                for file in temporary.iterdir():
                    atomic.open_to_others(file)
                digests = {file.name: _digest(file) for file in sorted(temporary.iterdir())}
                atomic.write_bytes(temporary / _STATE, json.dumps({"files": digests} | state, indent=1).encode())
                for file in temporary.iterdir():
                    _sync(file)
                if final.exists():
                    _remove(final)
                temporary.rename(final)
                _sync(folder)
        except StorageError as error:  # of `write`, too, which knows nothing of checkpoints
            shutil.rmtree(temporary, ignore_errors=True)
            raise StorageError(error.what, disk=kept, next=error.next) from error
        if best == step:
            _name_best(final, self.best, card)
        with atomic.storage_errors(final, "The checkpoints are intact."):
            for old in finished(folder)[: -self.keep]:
                if best is None or old.name != f"step_{best:06}":
                    _remove(old)
        return final


def _name_best(checkpoint: Path, place: Path, card: Callable[[Path], None]) -> None:
    """Copy the weights of a checkpoint to `place`, in one rename. card: writes accompanying files into a folder.

    Raises:
        StorageError: The disk is full or read-only; the checkpoint is intact.
    """
    temporary = place.with_name(f".{place.name}.tmp")
    with atomic.storage_errors(place, "The checkpoints are intact."):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name in (weights.TENSORS, weights.CONFIG):
            atomic.link_or_copy(checkpoint / name, temporary / name)
        card(temporary)
        atomic.replace_dir(temporary, place)


def latest(folder: Path) -> Path | None:
    """Return the newest checkpoint; None without a checkpoint."""
    return next(reversed(finished(folder)), None)


def load(
    path: Path,
    model: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    agree: Callable[[dict[str, Any]], None] = lambda state: None,
) -> dict[str, Any]:
    """Restore model, average and optimizer from a checkpoint.

    Args:
        path: Folder of the checkpoint.
        model: Changed in place.
        average: Average of the weights, changed in place; None for a run without one.
        optimizer: Changed in place.
        agree: Called with the JSON record before tensors are read; raises an error for that of another run.

    Returns:
        The JSON record passed to `Writer.save`.

    Raises:
        TrainError: The checkpoint cannot be read.
        ConfigError: Another version of us43d wrote the checkpoint.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = json.loads((path / _STATE).read_text("utf-8"))
        if not isinstance(state, dict) or not state.keys() >= _KEYS or not isinstance(state["step"], int):
            raise ValueError(f"{_STATE} is not a valid state of a checkpoint")
        if state.get("version") != VERSION:
            raise ConfigError(
                f"{path} was written by another version of us43d, whose optimizer applied weight decay to other "
                "parameters; it cannot be resumed, but its weights can be trained further.",
                next=f"{command('train', '--init', path, '--run', 'NEW_NAME')}   (with the settings of the run)",
            )
        agree(state)
        for name, digest in state.get("files", {}).items():
            if _digest(path / name) != digest:
                raise ValueError(f"{name} was changed after it was saved")
        tensors = load_file(path / _TENSORS)
        try:
            model.load_state_dict(_under("model.", tensors))
        except RuntimeError as error:
            raise ConfigError(
                f"{path} was written by another version of us43d, whose network has other tensors; it "
                "cannot be resumed.",
                next=f"{command('train', '--run', 'NEW_NAME')}   (with the settings of the run)",
            ) from error
        if average is not None:
            average.load_state_dict(_under("average.", tensors))
        moments = optimizer.state_dict()
        for name, value in _under("optimizer.", tensors).items():
            number, _, what = name.partition(".")
            moments["state"].setdefault(int(number), {})[what] = value
        optimizer.load_state_dict(moments)
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError, SafetensorError,
    ) as error:  # fmt: skip
        raise TrainError(
            f"The checkpoint {path} cannot be read: {error}.", next=f"rm -r {shlex.quote(str(path))}"
        ) from error
    return state


def tidy(folder: Path) -> None:
    """Remove incomplete files of a killed process."""
    for path in folder.glob(".step_*"):
        shutil.rmtree(path, ignore_errors=True)


def plain(model: UltraSam) -> UltraSam:
    """Merge low-rank updates into their weights; a model without updates is returned as it is."""
    adapted = {name: module for name, module in model.named_modules() if parametrize.is_parametrized(module)}
    if not adapted:
        return model
    state = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in name}
    state |= {f"{name}.weight": module.weight.detach() for name, module in adapted.items()}
    merged = UltraSam(model.config)
    weights.fit(merged, state)
    return merged


def finished(folder: Path) -> list[Path]:
    """List the complete checkpoints of a folder, by step."""
    numbers = {path: int(match[1]) for path in folder.glob("step_*") if (match := _NAME.fullmatch(path.name))}
    return sorted((path for path in numbers if path.is_dir()), key=lambda path: numbers[path])


def _digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    """Rename a checkpoint before removing it, so that a partly removed one is never read."""
    hidden = path.with_name(f".{path.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _copied(prefix: str, state: dict[str, Any]) -> dict[str, Tensor]:
    """Copy tensors to host memory; training changes the originals while the copies are written."""
    tensors = {name: value.detach() for name, value in state.items() if isinstance(value, Tensor)}
    return {f"{prefix}.{name}": value.to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
