"""What the loop asks of a task: the model, what is drawn, what is minimised, how it is validated and kept."""

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
    """One task on one corpus.

    parts: names of the sums `objective` reports, the loss first. images, annotations: rows of the corpus trained on.
    draws: the endless sequence, a function of the place alone. held_out: what is validated, always the same.
    """

    parts: tuple[str, ...]
    images: NDArray[np.int64]
    annotations: NDArray[np.int64]
    draws: Dataset[Any]
    held_out: Sequence[Any]

    def collate(self, draws: Sequence[Any]) -> Any:
        """Draws → a batch with `.to(device)`; the first error if there is one."""

    def count(self, batch: Any) -> int:
        """How many items the loss of a batch is a sum over."""

    def initial(self, init: Path | None) -> nn.Module:
        """The model a run begins with. Raises WeightsError if the weights do not fit."""

    def encoder(self, model: nn.Module) -> nn.Module:
        """The part that is compiled, and checkpointed where `checkpointing` is asked for."""

    def rates(self, model: nn.Module) -> list[tuple[float, list[nn.Parameter]]]:
        """(factor of the learning rate, parameters trained at it)."""

    def objective(self, model: nn.Module) -> nn.Module:
        """A module: batch → (sum of the loss over the batch's items, sums of `parts` without gradient)."""

    def validate(self, model: nn.Module, items: Sequence[Any], device: torch.device) -> NDArray[np.float64]:
        """A row of numbers for everything validated in `items`."""

    def summary(self, table: NDArray[np.float64]) -> Record:
        """What the log says of all rows."""

    def score(self, summary: Record) -> float | None:
        """The number of a summary by which checkpoints are compared, larger is better; None if nothing was measured."""

    def shown(self, model: nn.Module, items: Sequence[Any], device: torch.device) -> list[NDArray[np.uint8]]:
        """Images (h, w, 3) RGB of some of `held_out`, with truth and prediction."""

    def save(self, model: nn.Module, place: Path, meta: Mapping[str, Any]) -> None:
        """Write the weights to use into the folder `place`. Raises StorageError."""

    def quality(self, validation: Mapping[str, Any]) -> str:
        """A sentence for the card on a record of the validation."""
