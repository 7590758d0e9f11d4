"""The model beside a person who labels: images encoded ahead in a thread, a mask for every click, masks carried on."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.errors import Us43dError
from us43d.masks.distance import exact

if TYPE_CHECKING:
    from us43d.model.predictor import Encoded, Predictor

__all__ = ["Answer", "Assistant", "Prompt", "between", "pairs"]

#: Encoded images kept; one of ViT-B takes 4 MB.
_ENCODED = 64
#: Logits kept, so that a click corrects the mask before it.
_LOGITS = 256
#: A predicted mask is taken over from another frame if it overlaps what is expected by this IoU.
_AGREES = 0.5
#: Points along each side, by which the uncertainty of an image is estimated.
_GRID = 3

Mask = NDArray[np.bool_]


class Prompt(NamedTuple):
    """box: x0, y0, x1, y1. points: (x, y). labels: 1 inside, 0 outside. Coordinates as of `Predictor.predict`."""

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()


class Answer(NamedTuple):
    """mask: (h, w) bool. score: the IoU the model expects."""

    mask: Mask
    score: float


class Assistant:
    """A model in a thread of its own. load: makes the predictor. read: number → pixels of an image."""

    def __init__(self, load: Callable[[], "Predictor"], read: Callable[[int], NDArray[np.uint8]]) -> None:
        self._load, self._read = load, read
        self._encoded: OrderedDict[int, Encoded] = OrderedDict()
        self._logits: OrderedDict[tuple[int, Prompt], NDArray[np.float32]] = OrderedDict()
        self._wanted: list[int] = []
        self._turn = threading.Condition()
        self._decoding = threading.Lock()
        self._ended = False
        self.failure: Us43dError | None = None
        self._failed: dict[int, Us43dError] = {}
        self._predictor: Predictor | None = None
        self._thread = threading.Thread(target=self._work, name="us43d-encoder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._turn:
            self._ended = True
            self._turn.notify_all()
        self._thread.join()  # an interpreter that ends while a thread imports torch aborts

    def ahead(self, numbers: Iterable[int]) -> None:
        """Encode these images next, in this order, in place of what was wanted before."""
        with self._turn:
            self._wanted = [number for number in numbers if number not in self._encoded]
            self._turn.notify_all()

    def _work(self) -> None:
        try:
            self._predictor = self._load()
        except Us43dError as error:
            with self._turn:
                self.failure = error
                self._turn.notify_all()
            return
        while True:
            with self._turn:  # an end that came while the model was loading ends it here
                while not self._wanted and not self._ended:
                    self._turn.wait()
                if self._ended:
                    return
                number = self._wanted.pop(0)
                if number in self._encoded:
                    continue
            try:
                encoded = self._predictor.encode(self._read(number))
            except Us43dError as error:
                with self._turn:
                    self._failed[number] = error
                    self._turn.notify_all()
                continue
            with self._turn:
                self._encoded[number] = encoded
                while len(self._encoded) > _ENCODED:
                    self._encoded.popitem(last=False)
                self._turn.notify_all()

    def _of(self, number: int) -> "tuple[Predictor, Encoded]":
        """Return the predictor and the encoding of an image, once it exists; raises what encoding raised."""
        with self._turn:
            while number not in self._encoded:
                if self.failure or number in self._failed:
                    raise self.failure or self._failed.pop(number)
                if number not in self._wanted[:1]:
                    self._wanted = [number, *(other for other in self._wanted if other != number)]
                    self._turn.notify_all()
                self._turn.wait()
            self._encoded.move_to_end(number)
            predictor, encoded = self._predictor, self._encoded[number]
        assert predictor is not None  # it encoded the image
        return predictor, encoded

    # ------------------------------------------------------------------------------------------------------- predicting

    def predict(self, number: int, prompt: Prompt) -> Answer:
        """Return the mask for a prompt. Every click after the first corrects the mask of the earlier clicks.

        Raises UsageError for a prompt outside of the image.
        """
        predictor, encoded = self._of(number)
        with self._decoding:
            first = 0 if prompt.box else 1
            answer = None
            for count in range(first, len(prompt.points) + 1):
                partial = prompt._replace(points=prompt.points[:count], labels=prompt.labels[:count])
                if count < len(prompt.points) and (number, partial) in self._logits:
                    continue
                before = partial._replace(points=partial.points[:-1], labels=partial.labels[:-1])
                former = self._logits.get((number, before)) if count > first else None
                predictor.encoded = encoded
                answer = predictor.predict(box=partial.box, points=partial.points, labels=partial.labels, former=former)
                self._logits[number, partial] = answer.logits
                while len(self._logits) > _LOGITS:
                    self._logits.popitem(last=False)
        if answer is None:  # no box and no point: the predictor raises
            answer = predictor.predict(box=None)
        return Answer(answer.mask, answer.score)

    def followed(self, origin: int, number: int, mask: Mask) -> Answer:
        """Return a mask of one frame on a later one, as `us43d.model.propagate` follows it through a clip."""
        from us43d.model.predictor import Prediction
        from us43d.model.propagate import Tracker

        predictor, encoded = self._of(number)
        first = Prediction(mask, 1.0, np.zeros((1, 1), np.float32))
        with self._decoding:
            now = Tracker(predictor, first, self._read(origin)).follow(self._read(number), encoded)
        return Answer(now.mask, now.memory if now.lost else now.score)

    def carried(self, number: int, expected: Mask) -> Answer:
        """Return a mask expected from neighbouring frames, sharpened by the model where the two agree.

        The model is asked with boxes of several sizes, so that a mask can grow, shrink and move.
        """
        from us43d.model.propagate import MARGINS, box_of

        if min(cv2.boundingRect(np.ascontiguousarray(expected).view(np.uint8))[2:]) < 2:
            return Answer(expected, 0.0)
        answers = []
        for margin in MARGINS:
            x0, y0, x1, y1 = box_of(expected, margin).tolist()
            answer = self.predict(number, Prompt((x0, y0, x1, y1)))
            shared = float((answer.mask & expected).sum()) / max(1, float((answer.mask | expected).sum()))
            answers.append((answer.score, shared, answer))
        good = [entry for entry in answers if entry[1] >= _AGREES]
        if not good:
            return Answer(expected, max(shared for _, shared, _ in answers))
        return max(good, key=lambda entry: entry[:2])[2]

    def certainty(self, number: int) -> float:
        """Return the best IoU the model predicts on a grid of points; low for unfamiliar images."""
        rows, columns = self._of(number)[1].shape
        cells = [(i + 0.5, j + 0.5) for i in range(_GRID) for j in range(_GRID)]
        places = [(x * columns / _GRID - 0.5, y * rows / _GRID - 0.5) for x, y in cells]
        return max(self.predict(number, Prompt(None, (place,), (1,))).score for place in places)


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


def between(first: Mask, last: Mask, steps: int) -> list[Mask]:
    """Return the masks of the `steps` frames between two: signed distances to the outline, blended linearly.

    Both are laid on the place between their centres first, so that an object that has moved keeps its size.
    """
    one, other = _distance(first), _distance(last)
    start, end = (np.argwhere(mask).mean(0)[::-1] for mask in (first, last))
    masks = []
    for weight in ((n + 1) / (steps + 1) for n in range(steps)):
        place = (1 - weight) * start + weight * end
        blended = (1 - weight) * _moved(one, place - start) + weight * _moved(other, place - end)
        masks.append(np.asarray(blended > 0))
    return masks


def _moved(distance: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float32]:
    """Move by (x, y) pixels."""
    moved = cv2.warpAffine(
        distance, np.column_stack([np.eye(2), by]), distance.shape[::-1], borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.float32)


def _distance(mask: Mask) -> NDArray[np.float32]:
    """Return the distance to the outline in pixels, positive inside."""
    inside = np.ascontiguousarray(mask).view(np.uint8)

    def depth(region: NDArray[Any]) -> NDArray[np.float32]:
        return exact(cv2.distanceTransform(region, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)).astype(np.float32)

    return np.asarray(depth(inside) - depth(1 - inside), np.float32)
