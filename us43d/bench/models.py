"""Models a benchmark runs: one small interface, and the adapters to it.

An adapter encodes an image once and then answers prompts. Prompts come in pixels of the adapter's own input: image
coordinates times `Encoded.scale`, plus a half.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from us43d.errors import UsageError, WeightsError
from us43d.evaluate.protocols import Segmenter
from us43d.model import prompts, weights
from us43d.model.geometry import normalised
from us43d.model.network import PADDING, UPPER_LEFT, Features
from us43d.model.predictor import Encoded, Postprocess, Prediction, Predictor
from us43d.train.journal import NOTHING, UNKNOWN, origin

__all__ = ["BoxUNet", "Ellipse", "Entry", "Sam2", "ellipse", "of_weights"]


@dataclass(frozen=True)
class Entry:
    """A model in a benchmark. digest: sha256 of its weights. seen: what it was trained on (`journal.seen`)."""

    segmenter: Segmenter
    digest: str
    seen: Mapping[str, Any]
    kind: str


def of_weights(path: Path, device: str, dtype: torch.dtype = torch.float32) -> Entry:
    """An entry of weights on disk: of us43d, SAM, MedSAM or UltraSam, a box-unet, or a SAM2 folder of transformers.

    Raises WeightsError.
    """
    content = _content(path)
    if str(content.get("model_type", "")).startswith("sam2"):
        return Entry(Sam2(path, device), _digest(path / weights.TENSORS), UNKNOWN, "sam2 (transformers)")
    file = path / weights.TENSORS if path.is_dir() else path
    task = content.get("task")
    if isinstance(task, dict) and task.get("name") == "box-unet":
        return Entry(BoxUNet(path, device), _digest(file), _seen(path), "U-Net of the box (MONAI)")
    entry = Predictor.from_weights(path, device=device, dtype=dtype)
    return Entry(entry, _digest(file), _seen(path), "us43d")


def ellipse() -> Entry:
    """The baseline that looks at no image."""
    return Entry(Ellipse(), hashlib.sha256(b"ellipse").hexdigest(), NOTHING, "baseline")


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}.") from error


def _seen(path: Path) -> Mapping[str, Any]:
    """What weights say they were trained on; of public ones, what is known of them."""
    if path.is_dir():
        try:
            meta = json.loads((path / weights.CONFIG).read_text("utf-8")).get("meta") or {}
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path} has no readable {weights.CONFIG}: {error}.") from error
        if "seen" in meta:
            return dict(meta["seen"])
    return dict(origin(path)["seen"])


def _content(path: Path) -> dict[str, Any]:
    """Return config.json of a folder of weights; empty without one that can be read."""
    try:
        content = json.loads((path / weights.CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # what is wrong with the file, reading the weights says
    return content if isinstance(content, dict) else {}


def _boxes(encoded: Encoded, points: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """(P, 4) boxes of prompts to a model that takes nothing else, in pixels of the image.

    A point stands for a box of two fifths of the image's shorter side around it; corrective clicks change nothing.
    """
    boxes = []
    for at, kinds in zip(points.double().cpu().numpy() - 0.5, labels.cpu().numpy(), strict=True):
        corners = np.flatnonzero(kinds == UPPER_LEFT)
        if len(corners):
            boxes.append(at[corners[0] : corners[0] + 2].reshape(4))
        else:
            radius = min(encoded.shape) / 5
            boxes.append(np.array([*(at[0] - radius), *(at[0] + radius)]) + 0.5)
    return np.stack(boxes)


class _OfBoxes(ABC):
    """A model that takes boxes and nothing else."""

    device = "cpu"

    @abstractmethod
    def answers(self, encoded: Encoded, boxes: NDArray[np.float64]) -> list[tuple[NDArray[np.bool_], float]]:
        """Return (mask, score) for each of (P, 4) boxes in pixels of the image."""

    def encode(self, picture: NDArray[Any]) -> Encoded:
        shape = (picture.shape[0], picture.shape[1])
        return Encoded(Features(torch.zeros(1)), shape, shape, picture)

    def segment(
        self,
        encoded: Encoded,
        points: Tensor,
        labels: Tensor,
        *,
        refine: int = 1,
        postprocess: Postprocess = "sharp",
        former: Tensor | None = None,
    ) -> list[Prediction]:
        """See `Predictor.segment` and `_boxes`."""
        masks = self.answers(encoded, _boxes(encoded, points, labels))
        return [Prediction(mask, score, np.zeros((1, 1), np.float32)) for mask, score in masks]


class BoxUNet(_OfBoxes):
    """The U-Net on the crop of a box (`us43d.train.tasks.box_unet`)."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from us43d.train.tasks import box_unet

        self.device, self.network = device, box_unet.load(folder)[0].to(device)

    def answers(self, encoded: Encoded, boxes: NDArray[np.float64]) -> list[tuple[NDArray[np.bool_], float]]:
        from us43d.train.tasks import box_unet

        return box_unet.segment(self.network, encoded.pixels, boxes, self.device)


class Ellipse(_OfBoxes):
    """The ellipse inscribed in a box prompt, and for a point a disc of a fifth of the image's shorter side."""

    def answers(self, encoded: Encoded, boxes: NDArray[np.float64]) -> list[tuple[NDArray[np.bool_], float]]:
        return [(prompts.ellipse(box, encoded.shape), 1.0) for box in boxes]


@dataclass(frozen=True, slots=True)
class _Features(Encoded):
    """An image encoded by SAM 2: feature maps from fine to coarse, each (1, C, h, w)."""

    maps: tuple[Tensor, ...] = ()


class Sam2:
    """SAM 2 by transformers' Sam2Model, from a folder on disk; nothing is downloaded.

    As in the original software the image is stretched to a square, a box is given as two points with labels of their
    own, the best of three masks by predicted IoU is taken, and corrective clicks go with the logits of the mask before.
    Raises UsageError without transformers, WeightsError for a folder that does not hold such a model.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        try:
            from transformers import Sam2Model
        except ImportError as error:
            raise UsageError("SAM 2 needs the package transformers.", next="pip install 'us43d[tasks]'") from error
        try:
            model = Sam2Model.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{folder} does not hold a SAM 2 model: {error}.") from error
        self.device = device
        self.model: Any = model.eval()
        self.model.to(device)
        self.side = int(self.model.config.prompt_encoder_config.image_size)

    @torch.inference_mode()
    def encode(self, picture: NDArray[Any]) -> Encoded:
        """(h, w) grey or (h, w, 3) RGB uint8, stretched to a square."""
        square = cv2.resize(picture, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        maps = tuple(self.model.get_image_embeddings(normalised(square, self.side)[None].to(self.device)))
        shape = (picture.shape[0], picture.shape[1])
        return _Features(Features(maps[-1]), shape, (self.side, self.side), picture, maps)

    @torch.inference_mode()
    def segment(
        self,
        encoded: Encoded,
        points: Tensor,
        labels: Tensor,
        *,
        refine: int = 1,
        postprocess: Postprocess = "sharp",
        former: Tensor | None = None,
    ) -> list[Prediction]:
        """See `Predictor.segment`. refine and postprocess have no counterpart in SAM 2 and change nothing."""
        assert isinstance(encoded, _Features)
        kept = (labels != PADDING).any(0)  # the model pads by itself
        out = self.model(
            image_embeddings=list(encoded.maps),
            input_points=points[None, :, kept] - 0.5,
            input_labels=labels[None, :, kept],
            input_masks=None if former is None else former[:, None].to(self.device),
            multimask_output=True,
        )
        logits, scores = out.pred_masks[0], out.iou_scores[0]
        best = scores.argmax(1)
        rows = torch.arange(len(best), device=best.device)
        low = logits[rows, best]
        full = F.interpolate(low[:, None], encoded.shape, mode="bilinear", align_corners=False)[:, 0] > 0
        return [
            Prediction(mask, float(score), one)
            for mask, score, one in zip(
                full.cpu().numpy(), scores[rows, best].tolist(), low.float().cpu().numpy(), strict=True
            )
        ]
