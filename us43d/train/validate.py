"""Validation during training on held-out groups: Dice of exact box and point prompts, next to the ellipse baseline.

Prompts, images and post-processing are fixed, so that steps and runs can be compared.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from us43d import report
from us43d.errors import TrainError
from us43d.evaluate.metrics import overlap
from us43d.harmonize.corpus import Corpus
from us43d.model import prompts
from us43d.model.geometry import box_prompts, point_prompts
from us43d.model.network import UltraSam
from us43d.model.predictor import Predictor
from us43d.train import order
from us43d.train.config import TrainConfig
from us43d.train.precision import autocast

__all__ = ["COLUMNS", "held_out", "shown", "summary", "validate"]

#: Columns of `validate`: row of the source, of the group, and Dice of box prompt, point prompt and ellipse baseline.
COLUMNS = ("source", "group", "box", "point", "ellipse")


def held_out(corpus: Corpus, config: TrainConfig) -> list[tuple[int, list[int]]]:
    """Select at most `validation_images` images of the validation split, by their ids.

    Returns:
        (row of `images`, rows of `annotations`) of each image; empty if the split is empty or is trained on.
    """
    if "val" in config.splits or not config.validation_images:
        return []
    try:
        rows = order.eligible(corpus, config, ("val",))
    except TrainError:
        return []
    of = corpus.annotations["image"][rows]
    images = corpus.sample(np.unique(of).tolist(), config.validation_images)
    return [(image, rows[of == image][: config.instances].tolist()) for image in images]


@torch.inference_mode()
def validate(
    model: UltraSam, corpus: Corpus, images: list[tuple[int, list[int]]], device: torch.device, precision: str
) -> NDArray[np.float64]:
    """Evaluate a model with one refinement, on masks at the size of the image.

    Args:
        model: The model.
        corpus: The corpus.
        images: Result of `held_out`.
        device: Device of the model.
        precision: Of `TrainConfig`.

    Returns:
        (N, 5) float64: COLUMNS for every instance.
    """
    predictor = Predictor(model, device=str(device))
    table = []
    for image, rows in images:
        masks = [corpus.mask(row) for row in rows]
        boxes = [prompts.box_of(mask) for mask in masks]
        points = [prompts.point(mask, prompts.fixed(str(corpus.annotations["id"][row]))) for mask, row in
                  zip(masks, rows, strict=True)]  # fmt: skip
        with autocast(device, precision):
            encoded = predictor.encode(corpus.picture(image))
            by = [
                predictor.segment(encoded, xy.to(device), labels.to(device))
                for xy, labels in (
                    box_prompts(torch.tensor(np.stack(boxes)), encoded.scale),
                    point_prompts(torch.tensor(points), encoded.scale),
                )
            ]
        place = corpus.images["source"][image], corpus.images["group"][image]
        for mask, box, *predicted in zip(masks, boxes, *by, strict=True):
            guesses = [prediction.mask for prediction in predicted] + [prompts.ellipse(box, mask.shape)]
            table.append([*place, *(overlap(mask, guess)[0] for guess in guesses)])
    return np.array(table, np.float64).reshape(-1, len(COLUMNS))


@torch.inference_mode()
def shown(
    model: UltraSam, corpus: Corpus, images: list[tuple[int, list[int]]], device: torch.device, precision: str
) -> list[NDArray[np.uint8]]:
    """Draw outlines of truth and of the predictions for exact boxes on images; (h, w, 3) uint8 RGB each."""
    predictor = Predictor(model, device=str(device))
    drawings = []
    for image, rows in images:
        pixels, masks = corpus.picture(image), [corpus.mask(row) for row in rows]
        boxes = torch.tensor(np.stack([prompts.box_of(mask) for mask in masks]))
        with autocast(device, precision):
            encoded = predictor.encode(pixels)
            xy, labels = box_prompts(boxes, encoded.scale)
            predicted = predictor.segment(encoded, xy.to(device), labels.to(device))
        outlines = {"truth": np.any(masks, axis=0), "found": np.any([one.mask for one in predicted], axis=0)}
        drawings.append(report.overlay(pixels, outlines))
    return drawings


def summary(table: NDArray[np.float64], corpus: Corpus) -> dict[str, Any]:
    """Average the table of `validate` over all instances, per source, and over the sources (macro)."""

    def means(rows: NDArray[np.float64]) -> dict[str, Any]:
        dice = {f"{name}_dice": round(float(rows[:, COLUMNS.index(name)].mean()), 5) for name in COLUMNS[2:]}
        return dice | {"instances": len(rows), "groups": len(np.unique(rows[:, 1]))}

    sources = {corpus.sources[int(n)]["name"]: means(table[table[:, 0] == n]) for n in np.unique(table[:, 0])}
    ways = [f"{name}_dice" for name in COLUMNS[2:]]
    macro = {way: round(sum(values[way] for values in sources.values()) / len(sources), 5) for way in ways}
    return means(table) | {"macro": macro, "sources": sources}
