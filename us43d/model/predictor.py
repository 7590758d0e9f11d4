"""From a picture and a prompt to a mask at the picture's own size.

Prompts are in pixels of the picture: x to the right, y down, the first pixel's centre at (0, 0); a box is
(x0, y0, x1, y1).
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
from us43d.model import look, weights
from us43d.model.network import LOWER_RIGHT, PADDING, POSITIVE, STRUCTURE, UPPER_LEFT, Features, UltraSam
from us43d.model.weights import Preprocessing
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
    """An encoded image.

    features: of one image. shape, inner: (rows, columns) of the image and of its resized form. pixels: the image, for
    the second look; (rows, columns) or (rows, columns, 3) uint8.
    """

    features: Features
    shape: tuple[int, int]
    inner: tuple[int, int]
    pixels: NDArray[np.uint8]

    @property
    def scale(self) -> tuple[float, float]:
        """Factors of x and y from the image to the network's input."""
        return self.inner[1] / self.shape[1], self.inner[0] / self.shape[0]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted mask.

    mask: (h, w) bool. score: predicted IoU. logits: float32 of the whole frame as the network saw it, (4G, 4G), or (S,
    S) after a second look; fed back with corrective clicks. presence: probability that the named structure is in the
    image; 1 for other prompts.
    """

    mask: NDArray[np.bool_]
    score: float
    logits: NDArray[np.float32]
    presence: float = 1.0


class _Masks(NamedTuple):
    """Masks of P prompts before they are brought to the size of the image: logits (P, h, h) of the windows (P, 4), of
    the whole frame if None; whole: logits to feed back; score, presence (P,)."""

    logits: Tensor
    windows: Tensor | None
    whole: Tensor
    score: Tensor
    presence: Tensor


def at_once(shape: tuple[int, ...], most: int = BATCH) -> int:
    """How many prompts on an image of (rows, columns) are worked on at once, at most `most`: as many as their masks fit
    into memory."""
    return max(1, min(most, _HELD // (shape[0] * shape[1])))


def fitted(
    shape: tuple[int, int], side: int, stretch: bool = False, how: Preprocessing = "ultrasam"
) -> tuple[int, int]:
    """(rows, columns) of the resized image: both `side` with stretch, else the longer one; the other one is rounded for
    "sam", and rounded down for "ultrasam", as the original software does."""
    if stretch:
        return side, side
    scale, more = side / max(shape), 0.5 if how == "sam" else 0.0
    return max(1, int(shape[0] * scale + more)), max(1, int(shape[1] * scale + more))


def normalised(picture: NDArray[Any], side: int, stretch: bool = False, how: Preprocessing = "ultrasam") -> Tensor:
    """(h, w) grey or (h, w, 3) RGB uint8 → (3, side, side) float32: resized, normalised, then padded with zeros."""
    rows, columns = fitted(picture.shape[:2], side, stretch, how)
    tensor = _standard(_resized(picture, rows, columns, how))
    return F.pad(tensor, (0, side - columns, 0, side - rows))


def _resized(picture: NDArray[Any], rows: int, columns: int, how: Preprocessing) -> NDArray[np.uint8]:
    """Resize uint8 pixels with bilinear interpolation, antialiased for "sam"."""
    if how == "ultrasam":
        return np.asarray(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)
    from PIL import Image  # what SAM's own code resizes with

    return np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR))


def _standard(pixels: NDArray[Any]) -> Tensor:
    """(h, w) grey or (h, w, 3) RGB uint8 → (3, h, w) float32, less the mean and divided by the deviation."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float()
    return (tensor - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


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

    #: Structures the model was trained to find by name: id of the taxonomy → name.
    structures: Mapping[int, str]
    #: How images are resized, as the weights record it.
    preprocessing: Preprocessing

    def __init__(self, model: UltraSam, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.structures, self.preprocessing = {}, "ultrasam"
        self.model = model.to(device=device, dtype=dtype).eval()
        self.model.prompt_encoder.pe_layer.float()  # coordinates do not fit into 8 bits of mantissa
        self.device, self.dtype = device, dtype
        self.encoded: Encoded | None = None

    @classmethod
    def from_weights(cls, path: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> "Predictor":
        """Weights of any form `us43d.model.weights.load` reads. Raises WeightsError."""
        loaded = weights.load(Path(path))
        predictor = cls(loaded.model(), device=device, dtype=dtype)
        predictor.structures, predictor.preprocessing = loaded.structures, loaded.preprocessing
        return predictor

    @torch.inference_mode()
    def encode(self, picture: NDArray[Any]) -> Encoded:
        """Encode (h, w) grey or (h, w, 3) RGB; other types than uint8 are spread over 8 bits by their finite range
        (`us43d.pictures.levels`). Raises ImageError."""
        if picture.ndim not in (2, 3) or 0 in picture.shape or (picture.ndim == 3 and picture.shape[2] != 3):
            raise ImageError(f"An image of shape {picture.shape} is neither grey (h, w) nor RGB (h, w, 3).")
        picture = eight_bits(picture)
        config = self.model.config
        how = config.image_size, config.stretch, self.preprocessing
        batch = normalised(picture, *how)[None].to(device=self.device, dtype=self.dtype)
        shape = (picture.shape[0], picture.shape[1])
        inner = fitted(shape, *how)
        return Encoded(self.model.encode(batch), shape, inner, picture)

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
        structure: int | None = None,
        mask: NDArray[np.bool_] | None = None,
        former: NDArray[np.float32] | None = None,
        refine: int = 1,
        postprocess: Postprocess = "sharp",
    ) -> Prediction:
        """Segment what the prompts show on the image that is set.

        Args:
            box: (x0, y0, x1, y1) in pixels of the image.
            points: (x, y) in pixels of the image.
            labels: Of the points: 1 inside, 0 outside; all inside if left out.
            structure: Id of a structure of the taxonomy, for a model that knows structures.
            mask: (h, w) of the image, a mask to improve.
            former: `Prediction.logits` of the prediction that the points correct.
            refine: 1 predicts twice as the published evaluation does, or takes the second look; 0 predicts once.
            postprocess: "paper" thresholds before upscaling as the original software, "sharp" after it.

        Raises:
            UsageError: For prompts that say nothing, lie outside of the image, or that the model does not know.
        """
        if self.encoded is None:
            raise UsageError("No image is set.", next="predictor.set_image(picture)")
        if mask is not None:
            if mask.shape != self.encoded.shape or not mask.any():
                raise UsageError(f"A mask prompt of shape {mask.shape} does not fit the image, or is empty.")
            x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
            box = (x, y, x + width, y + height) if box is None else box
            former = self._fed(mask)
        xy, kinds = self._prompt(self.encoded, box, points, labels, structure)
        fed = None if former is None else torch.from_numpy(former)[None]
        return self.segment(self.encoded, xy, kinds, refine=refine, postprocess=postprocess, former=fed)[0]

    def _fed(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """A mask of the image as logits of the whole frame, as `Prediction.logits` has them."""
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
                f"The model knows no structure {structure}." if known else "The model knows no structures by name.",
                next="us43d predict IMAGE --box x0,y0,x1,y1",
            )
        if box is None and not points and structure is None:
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
        """Segment P prompts on one image.

        Without refinement the best of masks 1–3 by predicted IoU is taken. With it, mask 0 of a first pass is fed back;
        prompts with a box are given again, and prompts without one are replaced by the box of the first pass's mask. A
        model with a second look takes that instead: on the window of the box, or of the first mask.

        Args:
            encoded: The image.
            points: (P, N, 2) of the network's input.
            labels: (P, N) int, as `UltraSam.decode` takes them.
            refine: 0 or 1.
            postprocess: As in `predict`.
            former: `Prediction.logits` (P, …) of earlier predictions that the prompts correct; they are fed back.
        """
        predictions = []
        step = at_once(encoded.shape)
        for start in range(0, len(points), step):
            rows = slice(start, start + step)
            fed = None if former is None else former[rows].to(device=self.device, dtype=self.dtype)
            run = self._looked if self.model.second_look is not None and refine else self._decoded
            found = run(encoded, points[rows], labels[rows], refine, fed)
            masks = self.masks(found, encoded, postprocess)
            whole = found.whole.float().cpu().numpy()
            rated = zip(masks, found.score.tolist(), whole, found.presence.tolist(), strict=True)
            predictions += [Prediction(mask, score, logits, present) for mask, score, logits, present in rated]
        return predictions

    def _first(
        self, encoded: Encoded, points: Tensor, labels: Tensor, former: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One pass: logits (P, M, 4G, 4G), predicted IoU (P, M), presence (P,)."""
        mask = None
        if former is not None:
            side = self.model.config.mask_size
            mask = (
                former[:, None]
                if former.shape[-1] == side
                else F.interpolate(former[:, None], (side, side), mode="area")
            )
        features = encoded.features.expand(len(points))
        logits, iou, presence = self.model.decode(features, points, labels, mask)
        named = (labels >= STRUCTURE).any(1)
        ones = torch.ones(len(points), device=logits.device)
        return logits, iou, ones if presence is None else torch.where(named, presence.float().sigmoid(), ones)

    def _decoded(self, encoded: Encoded, points: Tensor, labels: Tensor, refine: int, former: Tensor | None) -> _Masks:
        """The mask chosen for each prompt, by the decoder alone."""
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
        """The masks of the second look.

        Prompts without a box whose mask has no window yet look twice: the first time around the first mask, then around
        what was found there.
        """
        second = self.model.second_look
        assert second is not None
        logits, _, presence = self._first(encoded, points, labels, former)
        first = logits[:, 0]
        boxed = (labels == UPPER_LEFT).any(1)
        around = first.float() if former is None else former.float()
        windows = self._windows(around, points, labels)
        refined, iou = self._look(encoded, windows, points, labels, first, former)
        whole = look.paste(refined.float(), windows, self.model.config.image_size)
        again = (~boxed).nonzero()[:, 0]
        if former is None and len(again):
            windows[again] = self._windows(whole[again], points[again], labels[again])
            refined[again], iou[again] = self._look(
                encoded, windows[again], points[again], labels[again], first[again], None
            )
            whole[again] = look.paste(refined[again].float(), windows[again], self.model.config.image_size)
        return _Masks(refined, windows, whole, iou.float(), presence)

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
        crops = [_standard(look.crop(encoded.pixels, window, side)) for window in windows.cpu().numpy()]
        batch = torch.stack(crops).to(device=self.device, dtype=self.dtype)
        return second(batch, windows, points, labels, first, former)

    def _windows(self, logits: Tensor, points: Tensor, labels: Tensor) -> Tensor:
        """Windows (P, 4) of the second look: around the box of a prompt, else around its mask and its clicks inside.

        logits: (P, h, h) of the whole frame.
        """
        side = self.model.config.image_size
        places = ((points - 0.5) / side).cpu().numpy()
        kinds = labels.cpu().numpy()
        found = (logits > 0).cpu().numpy()
        windows = []
        for row in range(len(points)):
            box = places[row][np.isin(kinds[row], (UPPER_LEFT, LOWER_RIGHT))]
            inside = places[row][kinds[row] == POSITIVE]
            if len(box) == 0:
                x, y, width, height = cv2.boundingRect(found[row].view(np.uint8))
                if width:
                    box = np.array([[x, y], [x + width, y + height]]) / found.shape[-1]
                else:  # an empty mask has no box: a window about the click, else the whole frame
                    box = (
                        inside[:1] + np.array([[-0.15], [0.15]]) if len(inside) else np.array([[0.0, 0.0], [1.0, 1.0]])
                    )
            reach = np.concatenate([box, inside])
            windows.append(look.window(np.concatenate([reach.min(0), reach.max(0)]), (1, 1)))
        return torch.from_numpy(np.array(windows, np.float32)).to(self.device)

    def masks(self, found: _Masks, encoded: Encoded, postprocess: Postprocess) -> list[NDArray[np.bool_]]:
        """Logits → masks at the size of the image."""
        if found.windows is not None:
            pairs = zip(found.logits.float().cpu().numpy(), found.windows.cpu().numpy(), strict=True)
            return [_placed(logits, window, encoded.shape) for logits, window in pairs]
        side = self.model.config.image_size
        low = (found.logits > 0).float() if postprocess == "paper" else found.logits.float()
        masks = []
        for one in low:  # singly, because a picture of many megapixels times many prompts does not fit
            up = F.interpolate(one[None, None], (side, side), mode="bilinear", align_corners=False)
            up = up[:, :, : encoded.inner[0], : encoded.inner[1]]
            up = F.interpolate(up, encoded.shape, mode="bilinear", align_corners=False)
            masks.append((up[0, 0] > 0).cpu().numpy())
        return masks


def _placed(logits: NDArray[np.float32], window: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (h, w) of the image from logits (s, s) of a window, interpolated; nothing outside of the window."""
    rows, columns = shape
    x0, y0, x1, y1 = np.asarray(window, np.float64) * (columns, rows, columns, rows)
    left, top = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
    right, bottom = min(int(np.ceil(x1)), columns), min(int(np.ceil(y1)), rows)
    mask = np.zeros(shape, bool)
    if right > left and bottom > top:
        across, down = logits.shape[1] / (x1 - x0), logits.shape[0] / (y1 - y0)
        matrix = np.array([[across, 0, (left + 0.5 - x0) * across - 0.5], [0, down, (top + 0.5 - y0) * down - 0.5]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        inside = cv2.warpAffine(
            logits, matrix, (right - left, bottom - top), flags=how, borderMode=cv2.BORDER_REPLICATE
        )
        mask[top:bottom, left:right] = inside > 0
    return mask


def _box(mask: NDArray[np.bool_]) -> Tensor:
    """(x0, y0, x1 + 1, y1 + 1) of a mask's pixels, zeros if it is empty."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return torch.tensor([x, y, x + width, y + height], dtype=torch.float64) * (width > 0)
