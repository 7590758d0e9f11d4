"""Semantic segmentation without prompts: the structure of every pixel.

network "encoder": the promptable model's image encoder and two upsampling layers. Other networks: those of
`us43d.train.tasks.unet`.
If structures overlap, the later annotation of the file is used, as in a label map.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from us43d import report
from us43d.errors import UsageError
from us43d.evaluate.metrics import overlap
from us43d.harmonize.corpus import SPECK, Corpus
from us43d.model.layers import LayerNorm2d
from us43d.model.network import ModelConfig, UltraSam
from us43d.train.config import TrainConfig
from us43d.train.data import normalise
from us43d.train.journal import Record
from us43d.train.precision import autocast
from us43d.train.tasks import images, unet

__all__ = ["Semantic", "SemanticNetwork", "chances", "load", "segment", "truth"]

#: Target of pixels outside of the image.
OUTSIDE = 255


class Drawn(NamedTuple):
    """A draw or a batch of B. images: (B, S, S, 3) uint8. inner: (B, 2). targets: (B, S, S) uint8, 0 background."""

    images: Tensor
    inner: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Drawn":
        return Drawn(*(tensor.to(device, non_blocking=True) for tensor in self))


class SemanticNetwork(nn.Module):
    """(B, 3, S, S) normalised RGB → (B, K + 1, S, S) logits, background first."""

    def __init__(self, config: ModelConfig, kind: str, classes: Sequence[str], base: UltraSam | None) -> None:
        super().__init__()
        self.config, self.kind, self.classes = config, kind, tuple(classes)
        out, dim = len(classes) + 1, config.prompt_dim
        if base is None:
            self.unet = unet.network(out, kind, config.image_size)
        else:
            self.image_encoder = base.image_encoder
            self.up = nn.Sequential(
                nn.ConvTranspose2d(dim, dim // 2, 2, 2), LayerNorm2d(dim // 2, config.encoder_eps), nn.GELU(),
                nn.ConvTranspose2d(dim // 2, dim // 4, 2, 2), LayerNorm2d(dim // 4, config.encoder_eps), nn.GELU(),
                nn.Conv2d(dim // 4, out, 3, padding=1),
            )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        if self.kind != "encoder":
            return self.unet(pixels)
        logits = self.up(images.encode(self.image_encoder, pixels))
        return F.interpolate(logits, pixels.shape[-2:], mode="bilinear", align_corners=False)


class _Objective(nn.Module):
    """Cross-entropy plus 1 − soft Dice, averaged over the structures."""

    def __init__(self, model: SemanticNetwork, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: Drawn) -> tuple[Tensor, Tensor]:
        device = batch.images.device
        with autocast(device, self.config.precision):
            logits = self.model(normalise(batch.images, batch.inner))
        logits, target = logits.float(), batch.targets.long()
        inside = target != OUTSIDE
        entropy = F.cross_entropy(logits, target, ignore_index=OUTSIDE, reduction="none").sum((1, 2))
        entropy = entropy / inside.sum((1, 2)).clamp(min=1)
        chance = logits.softmax(1) * inside[:, None]
        true = F.one_hot(target.where(inside, 0), logits.shape[1]).permute(0, 3, 1, 2) * inside[:, None]
        both, either = (chance * true).sum((2, 3)), chance.sum((2, 3)) + true.sum((2, 3))
        dice = 1 - ((2 * both + 1) / (either + 1))[:, 1:].mean(1)
        loss = (entropy + dice).sum()
        return loss, torch.stack([loss.detach(), entropy.sum().detach(), dice.sum().detach()])


def truth(corpus: Corpus, image: int, numbers: Mapping[int, int]) -> NDArray[np.uint8]:
    """Make the label map of an image.

    Args:
        corpus: The corpus.
        image: Row of `images`.
        numbers: Category id → number of the structure, from 1.

    Returns:
        (h, w) uint8, the number of the structure of each pixel, 0 for background.
    """
    row = corpus.images[image]
    out = np.zeros((int(row["height"]), int(row["width"])), np.uint8)
    for place in corpus.of(image):
        annotation = corpus.annotations[place]
        number = numbers.get(int(annotation["category"]))
        if number is not None and not annotation["flags"] & SPECK:
            out[corpus.mask(place)] = number
    return out


class _Draws(images.Draws[Drawn]):
    def __init__(self, corpus: Corpus, config: TrainConfig, rows: NDArray[np.int64], numbers: dict[int, int]) -> None:
        super().__init__(corpus, config, len(rows))
        self.rows, self.numbers = rows, numbers

    def drawn(self, item: int, rng: np.random.Generator) -> Drawn:
        image = int(self.rows[item])
        side = self.config.model.image_size
        labels = truth(self.corpus, image, self.numbers)
        masks = [labels == number for number in range(1, len(self.numbers) + 1)]
        pixels, masks = images.augmented(self.corpus.picture(image), masks, self.config, rng)
        shown, inner = images.canvas(pixels, self.config.model)
        rows, columns = (int(value) for value in inner)
        target = np.full((side, side), OUTSIDE, np.uint8)
        target[:rows, :columns] = 0
        for number, mask in enumerate(masks, 1):
            small = cv2.resize(255 * mask.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_AREA) >= 128
            target[:rows, :columns][small] = number
        return Drawn(shown[None], inner[None], torch.from_numpy(target)[None])


@torch.inference_mode()
def chances(model: SemanticNetwork, pixels: NDArray[np.uint8], device: str) -> Tensor:
    """Compute probabilities (K + 1, h, w), background first, of an image (h, w) or (h, w, 3) uint8."""
    shown, inner = images.canvas(pixels, model.config)
    logits = model(normalise(shown[None].to(device), inner[None].to(device))).float()
    logits = logits[:, :, : int(inner[0]), : int(inner[1])]
    return F.interpolate(logits, pixels.shape[:2], mode="bilinear", align_corners=False)[0].softmax(0)


def segment(model: SemanticNetwork, pixels: NDArray[np.uint8], device: str) -> NDArray[np.uint8]:
    """Predict the label map (h, w) uint8, 0 for background, of an image (h, w) or (h, w, 3) uint8."""
    return chances(model, pixels, device).argmax(0).to(torch.uint8).cpu().numpy()


class Semantic(images.ImageTask):
    """The task `semantic`; see `Task`. Validation: Dice of each structure, and of the mean mask as a baseline."""

    parts = ("loss", "entropy", "dice")

    def __init__(self, config: TrainConfig, corpus: Corpus) -> None:
        super().__init__(config, corpus)
        self.images = images.chosen(corpus, config, config.splits)  # those without a structure show background
        self.annotations, categories = images.annotated(corpus, self.images)
        self.numbers = {number: n for n, number in enumerate(categories, 1)}
        self.classes = list(categories.values())
        self.draws = _Draws(corpus, config, self.images, self.numbers)
        self.held_out = images.held_out(corpus, config)

    def initial(self, init: Path | None) -> SemanticNetwork:
        if self.config.network != "encoder" and init is not None:
            raise UsageError(f"The network {self.config.network} starts from random weights, without --init.")
        base = images.backbone(self.config, init) if self.config.network == "encoder" else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return SemanticNetwork(self.config.model, self.config.network, self.classes, base)

    def encoder(self, model: SemanticNetwork) -> nn.Module:
        return model.image_encoder if model.kind == "encoder" else model.unet

    def objective(self, model: SemanticNetwork) -> nn.Module:
        return _Objective(model, self.config)

    def validate(self, model: SemanticNetwork, wanted: Sequence[int], device: torch.device) -> NDArray[np.float64]:
        means = self._means()
        rows = []
        for image in wanted:
            labels = truth(self.corpus, image, self.numbers)
            predicted = segment(model, self.corpus.picture(image), str(device))
            group = float(self.corpus.images["group"][image])
            for number in np.unique(labels[labels > 0]).tolist():
                mean = cv2.resize(means[number - 1], labels.shape[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5
                rows.append([group, number, overlap(labels == number, predicted == number)[0],
                             overlap(labels == number, mean)[0]])  # fmt: skip
        return np.array(rows, np.float64).reshape(-1, 4)

    def _means(self, most: int = 64) -> NDArray[np.float32]:
        """Compute the mean masks (K, S, S) of the structures from at most `most` images."""

        def shown() -> Iterator[tuple[int, NDArray[np.bool_]]]:
            for image in self.corpus.sample(self.images.tolist(), most):
                labels = truth(self.corpus, image, self.numbers)
                yield from ((number, labels == number) for number in range(1, len(self.numbers) + 1))

        return images.mean_masks(len(self.numbers), shown())

    def summary(self, table: NDArray[np.float64]) -> Record:
        record: Record = {"instances": len(table), "groups": len(np.unique(table[:, 0])) if len(table) else 0}
        if not len(table):
            return record
        numbers = np.unique(table[:, 1])
        for column, name in ((2, "dice"), (3, "mean_mask")):
            by = [table[table[:, 1] == number, column].mean() for number in numbers]
            record[name] = round(float(np.mean(by)), 5)
        structures = {self.classes[int(n) - 1]: round(float(table[table[:, 1] == n, 2].mean()), 5) for n in numbers}
        return record | {"structures": structures}

    def score(self, summary: Record) -> float | None:
        """Return the mean over the structures of their mean Dice."""
        return summary.get("dice")

    def shown(self, model: SemanticNetwork, wanted: Sequence[int], device: torch.device) -> list[NDArray[np.uint8]]:
        drawings = []
        for image in wanted:
            pixels = self.corpus.picture(image)
            outlines = {"truth": truth(self.corpus, image, self.numbers) > 0,
                        "found": segment(model, pixels, str(device)) > 0}  # fmt: skip
            drawings.append(report.overlay(pixels, outlines))
        return drawings

    def save(self, model: SemanticNetwork, place: Path, meta: Mapping[str, Any]) -> None:
        record = images.TaskRecord(
            name="semantic", model=self.config.model, network=self.config.network, classes=self.classes
        )
        images.save(model, place, record, meta)

    def quality(self, validation: Mapping[str, Any]) -> str:
        names = f"Structures: {', '.join(self.classes)}."
        if "dice" not in validation:
            return f"{names} No validation image shows one of them."
        return (
            f"{names} Mean of the structures' mean Dice on {validation['instances']:,} masks of "
            f"{validation['groups']:,} groups of the validation split at step {validation['step']:,}: "
            f"{validation['dice']:.3f}; of the mean mask {validation['mean_mask']:.3f}."
        )


def load(place: Path) -> tuple[SemanticNetwork, images.TaskRecord]:
    """Load (model in evaluation mode, its record). Raises WeightsError, UsageError."""
    record, state = images.read(place, "semantic")
    base = UltraSam(record.model) if record.network == "encoder" else None
    model = SemanticNetwork(record.model, record.network, record.classes, base)
    images.fit(model, state, place)
    return model.eval(), record
