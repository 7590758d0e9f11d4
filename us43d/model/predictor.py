"""Predict masks at the size of the image from prompts.

Coordinates of prompts are in pixels of the image: x to the right, y down, the centre of the first pixel at (0, 0). A
box is (x0, y0, x1, y1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from us43d.errors import ImageError, UsageError
from us43d.model import look, refused, weights
from us43d.model.geometry import fitted, normalised, standard
from us43d.model.network import LOWER_RIGHT, PADDING, POSITIVE, STRUCTURE, UPPER_LEFT, Features, UltraSam
from us43d.model.weights import Preprocessing
from us43d.pictures.levels import eight_bits

__all__ = [
    "Encoded", "Postprocess", "Prediction", "Predictor", "at_once",
]  # fmt: skip

Postprocess: TypeAlias = Literal["paper", "sharp"]

#: Prompts decoded at once; bounds memory to about 1 GB with ViT-B.
BATCH = 16
#: Pixels of masks at an image's own size that are held at once: two masks of 8192 × 8192.
_HELD = 1 << 27


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded image.

    Attributes:
        features: Features of the image.
        shape: (rows, columns) of the image.
        inner: (rows, columns) of the resized image.
        pixels: The image, (rows, columns) or (rows, columns, 3) uint8, for the second look.
    """

    features: Features
    shape: tuple[int, int]
    inner: tuple[int, int]
    pixels: NDArray[np.uint8]

    @property
    def scale(self) -> tuple[float, float]:
        """Factors (x, y) from pixels of the image to pixels of the network's input."""
        return self.inner[1] / self.shape[1], self.inner[0] / self.shape[0]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted mask.

    Attributes:
        mask: (h, w) bool, at the size of the image.
        score: Predicted IoU, 0 to 1.
        logits: float32 of the network's input with its padding: (4G, 4G), or (S, S) after a second look. Pass them as
            `former` together with corrective clicks.
        presence: Probability that the named structure is in the image; 1 for other prompts.
    """

    mask: NDArray[np.bool_]
    score: float
    logits: NDArray[np.float32]
    presence: float = 1.0


class _Masks(NamedTuple):
    """Masks of P prompts before they are resized to the image.

    Attributes:
        logits: (P, h, h), of the windows.
        windows: (P, 4) in fractions of the frame; None for the whole frame.
        whole: Logits of the whole frame, to feed back.
        score: (P,), predicted IoU.
        presence: (P,), probability that the named structure is present.
    """

    logits: Tensor
    windows: Tensor | None
    whole: Tensor
    score: Tensor
    presence: Tensor


def at_once(shape: tuple[int, ...], most: int = BATCH) -> int:
    """Compute how many prompts to process at once, so that their masks fit into memory.

    Args:
        shape: (rows, columns, …) of the image.
        most: Upper limit.
    """
    return max(1, min(most, _HELD // (shape[0] * shape[1])))


class Predictor:
    """Segment images with a model.

    >>> predictor = Predictor.from_weights(Path("weights/ultrasam"))  # doctest: +SKIP
    >>> predictor.set_image(image)  # doctest: +SKIP
    >>> predictor.predict(box=(40, 60, 180, 210)).mask  # doctest: +SKIP

    Args:
        model: The model; moved to the device and set to evaluation mode.
        device: "cpu", "cuda", "cuda:N" or "mps".
        dtype: Precision of the network.

    Attributes:
        structures: Structures the model was trained to find by name: id of the taxonomy → name.
        preprocessing: How images are resized, as recorded with the weights.
        encoded: The image of `set_image`; None before.
    """

    structures: Mapping[int, str]
    preprocessing: Preprocessing

    def __init__(self, model: UltraSam, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.structures, self.preprocessing = {}, "ultrasam"
        self.model = model.to(device=device, dtype=dtype).eval()
        self.model.prompt_encoder.pe_layer.float()  # 8 bits of mantissa are too few for coordinates
        self.device, self.dtype = device, dtype
        with torch.inference_mode():
            self._code = self.model.prompt_encoder.grid()
        self.encoded: Encoded | None = None

    @classmethod
    def from_weights(cls, path: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> "Predictor":
        """Load weights.

        Args:
            path: File or folder in any form that `us43d.model.weights.load` reads.
            device: "cpu", "cuda", "cuda:N" or "mps".
            dtype: Precision of the network.

        Raises:
            WeightsError: The weights cannot be read.
        """
        loaded = weights.load(Path(path))
        predictor = cls(loaded.model(), device=device, dtype=dtype)
        predictor.structures, predictor.preprocessing = loaded.structures, loaded.preprocessing
        return predictor

    @torch.inference_mode()
    def encode(self, image: NDArray[Any]) -> Encoded:
        """Encode an image.

        Args:
            image: (h, w) grey or (h, w, 3) RGB. Types other than uint8 are scaled to 8 bits by their finite range
                (`us43d.pictures.levels`).

        Raises:
            ImageError: The array has another shape or type.
        """
        if image.ndim not in (2, 3) or 0 in image.shape or (image.ndim == 3 and image.shape[2] != 3):
            raise ImageError(f"An image of shape {image.shape} is neither grey (h, w) nor RGB (h, w, 3).")
        image = eight_bits(image)
        config = self.model.config
        how = config.image_size, config.stretch, self.preprocessing
        batch = normalised(image, *how)[None].to(device=self.device, dtype=self.dtype)
        shape = (image.shape[0], image.shape[1])
        inner = fitted(shape, *how)
        return Encoded(self.model.encode(batch), shape, inner, image)

    def set_image(self, image: NDArray[Any]) -> None:
        """Encode an image for the following calls of `predict`. image: as in `encode`."""
        self.encoded = self.encode(image)

    @torch.inference_mode()
    def predict(
        self,
        *,
        box: Sequence[float] | None = None,
        points: Sequence[tuple[float, float]] = (),
        labels: Sequence[int] = (),
        structure: int | None = None,
        mask: NDArray[np.bool_] | None = None,
        former: NDArray[np.float32] | None = None,
        refine: int = 1,
        postprocess: Postprocess = "sharp",
    ) -> Prediction:
        """Predict one mask on the image of `set_image`.

        Args:
            box: Box prompt (x0, y0, x1, y1) in pixels of the image.
            points: Point prompts (x, y) in pixels of the image.
            labels: One per point: 1 inside, 0 outside. Default: all inside.
            structure: Id of a structure of the taxonomy, for a model with structures.
            mask: (h, w) bool, a mask to improve.
            former: `Prediction.logits` of the prediction that the points correct.
            refine: With 1, the model predicts twice, as in the published evaluation, or uses its second look; with 0,
                once.
            postprocess: "paper" thresholds before upscaling, as the original software; "sharp" after it.

        Returns:
            The mask at the size of the image, its predicted IoU and its logits.

        Raises:
            UsageError: No image is set; or a prompt is missing, empty, outside the image, or not supported by the
                model.
        """
        if self.encoded is None:
            raise UsageError("No image is set.", next="predictor.set_image(image)")
        if mask is not None:
            if mask.shape != self.encoded.shape or not mask.any():
                raise UsageError(
                    f"The mask prompt of shape {mask.shape} is empty, or does not have the image's shape "
                    f"{self.encoded.shape}."
                )
            x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
            box = (x, y, x + width, y + height) if box is None else box
            former = self._fed(mask)
        xy, kinds = self._prompt(self.encoded, box, points, labels, structure)
        fed = None if former is None else torch.from_numpy(former)[None]
        return self.segment(self.encoded, xy, kinds, refine=refine, postprocess=postprocess, former=fed)[0]

    def _fed(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Convert a mask of the image to logits of the whole frame, as in `Prediction.logits`."""
        assert self.encoded is not None
        config, (rows, columns) = self.model.config, self.encoded.inner
        small = cv2.resize(255 * mask.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_AREA)
        whole = np.zeros((config.image_size, config.image_size), np.float32)
        whole[:rows, :columns] = small / 255
        if not config.look:
            low = cv2.resize(whole, (config.mask_size, config.mask_size), interpolation=cv2.INTER_AREA)
            return np.asarray(16 * low - 8, np.float32)
        return 16 * whole - 8

    def _prompt(
        self,
        encoded: Encoded,
        box: Sequence[float] | None,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        structure: int | None,
    ) -> tuple[Tensor, Tensor]:
        rows, columns = encoded.shape
        known = self.model.config.structures
        if structure is not None and not 0 <= structure < known:
            raise UsageError(
                f"Unknown structure id {structure}: the model has ids 0 to {known - 1}."
                if known
                else "The model does not support prompts by the name of a structure.",
                next="us43d predict IMAGE --box x0,y0,x1,y1",
            )
        if box is None and not points and structure is None:
            raise UsageError("A prediction needs a box or a point.", next="us43d predict IMAGE --box x0,y0,x1,y1")
        if labels and (len(labels) != len(points) or set(labels) - {0, 1}):
            raise UsageError(f"{len(points)} points need as many labels, each 0 or 1, not {list(labels)}.")
        for x, y in points:
            if not (0 <= x < columns and 0 <= y < rows):
                raise UsageError(f"The point {x:g},{y:g} is outside the image of {columns} × {rows} pixels.")
        at = [(float(x), float(y)) for x, y in points]
        if at and all(0 < x < 1 and 0 < y < 1 for x, y in at):
            raise UsageError(
                f"The point {at[0][0]:g},{at[0][1]:g} is within the first pixel: coordinates are in pixels of the "
                f"image, {columns} × {rows}, not fractions of it."
            )
        kinds = list(labels) or [POSITIVE] * len(points)
        if box is not None:
            x0, y0, x1, y1 = map(float, box)
            if not (x0 < x1 and y0 < y1) or x1 <= 0 or y1 <= 0 or x0 >= columns or y0 >= rows:
                raise UsageError(
                    f"The box {x0:g},{y0:g},{x1:g},{y1:g} is empty or outside the image of {columns} × {rows} pixels."
                )
            if max(x1, y1) <= 1:
                raise UsageError(
                    f"The box {x0:g},{y0:g},{x1:g},{y1:g} is within the first pixel: coordinates are in pixels of the "
                    f"image, {columns} × {rows}, not fractions of it."
                )
            at += [(x0, y0), (x1, y1)]
            kinds += [UPPER_LEFT, LOWER_RIGHT]
        placed = (
            torch.tensor(at, dtype=torch.float64).view(-1, 2) * torch.tensor(encoded.scale, dtype=torch.float64) + 0.5
        )
        if structure is not None:
            placed, kinds = torch.cat([placed.view(-1, 2), torch.zeros(1, 2)]), [*kinds, STRUCTURE + structure]
        elif box is None:
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
        """Predict the masks of P prompts on one image.

        Without refinement, the result is the one of masks 1–3 with the highest predicted IoU. With refinement, mask 0
        of a first pass is fed back; box prompts are repeated, and point prompts are replaced by the box of the first
        mask. A model with a second look uses that instead, on the window of the box or of the first mask.

        Args:
            encoded: The image.
            points: (P, N, 2), (x, y) in pixels of the network's input.
            labels: (P, N) int, as in `UltraSam.decode`.
            refine: 0 or 1.
            postprocess: As in `predict`.
            former: (P, …), `Prediction.logits` of earlier predictions that the prompts correct; they are fed back.

        Returns:
            P predictions.
        """
        predictions = []
        step = at_once(encoded.shape)
        for start in range(0, len(points), step):
            rows = slice(start, start + step)
            fed = None if former is None else former[rows].to(device=self.device, dtype=self.dtype)
            run = self._looked if self.model.second_look is not None and refine else self._decoded
            decoded = run(encoded, points[rows], labels[rows], refine, fed)
            masks = self.masks(decoded, encoded, postprocess)
            whole = decoded.whole.float().cpu().numpy()
            rated = zip(masks, decoded.score.tolist(), whole, decoded.presence.tolist(), strict=True)
            predictions += [Prediction(mask, score, logits, present) for mask, score, logits, present in rated]
        return predictions

    def _first(
        self, encoded: Encoded, points: Tensor, labels: Tensor, former: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode once: logits (P, M, 4G, 4G), predicted IoU (P, M), presence (P,)."""
        mask = None
        if former is not None:
            side = self.model.config.mask_size
            mask = (
                former[:, None]
                if former.shape[-1] == side
                else F.interpolate(former[:, None], (side, side), mode="area")
            )
        features = encoded.features.expand(len(points))
        logits, iou, presence = self.model.decode(features, points, labels, mask, self._code)
        named = (labels >= STRUCTURE).any(1)
        ones = torch.ones(len(points), device=logits.device)
        return logits, iou, ones if presence is None else torch.where(named, presence.float().sigmoid(), ones)

    def _decoded(self, encoded: Encoded, points: Tensor, labels: Tensor, refine: int, former: Tensor | None) -> _Masks:
        """Predict the masks with the decoder only."""
        logits, iou, presence = self._first(encoded, points, labels, former)
        if self.model.config.masks == 1:
            return _Masks(logits[:, 0], None, logits[:, 0], iou[:, 0].float(), presence)
        if refine and former is None:
            first = logits[:, :1]
            if not bool((labels == UPPER_LEFT).any()):
                whole = _Masks(first[:, 0], None, first[:, 0], iou[:, 0], presence)
                boxes = torch.stack([_box(mask) for mask in self.masks(whole, encoded, "paper")]).view(-1, 2, 2)
                points = (boxes * torch.tensor(encoded.scale, dtype=torch.float64)).float().to(points)
                labels = torch.tensor([UPPER_LEFT, LOWER_RIGHT], device=labels.device).expand(len(points), 2)
            logits, iou, _ = self._first(encoded, points, labels, first[:, 0])
        best = 1 + iou[:, 1:].argmax(1)
        rows = torch.arange(len(logits), device=best.device)
        return _Masks(logits[rows, best], None, logits[rows, best], iou[rows, best].float(), presence)

    def _looked(self, encoded: Encoded, points: Tensor, labels: Tensor, refine: int, former: Tensor | None) -> _Masks:
        """Predict the masks with the second look.

        Without a box the window is that of the first mask; without an earlier mask, either, the prompt is refined
        twice, the second time on the window of the refined mask.
        """
        second = self.model.second_look
        assert second is not None
        logits, _, presence = self._first(encoded, points, labels, former)
        first = logits[:, 0]
        boxed = (labels == UPPER_LEFT).any(1)
        # Not of the mask that clicks correct: where that is far too large, its window shows little of the object.
        windows = self._windows(first.float(), points, labels)
        refined, iou = self._look(encoded, windows, points, labels, first, former)
        if former is not None:
            refused.drop(refined, windows, self._places(points), labels, former)
        whole = look.paste(refined.float(), windows, self.model.config.image_size)
        again = (~boxed).nonzero()[:, 0]
        if former is None and len(again):
            windows[again] = self._windows(whole[again], points[again], labels[again])
            refined[again], iou[again] = self._look(
                encoded, windows[again], points[again], labels[again], first[again], None
            )
            whole[again] = look.paste(refined[again].float(), windows[again], self.model.config.image_size)
        return _Masks(refined, windows, whole, iou.float(), presence)

    def _places(self, points: Tensor) -> NDArray[np.float64]:
        """Return points in fractions of the frame."""
        return np.asarray(((points - 0.5) / self.model.config.image_size).cpu().numpy(), np.float64)

    def _look(
        self,
        encoded: Encoded,
        windows: Tensor,
        points: Tensor,
        labels: Tensor,
        first: Tensor,
        former: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        second = self.model.second_look
        assert second is not None
        side = self.model.config.look_size
        crops = [standard(look.crop(encoded.pixels, window, side)) for window in windows.cpu().numpy()]
        batch = torch.stack(crops).to(device=self.device, dtype=self.dtype)
        return second(batch, windows, points, labels, first, former)

    def _windows(self, logits: Tensor, points: Tensor, labels: Tensor) -> Tensor:
        """Compute windows (P, 4) of the second look: of the box prompt, else of the mask and the positive clicks.

        logits: (P, h, h) of the whole frame.
        """
        places, kinds = self._places(points), labels.cpu().numpy()
        predicted = (logits > 0).cpu().numpy()
        windows = []
        for row in range(len(points)):
            box = places[row][np.isin(kinds[row], (UPPER_LEFT, LOWER_RIGHT))]
            inside = places[row][kinds[row] == POSITIVE]
            if len(box) == 0:
                x, y, width, height = cv2.boundingRect(predicted[row].view(np.uint8))
                if width:
                    box = np.array([[x, y], [x + width, y + height]]) / predicted.shape[-1]
                else:  # empty mask: a window around the click, else the whole frame
                    box = (
                        inside[:1] + np.array([[-0.15], [0.15]]) if len(inside) else np.array([[0.0, 0.0], [1.0, 1.0]])
                    )
            reach = np.concatenate([box, inside])
            windows.append(look.window(np.concatenate([reach.min(0), reach.max(0)]), (1, 1)))
        return torch.from_numpy(np.array(windows, np.float32)).to(self.device)

    def masks(self, decoded: _Masks, encoded: Encoded, postprocess: Postprocess) -> list[NDArray[np.bool_]]:
        """Resize logits to masks at the size of the image."""
        if decoded.windows is not None:
            pairs = zip(decoded.logits.float().cpu().numpy(), decoded.windows.cpu().numpy(), strict=True)
            return [look.placed(logits, window, encoded.shape) for logits, window in pairs]
        side, (rows, columns) = self.model.config.image_size, encoded.inner
        low = (decoded.logits > 0).float() if postprocess == "paper" else decoded.logits.float()
        masks = []
        for one in low.cpu().numpy():
            # As F.interpolate without align_corners, and several times as fast on a CPU.
            frame = cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR)[:rows, :columns]
            masks.append(cv2.resize(frame, encoded.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0)
        return masks


def _box(mask: NDArray[np.bool_]) -> Tensor:
    """Compute (x0, y0, x1 + 1, y1 + 1) of a mask's pixels; zeros for an empty mask."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return torch.tensor([x, y, x + width, y + height], dtype=torch.float64) * (width > 0)
