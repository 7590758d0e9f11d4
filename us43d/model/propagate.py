"""Follow an object through a clip.

The signed distance from the first mask's boundary, whose zero is finer than pixels, moves with dense optical flow (DIS;
Kroeger et al., ECCV 2016). Flows from frame to frame are added up, and their sum is where the flow between the first
frame and this one starts: errors of single flows do not add up, however long the clip. The shown mask lies a part of
the way to the network's answer to the box of the moved one. Where the two flows come apart, as the image no longer
resembles the first frame, the mask moves from the last frame alone, and this frame takes the first one's place.

Where flow is not reliable at all (forward and backward flow between two frames disagree along the mask's boundary), the
network segments the frame with boxes of the previous mask, made smaller and larger by margins. Among the masks that
agree with those of the last frames (the memory), the one with the highest predicted IoU is used. A frame without an
agreeing mask keeps the mask of the previous frame and is marked as lost; the next one is compared with the frame before
it, so that one bad frame does not lose the object. docs/benchmarks.md compares these steps.
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
UNRELIABLE = 0.07
#: Share of the way to the network's answer, and the IoU with it from which on the boundary moves.
_PULL, _NEAR = 0.2, 0.5
#: Median distance, along the boundary, between the flow to the first frame and the sum of those between, from which on
#: this frame takes the first one's place; as a fraction of the root of the mask's area.
_APART = 0.2
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
        self._start(_smooth(frame), signed(first.mask))

    def _start(self, frame: NDArray[np.uint8], level: NDArray[np.float32]) -> None:
        """Follow the mask from this frame on. frame: (h, w) blurred. level: (h, w) signed distances."""
        self.before = self.origin = frame
        self.level = self.first = level
        self.flow = np.zeros((*level.shape, 2), np.float32)  # from here to the origin

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
        back, error = _flow(now, self.before, self.level)
        if error < UNRELIABLE * np.sqrt(max(1, (self.level > 0).sum())):
            level = self._moved(now, back)
            if (level > 0).any():
                return self._shown(now, level, encoded)
        candidates = _answers(self.predictor, encoded, self.memory[-1], MARGINS)
        agreed = [_agreement(one.mask, self.memory) for one in candidates]
        # The highest predicted IoU among agreeing masks: the best agreement would hold back a moving object.
        good = [n for n, value in enumerate(agreed) if value >= AGREES]
        if not good:
            best = int(np.argmax(agreed))
            return Tracked(self.memory[-1], candidates[best].score, agreed[best], True)
        best = max(good, key=lambda n: (candidates[n].score, n))
        self.memory.append(candidates[best].mask)
        self._start(now, signed(candidates[best].mask))
        return Tracked(candidates[best].mask, candidates[best].score, agreed[best], False)

    def _moved(self, now: NDArray[np.uint8], back: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move the signed distances to the frame `now`, by the flow to the origin where it can be trusted.

        back: (h, w, 2), x and y of the flow from `now` to the frame before.
        """
        added = np.asarray(back + _warped(self.flow, back), np.float32)
        flow = np.asarray(_DIS().calc(now, self.origin, added.copy()), np.float32)
        level = _warped(self.first, flow)
        self.before = now
        if _along(level, flow - added) < _APART * np.sqrt(max(1, (level > 0).sum())):
            self.flow = flow
            return level
        level = _warped(self.level, back)
        self._start(now, level)
        return level

    def _shown(self, now: NDArray[np.uint8], level: NDArray[np.float32], encoded: Encoded) -> Tracked:
        """Pull a moved mask towards the network's answer; a mask that starts here is followed from there."""
        mask = level > 0
        (answer,) = _answers(self.predictor, encoded, mask, (0.0,))
        if _iou(mask, answer.mask) >= _NEAR:
            level = (1 - _PULL) * level + _PULL * signed(answer.mask)
            mask = level > 0
        self.level = level
        if self.origin is now:
            self.first = level
        agreement = _agreement(mask, self.memory)
        self.memory.append(mask)
        return Tracked(mask, answer.score, agreement, False)


def _smooth(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert a frame to blurred grey values (h, w)."""
    grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), _BLUR), np.uint8)


def _DIS() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _warped(values: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Read an array (h, w, …) where the flow (h, w, 2) of each pixel points."""
    rows, columns = np.indices(flow.shape[:2], np.float32)
    x, y = columns + flow[:, :, 0], rows + flow[:, :, 1]
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _flow(
    now: NDArray[np.uint8], before: NDArray[np.uint8], level: NDArray[np.float32]
) -> tuple[NDArray[np.float32], float]:
    """Compute the flow from a frame to the one before.

    Returns:
        (h, w, 2) in pixels, and the median disagreement of forward and backward flow along the boundary of the mask
        whose signed distances on the frame before are `level`; infinite without a boundary.
    """
    back: NDArray[np.float32] = _DIS().calc(now, before, None)  # type: ignore[call-overload]
    forth: NDArray[np.float32] = _DIS().calc(before, now, None)  # type: ignore[call-overload]
    return back, _along(_warped(level, back), back + _warped(forth, back))


def _along(level: NDArray[np.float32], gap: NDArray[np.float32]) -> float:
    """Compute the median length of vectors (h, w, 2) along a mask's boundary; infinite without a boundary."""
    edge = cv2.morphologyEx((level > 0).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    return float(np.median(np.hypot(gap[:, :, 0], gap[:, :, 1])[edge])) if edge.any() else float("inf")


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
