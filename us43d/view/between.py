"""Objects on the frames between two labelled ones: followed from both, or interpolated where no model is at hand."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.coco.segmentation import encode
from us43d.masks import rle
from us43d.masks.distance import signed
from us43d.view.assistant import Answer, Assistant, Mask

if TYPE_CHECKING:
    from us43d.model.propagate import Tracker

__all__ = ["Gap", "interpolated", "pairs"]


class Gap:
    """The frames between two labelled ones of a clip.

    Every object is followed from both frames (`us43d.model.propagate`), and the signed distances of the two masks are
    averaged, weighted by the number of frames to the other end (docs/benchmarks.md, Clips). Where one way has lost the
    object, the other counts alone; where both have, or without a model, its outline is interpolated.

    Args:
        assistant: Follows the objects; None for interpolation.
        first: Number of the labelled frame before the gap.
        last: Number of the labelled frame after it.
        objects: Masks (h, w) bool of each object on both frames, not empty.
    """

    def __init__(
        self, assistant: Assistant | None, first: int, last: int, objects: Sequence[tuple[Mask, Mask]]
    ) -> None:
        self.first, self.last, self.objects = first, last, objects
        self.ways = None
        if assistant and objects:
            ones, others = zip(*objects, strict=True)
            self.ways = _Way(assistant, first, 1, ones), _Way(assistant, last, -1, others)

    def back(self, number: int) -> None:
        """Follow the objects from the last frame back to this one; `at` does it where that was not done before."""
        if self.ways:
            self.ways[1].at(number)

    def at(self, number: int) -> list[Answer]:
        """Return the objects on a frame of the gap; a mask may be empty. The score is the IoU of both ways."""
        weight = (number - self.first) / (self.last - self.first)
        if self.ways is None:
            return [Answer(interpolated(one, other, weight), 0.0) for one, other in self.objects]
        forth, back = (way.at(number) for way in self.ways)
        return [_joined(one, other, weight, ends) for one, other, ends in zip(forth, back, self.objects, strict=True)]


def _joined(one: Mask | None, other: Mask | None, weight: float, ends: tuple[Mask, Mask]) -> Answer:
    """Join the masks of both ways; None is an object that a way has lost."""
    if one is None or other is None:
        way = one if one is not None else other
        return Answer(interpolated(*ends, weight) if way is None else way, 0.0)
    mask = (1 - weight) * signed(one) + weight * signed(other) > 0
    return Answer(np.asarray(mask), float((one & other).sum() / (one | other).sum()))  # neither is empty


class _Way:
    """Objects followed from one labelled frame, step by step, towards the other.

    step: 1 forwards, −1 backwards.
    """

    def __init__(self, assistant: Assistant, start: int, step: int, masks: Iterable[Mask]) -> None:
        self.assistant, self.reached, self.step = assistant, start, step
        self.trackers: list[Tracker] = [assistant.tracker(start, mask) for mask in masks]
        self.shape = self.trackers[0].level.shape
        self._runs: dict[int, list[bytes | None]] = {}  # compressed: a long gap has many masks

    def at(self, number: int) -> list[Mask | None]:
        """Return the masks on a frame, after all frames up to it; None for lost objects."""
        while number not in self._runs:
            now = self.assistant.follow(self.trackers, self.reached + self.step)
            self.reached += self.step
            self._runs[self.reached] = [None if one.lost else encode(one.mask) for one in now]
        height, width = self.shape
        return [None if runs is None else rle.decode(runs, height, width) for runs in self._runs[number]]


def pairs(first: Sequence[tuple[str, Mask]], last: Sequence[tuple[str, Mask]]) -> list[tuple[str, Mask, Mask]]:
    """Pair the objects of two frames within their structure: largest IoU, and between equal ones the nearest centres.

    Args:
        first: (structure, mask) of a frame; masks are (h, w) bool and not empty.
        last: Those of another frame.

    Returns:
        (structure, mask in the first, mask in the last frame). The objects that a frame has more are in no pair.
    """
    from scipy.optimize import linear_sum_assignment

    paired = []
    for structure in dict.fromkeys(name for name, _ in first):
        ones, others = ([mask for name, mask in frame if name == structure] for frame in (first, last))
        cost = np.array([[_apart(one, other) for other in others] for one in ones])
        if cost.size:
            paired += [(structure, ones[n], others[m]) for n, m in zip(*linear_sum_assignment(cost), strict=True)]
    return paired


def _apart(one: Mask, other: Mask) -> float:
    """Return the distance of centres as a part of the diagonal, at most 1, minus the IoU, which counts tenfold."""
    apart = np.argwhere(one).mean(0) - np.argwhere(other).mean(0)
    iou = np.count_nonzero(one & other) / np.count_nonzero(one | other)
    return float(np.hypot(*apart) / np.hypot(*one.shape) - 10 * iou)


def interpolated(first: Mask, last: Mask, weight: float) -> Mask:
    """Return the mask between two: signed distances to the outline, blended linearly.

    Both are laid on the place between their centres first, so that an object that has moved keeps its size.

    Args:
        first: (h, w) bool, not empty.
        last: (h, w) bool, not empty.
        weight: Place between them, 0 to 1.
    """
    start, end = (np.argwhere(mask).mean(0)[::-1] for mask in (first, last))
    place = (1 - weight) * start + weight * end
    one, other = _moved(signed(first), place - start), _moved(signed(last), place - end)
    return np.asarray((1 - weight) * one + weight * other > 0)


def _moved(distance: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float32]:
    """Move by (x, y) pixels."""
    moved = cv2.warpAffine(
        distance, np.column_stack([np.eye(2), by]), distance.shape[::-1], borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.float32)
