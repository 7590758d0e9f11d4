"""Promptable segmentation: masks for boxes, points and names of structures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from us43d.errors import WeightsError
from us43d.harmonize.corpus import Corpus
from us43d.model import lora, weights
from us43d.model.network import UltraSam
from us43d.train import checkpoint, data, losses
from us43d.train import validate as validation
from us43d.train.config import TrainConfig
from us43d.train.journal import Record
from us43d.train.tasks import images

__all__ = ["Promptable", "initial"]


class Promptable:
    """The task `promptable`; see `Task`."""

    parts = losses.PARTS

    def __init__(self, config: TrainConfig, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        self.draws = data.Draws(corpus, config)
        self.annotations = self.draws.annotations
        self.images = np.unique(corpus.annotations["image"][self.annotations]).astype(np.int64)
        self.held_out = validation.held_out(corpus, config)

    def collate(self, draws: Sequence[Any]) -> Any:
        return data.collate(draws)

    def count(self, batch: data.Batch) -> int:
        return len(batch.labels)

    def initial(self, init: Path | None) -> UltraSam:
        return initial(self.config, init)

    def encoder(self, model: UltraSam) -> nn.Module:
        return model.image_encoder

    def rates(self, model: UltraSam) -> list[tuple[float, list[nn.Parameter]]]:
        return [(1.0, [parameter for parameter in model.parameters() if parameter.requires_grad])]

    def objective(self, model: UltraSam) -> nn.Module:
        return losses.Objective(model, self.config)

    def validate(self, model: UltraSam, items: list[Any], device: torch.device) -> NDArray[np.float64]:
        return validation.validate(model, self.corpus, items, device, self.config.precision)

    def summary(self, table: NDArray[np.float64]) -> Record:
        return validation.summary(table, self.corpus)

    def score(self, summary: Record) -> float | None:
        """Average box and point Dice, macro over the sources."""
        macro = summary["macro"]
        return (macro["box_dice"] + macro["point_dice"]) / 2

    def shown(self, model: UltraSam, items: list[Any], device: torch.device) -> list[NDArray[np.uint8]]:
        return validation.shown(model, self.corpus, items, device, self.config.precision)

    def save(self, model: UltraSam, place: Path, meta: Mapping[str, Any]) -> None:
        weights.save(checkpoint.plain(model), place, meta)

    def quality(self, validation: Mapping[str, Any]) -> str:
        return (
            f"Mean Dice of {validation['instances']:,} instances of {validation['groups']:,} groups of the validation "
            f"split at step {validation['step']:,}: exact box {validation['box_dice']:.3f}, one point "
            f"{validation['point_dice']:.3f}; ellipse baseline {validation['ellipse_dice']:.3f}."
        )


def initial(config: TrainConfig, init: Path | None) -> UltraSam:
    """Create the initial model of a run. Raises WeightsError if the weights do not fit the configuration."""
    model = images.starting(config, init)
    modules = dict(model.named_modules())
    for name in config.freeze:
        module = modules.get(name)
        if module is None:
            raise WeightsError(f"Cannot freeze {name}: the model does not have this module.")
        module.requires_grad_(False)
    if config.lora:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            lora.adapt(model, config.lora)
    return model
