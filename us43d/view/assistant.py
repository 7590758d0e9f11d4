"""The model beside a person who labels: images encoded ahead in a thread, a mask for every click, objects followed."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d.errors import Us43dError

if TYPE_CHECKING:
    from us43d.model.predictor import Encoded, Predictor
    from us43d.model.propagate import Tracked, Tracker

__all__ = ["Answer", "Assistant", "Mask", "Prompt"]

#: Encoded images kept; one of ViT-B takes 4 MB.
_ENCODED = 64
#: Logits kept, so that a click corrects the mask before it.
_LOGITS = 256
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

    def tracker(self, number: int, mask: Mask) -> "Tracker":
        """Make a tracker of an object from its mask on an image; `follow` asks it for other frames."""
        from us43d.model.predictor import Prediction
        from us43d.model.propagate import Tracker

        predictor, _ = self._of(number)
        return Tracker(predictor, Prediction(mask, 1.0, np.zeros((1, 1), np.float32)), self._read(number))

    def follow(self, trackers: "Iterable[Tracker]", number: int) -> "list[Tracked]":
        """Follow objects to the next frame. Raises UsageError for a frame of another size."""
        _, encoded = self._of(number)
        frame = self._read(number)
        with self._decoding:
            return [tracker.follow(frame, encoded) for tracker in trackers]

    def certainty(self, number: int) -> float:
        """Return the best IoU the model predicts on a grid of points; low for unfamiliar images."""
        rows, columns = self._of(number)[1].shape
        cells = [(i + 0.5, j + 0.5) for i in range(_GRID) for j in range(_GRID)]
        places = [(x * columns / _GRID - 0.5, y * rows / _GRID - 0.5) for x, y in cells]
        return max(self.predict(number, Prompt(None, (place,), (1,))).score for place in places)
