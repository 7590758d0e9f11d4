"""The plain baseline for box prompts: MONAI's U-Net on the crop of a box, resized to a square, in grey.

It knows neither points nor clicks. Trained by the same loop on the same corpora as the models it is compared with.
"""

from collections.abc import Mapping, Sequence
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
from us43d.harmonize.corpus import Corpus
from us43d.model import look, prompts
from us43d.train import losses
from us43d.train.config import TrainConfig
from us43d.train.journal import Record
from us43d.train.order import eligible
from us43d.train.precision import autocast
from us43d.train.tasks import images

__all__ = ["BoxUNet", "Network", "load", "segment"]

#: Side of the crop in pixels, a multiple of the 16 by which the network reduces it.
SIDE = 128
#: Channels by level, of the last convolutions too: 0.95 million parameters.
_WIDTHS = (16, 32, 64, 96, 128, 16)


class Drawn(NamedTuple):
    """A draw or a batch of B. crops: (B, s, s) uint8 grey. targets: (B, s, s) uint8, coverage, 255 for all."""

    crops: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Drawn":
        return Drawn(*(tensor.to(device, non_blocking=True) for tensor in self))


class Network(nn.Module):
    """(B, s, s) uint8 grey → (B, s, s) logits."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from monai.networks.nets.basic_unet import BasicUNet
        except ImportError as error:
            raise UsageError("The task box-unet needs MONAI.", next="pip install 'us43d[tasks]'") from error
        self.unet = BasicUNet(2, 1, 1, _WIDTHS)

    def forward(self, crops: Tensor) -> Tensor:
        return self.unet(crops[:, None].float() / 127.5 - 1)[:, 0]


class _Objective(nn.Module):
    """Cross-entropy plus 1 − soft Dice of every crop."""

    parts = ("loss", "entropy", "dice")

    def __init__(self, model: Network, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: Drawn) -> tuple[Tensor, Tensor]:
        with autocast(batch.crops.device, self.config.precision):
            logits = self.model(batch.crops)
        logits, target = logits.float(), batch.targets.float() / 255
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2)).sum()
        dice = losses.dice_loss(logits, target).sum()
        return entropy + dice, torch.stack([entropy + dice, entropy, dice]).detach()


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


class _Draws(images.Draws[Drawn]):
    def __init__(self, corpus: Corpus, config: TrainConfig, rows: NDArray[np.int64]) -> None:
        super().__init__(corpus, config, len(rows))
        self.rows = rows

    def drawn(self, item: int, rng: np.random.Generator) -> Drawn:
        annotation = int(self.rows[item])
        pixels = self.corpus.picture(int(self.corpus.annotations["image"][annotation]))
        mask = self.corpus.mask(annotation)
        changed, (moved,) = images.augmented(pixels, [mask], self.config, rng)
        if moved.any():
            pixels, mask = changed, moved
        window = look.window(prompts.box(mask, rng, self.config.box_jitter), mask.shape)
        crop = look.crop(_grey(pixels), window, SIDE)
        target = look.crop(255 * mask.astype(np.uint8), window, SIDE)
        return Drawn(torch.from_numpy(crop)[None], torch.from_numpy(target)[None])


@torch.inference_mode()
def segment(
    model: Network, pixels: NDArray[np.uint8], boxes: NDArray[np.float64], device: str
) -> list[tuple[NDArray[np.bool_], float]]:
    """Segment what boxes show.

    Args:
        model: The network.
        pixels: (h, w) or (h, w, 3) RGB uint8.
        boxes: (P, 4) x0, y0, x1, y1 in pixels of the image.
        device: Where the network is.

    Returns:
        (mask (h, w), mean probability of its pixels) of every box.

    Raises:
        UsageError: A box is empty or outside the image.
    """
    grey, (rows, columns) = _grey(pixels), pixels.shape[:2]
    for x0, y0, x1, y1 in boxes.tolist():
        if not (x0 < min(x1, columns) and y0 < min(y1, rows) and min(x1, y1) > 0):
            raise UsageError(
                f"The box {x0:g},{y0:g},{x1:g},{y1:g} is empty or outside the image of {columns} × {rows} pixels."
            )
    windows = [look.window(box, pixels.shape) for box in boxes]
    crops = torch.from_numpy(np.stack([look.crop(grey, window, SIDE) for window in windows]))
    masks = []
    for window, logits in zip(windows, model(crops.to(device)).float().cpu().numpy(), strict=True):
        x0, y0, x1, y1 = window * (columns, rows, columns, rows)
        across, down = SIDE / (x1 - x0), SIDE / (y1 - y0)
        matrix = np.array([[across, 0, (0.5 - x0) * across - 0.5], [0, down, (0.5 - y0) * down - 0.5]])
        full = cv2.warpAffine(logits, matrix, (columns, rows), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                              borderValue=look.OUTSIDE)  # fmt: skip
        mask = full > 0
        sure = float((1 / (1 + np.exp(-full[mask].astype(np.float64)))).mean()) if mask.any() else 0.0
        masks.append((mask, sure))
    return masks


class BoxUNet(images.ImageTask):
    """See `Task`. Validation: Dice of exact boxes, and of the box's inscribed ellipse, which looks at no image."""

    parts = _Objective.parts

    def __init__(self, config: TrainConfig, corpus: Corpus) -> None:
        super().__init__(config, corpus)
        self.annotations = eligible(corpus, config, config.splits)
        self.images = np.unique(corpus.annotations["image"][self.annotations]).astype(np.int64)
        self.draws = _Draws(corpus, config, self.annotations)
        kept = images.held_out(corpus, config)
        large = {int(row) for row in eligible(corpus, config, ("val",))} if kept else set()
        self.held_out = [place for image in kept for place in corpus.of(image) if place in large]

    def initial(self, init: Path | None) -> Network:
        if init is not None:
            raise UsageError("The task box-unet starts from random weights, without --init.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return Network()

    def encoder(self, model: Network) -> nn.Module:
        return model.unet

    def objective(self, model: Network) -> nn.Module:
        return _Objective(model, self.config)

    def validate(self, model: Network, wanted: Sequence[int], device: torch.device) -> NDArray[np.float64]:
        """A row per instance: group, source, Dice of the network and of the ellipse."""
        rows = []
        for place in wanted:
            image, truth = int(self.corpus.annotations["image"][place]), self.corpus.mask(place)
            box = prompts.box_of(truth)
            ((mask, _),) = segment(model, self.corpus.picture(image), box[None], str(device))
            rows.append([self.corpus.images["group"][image], self.corpus.images["source"][image],
                         overlap(truth, mask)[0], overlap(truth, prompts.ellipse(box, truth.shape))[0]])  # fmt: skip
        return np.array(rows, np.float64).reshape(-1, 4)

    def summary(self, table: NDArray[np.float64]) -> Record:
        record: Record = {"instances": len(table), "groups": len(np.unique(table[:, 0]))}
        if not len(table):
            return record
        sources = {self.corpus.sources[int(n)]["name"]: round(float(table[table[:, 1] == n, 2].mean()), 5)
                   for n in np.unique(table[:, 1])}  # fmt: skip
        means = {name: round(float(table[:, column].mean()), 5) for name, column in (("box_dice", 2),
                                                                                     ("ellipse_dice", 3))}  # fmt: skip
        return record | means | {"sources": sources}

    def score(self, summary: Record) -> float | None:
        """The mean Dice of exact boxes."""
        return summary.get("box_dice")

    def shown(self, model: Network, wanted: Sequence[int], device: torch.device) -> list[NDArray[np.uint8]]:
        drawings = []
        for place in wanted:
            pixels = self.corpus.picture(int(self.corpus.annotations["image"][place]))
            truth = self.corpus.mask(place)
            ((mask, _),) = segment(model, pixels, prompts.box_of(truth)[None], str(device))
            drawings.append(report.overlay(pixels, {"truth": truth[None], "found": mask[None]}))
        return drawings

    def save(self, model: Network, place: Path, meta: Mapping[str, Any]) -> None:
        images.save(model, place, images.TaskRecord(name="box-unet", model=self.config.model), meta)

    def quality(self, validation: Mapping[str, Any]) -> str:
        if "box_dice" not in validation:
            return "No validation image shows an instance."
        return (
            f"Mean Dice of exact boxes on {validation['instances']:,} instances of {validation['groups']:,} groups of "
            f"the validation split at step {validation['step']:,}: {validation['box_dice']:.3f}; of the box's "
            f"inscribed ellipse {validation['ellipse_dice']:.3f}."
        )


def load(place: Path) -> tuple[Network, images.TaskRecord]:
    """(the network in evaluation mode, its record). Raises WeightsError, UsageError."""
    record, state = images.read(place, "box-unet")
    model = Network()
    images.fit(model, state, place)
    return model.eval(), record
