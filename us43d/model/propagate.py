"""Follow an object through a clip: the mask of a frame prompts the next frame.

Each frame is segmented with boxes of the previous mask, made smaller and larger by margins: a model fills the box it is
given, so that with larger boxes alone a mask could not shrink. Among the masks that agree with those of
the last frames (the memory), the one with the highest predicted IoU is used, so that one bad frame does not lose the
object. A frame without an agreeing mask keeps the mask of the previous frame and is marked as lost.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from us43d.errors import UsageError
from us43d.model.geometry import box_prompts
from us43d.model.predictor import Prediction, Predictor

__all__ = ["MARGINS", "MEMORY", "Tracked", "Tracker", "box_of"]

#: Number of frames in the memory.
MEMORY = 3
#: Margins of the boxes that prompt a frame, as fractions of the box's sides (docs/benchmarks.md compares them).
MARGINS = (-0.1, 0.03, 0.12)
#: Smallest IoU with the memory at which a mask counts as the same object.
AGREES = 0.3

Mask = NDArray[np.bool_]


class Tracked(NamedTuple):
    """The object on a frame.

    Attributes:
        mask: (h, w) bool.
        score: Predicted IoU.
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

    Raises:
        UsageError: The first mask is empty.
    """

    def __init__(self, predictor: Predictor, first: Prediction) -> None:
        if not first.mask.any():
            raise UsageError("The mask of the prompt on the first frame is empty; no object can be followed.")
        self.predictor = predictor
        self.memory: deque[Mask] = deque([first.mask], MEMORY)

    def follow(self, frame: NDArray[np.uint8]) -> Tracked:
        """Segment the next frame, (h, w) or (h, w, 3) uint8. Raises UsageError for a frame of another size."""
        if frame.shape[:2] != self.memory[-1].shape:
            rows, columns = frame.shape[:2]
            height, width = self.memory[-1].shape
            raise UsageError(f"A frame has {columns} × {rows} pixels, the previous frame {width} × {height}.")
        candidates = _answers(self.predictor, frame, self.memory[-1])
        agreed = [_agreement(one.mask, self.memory) for one in candidates]
        # The highest predicted IoU among agreeing masks: the best agreement would hold back a moving object.
        good = [n for n, value in enumerate(agreed) if value >= AGREES]
        if not good:
            best = int(np.argmax(agreed))
            return Tracked(self.memory[-1], candidates[best].score, agreed[best], True)
        best = max(good, key=lambda n: (candidates[n].score, n))
        self.memory.append(candidates[best].mask)
        return Tracked(candidates[best].mask, candidates[best].score, agreed[best], False)


def _answers(predictor: Predictor, frame: NDArray[np.uint8], before: Mask) -> list[Prediction]:
    """Segment a frame with boxes around the previous mask."""
    encoded = predictor.encode(frame)
    boxes = np.stack([box_of(before, margin) for margin in MARGINS])
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
    shares: list[Any] = []
    for other in memory:
        either = int((mask | other).sum())
        shares.append(int((mask & other).sum()) / either if either else 0.0)
    return float(shares[-1] if len(shares) == 1 else 0.5 * shares[-1] + 0.5 * np.mean(shares[:-1]))
