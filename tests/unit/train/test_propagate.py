"""A prompt carried through a clip: by a model that knows what moves, through bad frames."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pytest
import torch

from us43d.errors import UsageError
from us43d.evaluate.metrics import overlap
from us43d.masks.distance import signed
from us43d.model import propagate as module
from us43d.model.layers import Features
from us43d.model.predictor import Encoded, Prediction, Predictor
from us43d.model.prompts import ellipse
from us43d.model.propagate import Tracked, Tracker


class Threshold(Predictor):
    """Finds what is bright inside of a box. blind: numbers of the frames on which it finds a corner instead."""

    def __init__(self, blind: tuple[int, ...] = ()) -> None:
        self.device, self.blind, self.frame = "cpu", blind, -1

    def encode(self, picture: np.ndarray) -> Encoded:
        self.frame += 1
        shape = (picture.shape[0], picture.shape[1])
        return Encoded(Features(torch.zeros(1)), shape, shape, picture)

    def segment(self, encoded, points, labels, *, refine=1, postprocess="sharp", former=None):
        found = []
        for (x0, y0), (x1, y1) in (points.numpy() - 0.5).tolist():
            mask = np.zeros(encoded.shape, bool)
            inside = np.s_[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)]
            mask[inside] = encoded.pixels[inside] > 128
            if self.frame in self.blind:
                mask = np.zeros(encoded.shape, bool)
                mask[:5, :5] = True
            found.append(Prediction(mask, 0.9, np.zeros((1, 1), np.float32)))
        return found


def follow(model: Predictor, frames: Iterable[np.ndarray], first: Prediction) -> list[Tracked]:
    frames = list(frames)
    tracker = Tracker(model, first, frames[0])
    return [tracker.follow(frame) for frame in frames]


def disc(x: float, radius: float = 15) -> np.ndarray:
    rows, columns = np.mgrid[:80, :160]
    return (columns - x) ** 2 + (rows - 40) ** 2 < radius**2


def clip(count: int) -> Iterator[np.ndarray]:
    for n in range(1, count + 1):
        frame = np.full((80, 160), 40, np.uint8)
        frame[disc(30 + 1.5 * n)] = 200
        frame[disc(150, 8)] = 200  # another bright thing that stays
        yield frame


@pytest.mark.usefixtures("no_flow")
def test_a_moving_disc_is_followed() -> None:
    start = Prediction(disc(30), 1.0, np.zeros((1, 1), np.float32))
    found = follow(Threshold(), clip(40), start)
    assert len(found) == 40
    for n, one in enumerate(found, 1):
        assert overlap(disc(30 + 1.5 * n), one.mask)[0] > 0.95
        assert not one.lost


class Filler(Threshold):
    """Fills the box with an ellipse, as networks do; the predicted IoU is the true one."""

    def segment(self, encoded, points, labels, *, refine=1, postprocess="sharp", former=None):
        found = []
        for box in (points.numpy() - 0.5).reshape(-1, 4):
            mask = ellipse(box, encoded.shape)
            score = overlap(encoded.pixels > 128, mask)[1]
            found.append(Prediction(mask, score, np.zeros((1, 1), np.float32)))
        return found


@pytest.fixture
def no_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNRELIABLE", 0.0)


@pytest.mark.usefixtures("no_flow")
@pytest.mark.parametrize("radii", [np.linspace(24, 12, 10), np.linspace(12, 24, 10)], ids=["shrinks", "grows"])
def test_an_object_that_changes_its_size_is_followed(radii: np.ndarray) -> None:
    frames = (np.where(disc(60, radius), 200, 40).astype(np.uint8) for radius in radii)
    start = Prediction(disc(60, radii[0]), 1.0, np.zeros((1, 1), np.float32))
    found = follow(Filler(), frames, start)
    assert min(overlap(disc(60, radius), one.mask)[0] for radius, one in zip(radii, found, strict=True)) > 0.85


@pytest.mark.usefixtures("no_flow")
def test_a_bad_frame_does_not_carry_the_object_away() -> None:
    start = Prediction(disc(30), 1.0, np.zeros((1, 1), np.float32))
    found = follow(Threshold(blind=(4, 5)), clip(10), start)
    assert [n for n, one in enumerate(found) if one.lost] == [4, 5]
    assert (found[5].mask == found[3].mask).all()
    assert overlap(disc(30 + 15), found[-1].mask)[0] > 0.8


def test_what_cannot_be_followed() -> None:
    empty = Prediction(np.zeros((80, 160), bool), 1.0, np.zeros((1, 1), np.float32))
    with pytest.raises(UsageError, match="on the first frame is empty"):
        follow(Threshold(), clip(1), empty)
    small = Prediction(np.ones((8, 8), bool), 1.0, np.zeros((1, 1), np.float32))
    with pytest.raises(UsageError, match="160 × 80"):
        follow(Threshold(), clip(1), small)


def test_boxes_stay_inside_of_the_image() -> None:
    mask = np.zeros((10, 20), bool)
    mask[:, 15:] = True
    assert module.box_of(mask, 0.5).tolist() == [12.5, 0, 20, 10]


def tissue(scale: float) -> np.ndarray:
    """Speckle that is scaled about the middle of a frame."""
    grains = cv2.GaussianBlur(np.random.default_rng(0).random((80, 160), np.float32), (0, 0), 1.5)
    pixels = cv2.normalize(grains, grains, 0, 255, cv2.NORM_MINMAX)
    matrix = cv2.getRotationMatrix2D((80, 40), 0, scale)
    return cv2.warpAffine(pixels, matrix, (160, 80), borderMode=cv2.BORDER_REFLECT).astype(np.uint8)


def test_a_mask_moves_with_the_tissue_and_not_with_the_network() -> None:
    """us43d-small followed still heads of real clips with masks that grew by 9 % a frame and fell back."""
    scales = np.linspace(1, 0.85, 8)
    start = Prediction(disc(80, 24), 0.7, np.zeros((1, 1), np.float32))
    found = follow(Threshold(blind=tuple(range(20))), [tissue(scale) for scale in scales], start)
    for scale, one in zip(scales, found, strict=True):
        assert overlap(disc(80, 24 * scale), one.mask)[0] > 0.93  # 0.84 unmoved
        assert (one.score, one.lost) == (0.9, False)  # the network's, of this frame


def test_the_shown_mask_is_pulled_towards_near_answers_of_the_network() -> None:
    frame = np.where(disc(80, 24), 200, 40).astype(np.uint8)
    beside = Prediction(disc(84, 24), 1.0, np.zeros((1, 1), np.float32))
    for one in follow(Threshold(), [frame] * 10, beside):
        assert overlap(one.mask, disc(84 - 4 / 5, 24))[0] > 0.98  # a fifth of the way, in every frame
        assert overlap(one.mask, disc(84, 24))[0] < 0.99
    far = follow(Threshold(blind=tuple(range(40))), [frame] * 5, beside)[-1]
    assert overlap(far.mask, beside.mask)[0] > 0.99


def noisy(scales: Iterable[float]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    speckle = (cv2.GaussianBlur(rng.normal(0, 1, (80, 160)), (0, 0), 1.5) for _ in scales)
    return [
        np.clip(tissue(scale) * (1 + 0.15 * noise / noise.std()), 0, 255).astype(np.uint8)
        for scale, noise in zip(scales, speckle, strict=True)
    ]


@pytest.mark.parametrize(("apart", "kept"), [(module._APART, True), (0.0, False)], ids=["first frame", "last frame"])
def test_errors_of_the_flow_do_not_add_up(monkeypatch: pytest.MonkeyPatch, apart: float, kept: bool) -> None:
    """Because of the flow to the first frame, which may become another only where both ways come apart."""
    monkeypatch.setattr(module, "_APART", apart)
    scales = 1 + 0.1 * np.sin(np.linspace(0, 4 * np.pi, 60))
    start = Prediction(disc(80, 24), 0.7, np.zeros((1, 1), np.float32))
    tracker, dice = Tracker(Threshold(blind=tuple(range(99))), start, noisy([1.0])[0]), []
    for scale, frame in zip(scales, noisy(scales), strict=True):
        dice.append(overlap(disc(80, 24 * scale), tracker.follow(frame).mask)[0])
        assert (tracker.origin is tracker.before) != kept
    assert (np.mean(dice[-20:]) > 0.95) == kept


def test_a_mask_without_a_boundary() -> None:
    whole = Prediction(np.ones((80, 160), bool), 1.0, np.zeros((1, 1), np.float32))
    found = follow(Threshold(), [np.full((80, 160), 200, np.uint8)] * 2, whole)
    assert all(one.mask.all() and not one.lost for one in found)


def test_the_flow_does_not_depend_on_the_number_of_threads() -> None:
    before, now = (cv2.resize(tissue(scale), (640, 320)) for scale in (1.0, 0.95))
    level = signed(cv2.resize(disc(80, 24).astype(np.uint8), (640, 320)) > 0)
    threads, moved = cv2.getNumThreads(), []
    try:
        for number in (1, 2, 4):
            cv2.setNumThreads(number)
            back, error = module._flow(now, before, level)
            moved.append((module._warped(level, back), error))
    finally:
        cv2.setNumThreads(threads)
    assert not np.array_equal(moved[0][0], level)
    assert all(np.array_equal(moved[0][0], field) and error == moved[0][1] for field, error in moved[1:])


def test_frames_that_have_no_flow_are_segmented() -> None:
    rng = np.random.default_rng(0)
    start = Prediction(disc(30), 1.0, np.zeros((1, 1), np.float32))
    model = Threshold()
    follow(model, [rng.integers(0, 255, (80, 160), np.uint8) for _ in range(3)], start)
    assert model.frame >= 0
