"""From a picture and a prompt to a mask at the picture's own size.

Prompts are in pixels of the picture: x to the right, y down, the first pixel's centre at (0, 0); a box is
(x0, y0, x1, y1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from us43d.errors import ImageError, UsageError
from us43d.model import weights
from us43d.model.network import LOWER_RIGHT, PADDING, POSITIVE, UPPER_LEFT, UltraSam
from us43d.pictures.levels import eight_bits

__all__ = [
    "Encoded", "Postprocess", "Prediction", "Predictor", "at_once", "box_prompts", "fitted", "normalised",
    "point_prompts",
]  # fmt: skip

Postprocess: TypeAlias = Literal["paper", "sharp"]

#: ImageNet's mean and deviation of red, green, blue in 0..255, as in SAM.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

#: Prompts decoded at once; bounds memory to about 1 GB with ViT-B.
BATCH = 16
#: Pixels of masks at an image's own size that are held at once: two masks of 8192 × 8192.
_HELD = 1 << 27


@dataclass(frozen=True, slots=True)
class Encoded:
    """embedding: (1, C, G, G). shape, inner: (rows, columns) of the picture and of its resized form."""

    embedding: Tensor
    shape: tuple[int, int]
    inner: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Factors of x and y from the picture to the network's input."""
        return self.inner[1] / self.shape[1], self.inner[0] / self.shape[0]


@dataclass(frozen=True, slots=True)
class Prediction:
    """mask: (h, w) bool. score: predicted IoU. logits: (4G, 4G) float32 before upscaling."""

    mask: NDArray[np.bool_]
    score: float
    logits: NDArray[np.float32]


def at_once(shape: tuple[int, ...], most: int = BATCH) -> int:
    """How many prompts on an image of (rows, columns) are worked on at once, at most `most`: as many as their masks fit
    into memory."""
    return max(1, min(most, _HELD // (shape[0] * shape[1])))


def fitted(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """(rows, columns) when the longer side becomes `side`; rounded down, as the original software does."""
    scale = side / max(shape)
    return max(1, int(shape[0] * scale)), max(1, int(shape[1] * scale))


def normalised(picture: NDArray[Any], side: int) -> Tensor:
    """(h, w) grey or (h, w, 3) RGB uint8 → (3, side, side) float32: resized, normalised, then padded with zeros."""
    rows, columns = fitted(picture.shape[:2], side)
    small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_LINEAR)
    if small.ndim == 2:
        small = np.repeat(small[:, :, None], 3, axis=2)
    tensor = torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1))).float()
    tensor = (tensor - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return F.pad(tensor, (0, side - columns, 0, side - rows))


def box_prompts(boxes: Tensor, scale: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Boxes (P, 4) of the picture → points (P, 2, 2) of the network's input and their labels (P, 2)."""
    points = boxes.view(-1, 2, 2) * torch.tensor(scale, dtype=boxes.dtype, device=boxes.device) + 0.5
    labels = torch.tensor([UPPER_LEFT, LOWER_RIGHT], device=boxes.device).expand(len(points), 2)
    return points.float(), labels


def point_prompts(points: Tensor, scale: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Positive points (P, 2) of the picture → points (P, 2, 2), the second padding, and labels (P, 2)."""
    placed = points * torch.tensor(scale, dtype=points.dtype, device=points.device) + 0.5
    labels = torch.tensor([POSITIVE, PADDING], device=points.device).expand(len(points), 2)
    return torch.stack([placed, torch.zeros_like(placed)], dim=1).float(), labels


class Predictor:
    """A model that segments one picture after another.

    >>> predictor = Predictor.from_weights(Path("weights/ultrasam"))  # doctest: +SKIP
    >>> predictor.set_image(picture)  # doctest: +SKIP
    >>> predictor.predict(box=(40, 60, 180, 210)).mask  # doctest: +SKIP
    """

    def __init__(self, model: UltraSam, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.model = model.to(device=device, dtype=dtype).eval()
        self.model.prompt_encoder.pe_layer.float()  # coordinates do not fit into 8 bits of mantissa
        self.device, self.dtype = device, dtype
        self.encoded: Encoded | None = None

    @classmethod
    def from_weights(cls, path: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> "Predictor":
        """Weights of any form `us43d.model.weights.load` reads. Raises WeightsError."""
        return cls(weights.load(Path(path)).model(), device=device, dtype=dtype)

    @torch.inference_mode()
    def encode(self, picture: NDArray[Any]) -> Encoded:
        """Encode (h, w) grey or (h, w, 3) RGB; other types than uint8 are spread over 8 bits by their finite range
        (`us43d.pictures.levels`). Raises ImageError."""
        if picture.ndim not in (2, 3) or 0 in picture.shape or (picture.ndim == 3 and picture.shape[2] != 3):
            raise ImageError(f"An image of shape {picture.shape} is neither grey (h, w) nor RGB (h, w, 3).")
        picture = eight_bits(picture)
        side = self.model.config.image_size
        batch = normalised(picture, side)[None].to(device=self.device, dtype=self.dtype)
        shape = (picture.shape[0], picture.shape[1])
        return Encoded(self.model.encode(batch), shape, fitted(shape, side))

    def set_image(self, picture: NDArray[Any]) -> None:
        """Encode a picture for the calls of `predict` that follow."""
        self.encoded = self.encode(picture)

    @torch.inference_mode()
    def predict(
        self,
        *,
        box: Sequence[float] | None = None,
        points: Sequence[tuple[float, float]] = (),
        labels: Sequence[int] = (),
        refine: int = 1,
        postprocess: Postprocess = "sharp",
        former: NDArray[np.float32] | None = None,
    ) -> Prediction:
        """Segment what a box, or points (labels 1 inside, 0 outside; all inside if left out), or both show.

        refine: 1 predicts twice as the published evaluation does, 0 once. postprocess: "paper" thresholds before
        upscaling as the original software, "sharp" after it. former: logits of an earlier prediction that the prompts
        correct; they are fed back instead of those of a first pass. Raises UsageError for prompts that say nothing or
        lie outside of the picture.
        """
        if self.encoded is None:
            raise UsageError("No image is set.", next="predictor.set_image(picture)")
        xy, kinds = self._prompt(self.encoded, box, points, labels)
        logits = None if former is None else torch.from_numpy(former)[None]
        return self.segment(self.encoded, xy, kinds, refine=refine, postprocess=postprocess, former=logits)[0]

    def _prompt(
        self,
        encoded: Encoded,
        box: Sequence[float] | None,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        rows, columns = encoded.shape
        if box is None and not points:
            raise UsageError("A prediction needs a box or a point.", next="us43d predict IMAGE --box x0,y0,x1,y1")
        if labels and (len(labels) != len(points) or set(labels) - {0, 1}):
            raise UsageError(f"{len(points)} points need as many labels, each 0 or 1, not {list(labels)}.")
        for x, y in points:
            if not (0 <= x < columns and 0 <= y < rows):
                raise UsageError(f"The point {x:g},{y:g} lies outside of the picture of {columns} × {rows} pixels.")
        at = [(float(x), float(y)) for x, y in points]
        kinds = list(labels) or [POSITIVE] * len(points)
        if box is not None:
            x0, y0, x1, y1 = map(float, box)
            if not (x0 < x1 and y0 < y1) or x1 <= 0 or y1 <= 0 or x0 >= columns or y0 >= rows:
                raise UsageError(
                    f"The box {x0:g},{y0:g},{x1:g},{y1:g} is empty or outside of the {columns} × {rows} picture."
                )
            at += [(x0, y0), (x1, y1)]
            kinds += [UPPER_LEFT, LOWER_RIGHT]
        placed = torch.tensor(at, dtype=torch.float64) * torch.tensor(encoded.scale, dtype=torch.float64) + 0.5
        if box is None:
            placed, kinds = torch.cat([placed, torch.zeros(1, 2)]), [*kinds, PADDING]
        return placed.float()[None].to(self.device), torch.tensor([kinds], device=self.device)

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
        """P prompts on one picture: points (P, N, 2) of the network's input, labels (P, N).

        Without refinement the best of masks 1–3 by predicted IoU is taken. With it, mask 0 of a first pass is fed back;
        prompts with a box are given again, and prompts without one are replaced by the box of the first pass's mask.
        former: logits (P, 4G, 4G) of an earlier prediction that the prompts correct; it is fed back instead.
        """
        found = []
        step = at_once(encoded.shape)
        for at in range(0, len(points), step):
            part = slice(at, at + step)
            mask = None if former is None else former[part, None].to(device=self.device, dtype=self.dtype)
            logits, scores = self._decode(encoded, points[part], labels[part], refine, mask)
            masks = self.masks(logits, encoded, postprocess)
            low = logits.float().cpu().numpy()
            found += [Prediction(*each) for each in zip(masks, scores.tolist(), low, strict=True)]
        return found

    def _decode(
        self, encoded: Encoded, points: Tensor, labels: Tensor, refine: int, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Logits (P, 4G, 4G) and predicted IoU (P,) of the mask chosen for each prompt."""
        embedding = encoded.embedding.expand(len(points), -1, -1, -1)
        logits, iou = self.model.decode(embedding, points, labels, mask)
        if refine and mask is None:
            first = logits[:, :1]
            if not bool((labels == UPPER_LEFT).any()):
                masks = self.masks(first[:, 0], encoded, "paper")
                boxes = torch.stack([_box(mask) for mask in masks]).view(-1, 2, 2)
                points = (boxes * torch.tensor(encoded.scale, dtype=torch.float64)).float().to(points)
                labels = torch.tensor([UPPER_LEFT, LOWER_RIGHT], device=labels.device).expand(len(points), 2)
            logits, iou = self.model.decode(embedding, points, labels, first)
        best = 1 + iou[:, 1:].argmax(1)
        rows = torch.arange(len(logits), device=best.device)
        return logits[rows, best], iou[rows, best].float()

    def masks(self, logits: Tensor, encoded: Encoded, postprocess: Postprocess) -> list[NDArray[np.bool_]]:
        """Logits (P, 4G, 4G) → masks at the picture's size."""
        side = self.model.config.image_size
        low = (logits > 0).float() if postprocess == "paper" else logits.float()
        masks = []
        for one in low:  # singly, because a picture of many megapixels times many prompts does not fit
            up = F.interpolate(one[None, None], (side, side), mode="bilinear", align_corners=False)
            up = up[:, :, : encoded.inner[0], : encoded.inner[1]]
            up = F.interpolate(up, encoded.shape, mode="bilinear", align_corners=False)
            masks.append((up[0, 0] > 0).cpu().numpy())
        return masks


def _box(mask: NDArray[np.bool_]) -> Tensor:
    """(x0, y0, x1 + 1, y1 + 1) of a mask's pixels, zeros if it is empty."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return torch.tensor([x, y, x + width, y + height], dtype=torch.float64) * (width > 0)
