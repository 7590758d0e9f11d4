"""One prompt through a clip: the mask of a frame prompts the next one.

Every frame is segmented by boxes about the mask before, widened by margins. Of the masks that agree with those of the
last frames (the memory) the one the model is surest of is taken, so that one bad frame does not carry the object away.
A frame on which no mask agrees keeps the mask of the frame before and is marked as lost.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from us43d.errors import UsageError
from us43d.model.predictor import Prediction, Predictor, box_prompts

__all__ = ["MARGINS", "MEMORY", "Tracked", "Tracker"]

#: Frames whose masks are remembered.
MEMORY = 3
#: Margins of the boxes tried on every frame, as a share of the box's sides.
MARGINS = (0.03, 0.12)
#: Least IoU with the memory at which a mask is taken for the same object.
AGREES = 0.3

Mask = NDArray[np.bool_]


class Tracked(NamedTuple):
    """mask: (h, w) bool. score: IoU the model expects. memory: IoU with the masks remembered, 1 on the first frame.
    lost: nothing that agrees was found, and the mask is that of the frame before."""

    mask: Mask
    score: float
    memory: float
    lost: bool


class Tracker:
    """Carries a mask through the frames that follow the one it was predicted on."""

    def __init__(self, predictor: Predictor, first: Prediction) -> None:
        """first: the prediction on the first frame. Raises UsageError if its mask is empty."""
        if not first.mask.any():
            raise UsageError("The prompt shows nothing on the first frame, so that there is nothing to follow.")
        self.predictor = predictor
        self.memory: deque[Mask] = deque([first.mask], MEMORY)

    def follow(self, frame: NDArray[np.uint8]) -> Tracked:
        """Segment the next frame, (h, w) or (h, w, 3) uint8. Raises UsageError if it has another size."""
        if frame.shape[:2] != self.memory[-1].shape:
            rows, columns = frame.shape[:2]
            height, width = self.memory[-1].shape
            raise UsageError(f"A frame has {columns} × {rows} pixels, the one before {width} × {height}.")
        found = _answers(self.predictor, frame, self.memory[-1])
        agreed = [_agreement(one.mask, self.memory) for one in found]
        # Among what agrees, the surest: preferring what agrees most would hold back an object that moves.
        good = [n for n, value in enumerate(agreed) if value >= AGREES]
        if not good:
            best = int(np.argmax(agreed))
            return Tracked(self.memory[-1], found[best].score, agreed[best], True)
        best = max(good, key=lambda n: (found[n].score, n))
        self.memory.append(found[best].mask)
        return Tracked(found[best].mask, found[best].score, agreed[best], False)


def _answers(predictor: Predictor, frame: NDArray[np.uint8], before: Mask) -> list[Prediction]:
    """What the boxes about a mask show on a frame."""
    encoded = predictor.encode(frame)
    boxes = np.stack([_box(before, margin) for margin in MARGINS])
    points, labels = box_prompts(torch.from_numpy(boxes), encoded.scale)
    return predictor.segment(encoded, points.to(predictor.device), labels.to(predictor.device))


def _box(mask: Mask, margin: float) -> NDArray[np.float64]:
    """(x0, y0, x1, y1) about a mask, wider by a share of its sides, cut at the border of the image."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    wide, high = margin * width, margin * height
    return np.clip(
        np.array([x - wide, y - high, x + width + wide, y + height + high]), 0, (*mask.shape[::-1], *mask.shape[::-1])
    )


def _agreement(mask: Mask, memory: Sequence[Mask]) -> float:
    """Mean IoU with the masks remembered, the last one counting as much as all before it."""
    shares: list[Any] = []
    for other in memory:
        either = int((mask | other).sum())
        shares.append(int((mask & other).sum()) / either if either else 0.0)
    return float(shares[-1] if len(shares) == 1 else 0.5 * shares[-1] + 0.5 * np.mean(shares[:-1]))
