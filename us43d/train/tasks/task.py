"""Interface between the training loop and a task: model, draws, objective, validation, saving."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset

from us43d.train.journal import Record

__all__ = ["Task"]


class Task(Protocol):
    """A task on a corpus.

    Attributes:
        parts: Names of the sums that `objective` returns, the loss first.
        images: Rows of `images` trained on.
        annotations: Rows of `annotations` trained on.
        draws: Endless sequence of draws, each a function of its place only.
        held_out: Items to validate, always the same.
    """

    parts: tuple[str, ...]
    images: NDArray[np.int64]
    annotations: NDArray[np.int64]
    draws: Dataset[Any]
    held_out: Sequence[Any]

    def collate(self, draws: Sequence[Any]) -> Any:
        """Combine draws into a batch with `.to(device)`; return the first error if there is one."""

    def count(self, batch: Any) -> int:
        """Count the items over which the loss of a batch is summed."""

    def initial(self, init: Path | None) -> nn.Module:
        """Create the initial model of a run. Raises WeightsError if the weights do not fit."""

    def encoder(self, model: nn.Module) -> nn.Module:
        """Return the module to compile, and to checkpoint with `checkpointing`."""

    def rates(self, model: nn.Module) -> list[tuple[float, list[nn.Parameter]]]:
        """List (factor of the learning rate, its parameters)."""

    def objective(self, model: nn.Module) -> nn.Module:
        """Return a module: batch → (sum of the loss over the items, sums of `parts` without gradient)."""

    def validate(self, model: nn.Module, items: Sequence[Any], device: torch.device) -> NDArray[np.float64]:
        """Evaluate items by a model in evaluation mode; return rows of numbers for `summary`."""

    def summary(self, table: NDArray[np.float64]) -> Record:
        """Summarize all rows for the log."""

    def score(self, summary: Record) -> float | None:
        """Return the number by which checkpoints are compared, larger is better; None if nothing was measured."""

    def shown(self, model: nn.Module, items: Sequence[Any], device: torch.device) -> list[NDArray[np.uint8]]:
        """Draw truth and prediction of some of `held_out`, as `validate`; (h, w, 3) uint8 RGB each."""

    def save(self, model: nn.Module, place: Path, meta: Mapping[str, Any]) -> None:
        """Write the weights for use into the folder `place`. Raises StorageError."""

    def quality(self, validation: Mapping[str, Any]) -> str:
        """Describe a validation record in a sentence for the model card."""
