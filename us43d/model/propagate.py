"""Follow an object through a clip.

The signed distance from the mask's boundary, whose zero is finer than pixels, moves with dense optical flow (DIS;
Kroeger et al., ECCV 2016) from frame to frame. Small errors of the flow add
up in long clips. The network therefore segments every frame with the box of the moved mask, and the boundary moves a
tenth of the way to its answer: a network fills the box it is given, so that its answers alone would drift, too. Where
the flow is not reliable (forward and backward flow disagree along the mask's boundary), the network segments the frame
with boxes of the previous mask, made smaller and larger by margins. Among the masks that agree with those of the last
frames (the memory), the one with the highest predicted IoU is used, so that one bad frame does not lose the object. A
frame without an agreeing mask keeps the mask of the previous frame and is marked as lost. docs/benchmarks.md compares
these steps.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from us43d.errors import UsageError
from us43d.masks.distance import signed
from us43d.model.geometry import box_prompts
from us43d.model.predictor import Encoded, Prediction, Predictor

__all__ = ["MARGINS", "MEMORY", "UNRELIABLE", "Tracked", "Tracker", "box_of"]

#: Number of frames in the memory.
MEMORY = 3
#: Margins of the boxes that prompt a frame, as fractions of the box's sides (docs/benchmarks.md compares them).
MARGINS = (-0.1, 0.03, 0.12)
#: Smallest IoU with the memory at which a mask counts as the same object.
AGREES = 0.3

#: Median disagreement of forward and backward flow along the boundary from which on the flow is not used, as a fraction
#: of the root of the mask's area.
UNRELIABLE = 0.02
#: Share of the way to the network's answer, and the IoU with it from which on the boundary moves.
_PULL, _NEAR = 0.1, 0.5
#: Standard deviation of the blur before the flow, in pixels: speckle noise differs from frame to frame.
_BLUR = 4.0

Mask = NDArray[np.bool_]


class Tracked(NamedTuple):
    """The object on a frame.

    Attributes:
        mask: (h, w) bool.
        score: Predicted IoU of the network's mask of this frame.
        memory: IoU with the masks in the memory; 1 on the first frame.
        lost: No mask agreed with the memory; the mask is that of the previous frame.
    """

    mask: Mask
    score: float
    memory: float
    lost: bool


class Tracker:
    """Follow a mask through the frames after the one it was predicted on.

    Args:
        predictor: Segments the frames.
        first: Prediction on the first frame.
        frame: The first frame, (h, w) or (h, w, 3) uint8.

    Raises:
        UsageError: The first mask is empty.
    """

    def __init__(self, predictor: Predictor, first: Prediction, frame: NDArray[np.uint8]) -> None:
        if not first.mask.any():
            raise UsageError("The mask of the prompt on the first frame is empty; no object can be followed.")
        self.predictor = predictor
        self.memory: deque[Mask] = deque([first.mask], MEMORY)
        self.before = _smooth(frame)
        self.level = signed(first.mask)

    def follow(self, frame: NDArray[np.uint8], encoded: Encoded | None = None) -> Tracked:
        """Segment the next frame.

        Args:
            frame: (h, w) or (h, w, 3) uint8.
            encoded: The frame as the predictor encodes it, if it has done so.

        Raises:
            UsageError: The frame has another size than the first.
        """
        if frame.shape[:2] != self.memory[-1].shape:
            rows, columns = frame.shape[:2]
            height, width = self.memory[-1].shape
            raise UsageError(f"A frame has {columns} × {rows} pixels, the previous frame {width} × {height}.")
        now, encoded = _smooth(frame), encoded or self.predictor.encode(frame)
        level, error = _moved(self.level, self.before, now)
        self.before, mask = now, level > 0
        if mask.any() and error < UNRELIABLE * np.sqrt(mask.sum()):
            (answer,) = _answers(self.predictor, encoded, mask, (0.0,))
            if _iou(mask, answer.mask) >= _NEAR:
                level = (1 - _PULL) * level + _PULL * signed(answer.mask)
                mask = level > 0
            self.level = level
            agreement = _agreement(mask, self.memory)
            self.memory.append(mask)
            return Tracked(mask, answer.score, agreement, False)
        candidates = _answers(self.predictor, encoded, self.memory[-1], MARGINS)
        agreed = [_agreement(one.mask, self.memory) for one in candidates]
        # The highest predicted IoU among agreeing masks: the best agreement would hold back a moving object.
        good = [n for n, value in enumerate(agreed) if value >= AGREES]
        if not good:
            best = int(np.argmax(agreed))
            return Tracked(self.memory[-1], candidates[best].score, agreed[best], True)
        best = max(good, key=lambda n: (candidates[n].score, n))
        self.memory.append(candidates[best].mask)
        self.level = signed(candidates[best].mask)
        return Tracked(candidates[best].mask, candidates[best].score, agreed[best], False)


def _smooth(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert a frame to blurred grey values (h, w)."""
    grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), _BLUR), np.uint8)


def _moved(
    level: NDArray[np.float32], before: NDArray[np.uint8], now: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], float]:
    """Move signed distances by the optical flow between two frames.

    Returns:
        The distances on the second frame, and the median disagreement of forward and backward flow along the boundary
        in pixels; infinite without a boundary.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, forth = flow.calc(now, before, None), flow.calc(before, now, None)  # type: ignore[call-overload]
    rows, columns = np.indices(level.shape, np.float32)
    x, y = columns + back[:, :, 0], rows + back[:, :, 1]
    moved = np.asarray(cv2.remap(level, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
    edge = cv2.morphologyEx((moved > 0).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    if not edge.any():
        return moved, float("inf")
    gap = back + cv2.remap(forth, x, y, cv2.INTER_LINEAR)
    return moved, float(np.median(np.hypot(gap[:, :, 0], gap[:, :, 1])[edge]))


def _answers(predictor: Predictor, encoded: Encoded, around: Mask, margins: Sequence[float]) -> list[Prediction]:
    """Segment a frame with boxes around a mask."""
    boxes = np.stack([box_of(around, margin) for margin in margins])
    points, labels = box_prompts(torch.from_numpy(boxes), encoded.scale)
    return predictor.segment(encoded, points.to(predictor.device), labels.to(predictor.device))


def box_of(mask: Mask, margin: float) -> NDArray[np.float64]:
    """Compute the box (x0, y0, x1, y1) of a mask, extended by a fraction of its sides and clipped to the image."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    wide, high = margin * width, margin * height
    return np.clip(
        np.array([x - wide, y - high, x + width + wide, y + height + high]), 0, (*mask.shape[::-1], *mask.shape[::-1])
    )


def _agreement(mask: Mask, memory: Sequence[Mask]) -> float:
    """Compute the mean IoU with the masks in the memory; the last one weighs as much as all others together."""
    shares = [_iou(mask, other) for other in memory]
    return float(shares[-1] if len(shares) == 1 else 0.5 * shares[-1] + 0.5 * np.mean(shares[:-1]))


def _iou(mask: Mask, other: Mask) -> float:
    either = int((mask | other).sum())
    return int((mask & other).sum()) / either if either else 0.0
