"""The model beside a person: clicks as in training and evaluation, masks carried through frames."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'us43d[train]'")

from us43d.coco.segmentation import encode  # noqa: E402
from us43d.errors import UsageError, WeightsError  # noqa: E402
from us43d.evaluate.metrics import overlap  # noqa: E402
from us43d.masks import rle  # noqa: E402
from us43d.model.geometry import box_prompts, point_prompts  # noqa: E402
from us43d.model.network import PRESETS, UltraSam  # noqa: E402
from us43d.model.predictor import Predictor  # noqa: E402
from us43d.view.annotate import Annotate  # noqa: E402
from us43d.view.assistant import Assistant, Prompt  # noqa: E402
from us43d.view.between import Gap, _joined, interpolated  # noqa: E402
from us43d.view.inputs import FileInputs  # noqa: E402
from us43d.view.labels import Labels  # noqa: E402

SHAPE = (48, 64)
PICTURES = [np.random.default_rng(n).integers(0, 255, SHAPE, np.uint8) for n in range(3)]


@pytest.fixture
def assistant() -> Iterator[Assistant]:
    predictor = Predictor(UltraSam.random(PRESETS["tiny"], 0))  # here, as chance is shared between threads
    made = Assistant(lambda: predictor, PICTURES.__getitem__)
    yield made
    made.close()


def test_clicks_are_encoded_and_fed_back_as_in_evaluation(assistant: Assistant) -> None:
    predictor = Predictor(UltraSam.random(PRESETS["tiny"], 0))
    encoded = predictor.encode(PICTURES[1])
    points, labels = box_prompts(torch.tensor([[10.0, 8.0, 40.0, 30.0]]), encoded.scale)
    first = predictor.segment(encoded, points, labels)[0]
    got = assistant.predict(1, Prompt((10, 8, 40, 30)))
    assert np.array_equal(got.mask, first.mask)
    for (x, y), inside in (((20, 15), 0), ((30, 20), 1)):
        added, _ = point_prompts(torch.tensor([[x, y]]).double(), encoded.scale)
        points = torch.cat([points, added[:, :1]], 1)
        labels = torch.cat([labels, torch.tensor([[inside]])], 1)
        first = predictor.segment(encoded, points, labels, former=torch.from_numpy(first.logits)[None])[0]
    clicked = Prompt((10, 8, 40, 30), ((20, 15), (30, 20)), (0, 1))
    got = assistant.predict(1, clicked)
    assert np.abs(got.mask.astype(int) - first.mask).mean() < 0.01  # the order of tokens moves the last bit of a sum
    assert got.score == pytest.approx(first.score, abs=1e-4)
    plain = predictor.segment(encoded, points, labels)[0]
    assert not np.array_equal(plain.mask, first.mask)  # feeding back matters here


def test_images_are_encoded_ahead(assistant: Assistant) -> None:
    assistant.ahead([2, 0])
    assistant.predict(2, Prompt((1, 1, 20, 20)))
    for _ in range(200):
        if 0 in assistant._encoded:
            break
        time.sleep(0.05)
    assistant.predict(0, Prompt((1, 1, 20, 20)))
    assert 0 in assistant._encoded
    assert 1 not in assistant._encoded


def test_a_prompt_outside_is_refused_and_weights_that_fail_are_told(assistant: Assistant) -> None:
    with pytest.raises(UsageError, match="outside"):
        assistant.predict(0, Prompt(None, ((500, 500),), (1,)))
    with pytest.raises(UsageError):
        assistant.predict(0, Prompt())

    def broken() -> Predictor:
        raise WeightsError("spoilt")

    bad = Assistant(broken, PICTURES.__getitem__)
    with pytest.raises(WeightsError, match="spoilt"):
        bad.predict(0, Prompt((1, 1, 20, 20)))
    bad.close()


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def test_masks_between_two_frames_change_steadily() -> None:
    masks = [interpolated(disc(30, 24, 8), disc(30, 24, 20), n / 4) for n in (1, 2, 3)]
    radii = [float(np.sqrt(mask.sum() / np.pi)) for mask in masks]
    assert radii == pytest.approx([11, 14, 17], abs=0.7)
    for n in range(3):  # moved further than it is wide
        moved = interpolated(disc(10, 24, 8), disc(50, 24, 8), (n + 1) / 4)
        assert np.array_equal(moved, disc(20 + 10 * n, 24, 8))


@pytest.fixture
def moving() -> Iterator[Assistant]:
    """Speckle that moves to the right by 3 pixels, and on every other frame back."""
    grains = np.random.default_rng(0).integers(0, 256, (SHAPE[0] + 8, SHAPE[1] + 8), np.uint8)
    speckle = cv2.normalize(cv2.GaussianBlur(grains, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    frames = [speckle[: SHAPE[0], 4 - n : 4 - n + SHAPE[1]] for n in (0, 3, 0, 3, 0)]
    made = Assistant(lambda: Predictor(UltraSam.random(PRESETS["tiny"], 0)), frames.__getitem__)
    yield made
    made.close()


def test_masks_are_carried_along_with_the_tissue(moving: Assistant) -> None:
    """As `predict` follows a clip: boxes around the mask before, which the page used, do not move with the tissue."""
    (moved,) = moving.follow([moving.tracker(0, disc(30, 24, 10))], 1)
    assert overlap(disc(33, 24, 10), moved.mask)[0] > 0.97  # 0.82 unmoved


def test_objects_between_two_frames_are_followed_from_both(moving: Assistant) -> None:
    gap = Gap(moving, 0, 4, [(disc(30, 24, 10), disc(30, 24, 10)), (disc(12, 12, 6), disc(12, 12, 6))])
    gap.back(1)
    asked: list[int] = []
    reading = moving._read
    moving._read = lambda number: asked.append(number) or reading(number)  # type: ignore[method-assign]
    for number, x in ((1, 33), (2, 30), (3, 33)):
        (large, small) = gap.at(number)
        assert overlap(disc(x, 24, 10), large.mask)[0] > 0.97  # 0.82 interpolated
        assert overlap(disc(x - 18, 12, 6), small.mask)[0] > 0.93
        assert large.score > 0.9
    assert asked == [1, 2, 3]  # those on the way back were followed before


def test_an_object_that_one_way_has_lost_is_that_of_the_other() -> None:
    ends, there = (disc(10, 24, 8), disc(50, 24, 8)), disc(40, 24, 8)
    for one, other, expected in ((None, there, there), (there, None, there), (None, None, disc(30, 24, 8))):
        joined = _joined(one, other, 0.5, ends)
        assert np.array_equal(joined.mask, expected)
        assert joined.score == 0
    assert _joined(disc(28, 24, 8), disc(32, 24, 8), 0.5, ends).score == pytest.approx(0.52, abs=0.03)  # their IoU


def test_frames_between_are_filled_but_a_persons_work_stays(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "sweep.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, SHAPE[::-1])
    for n in range(5):
        writer.write(np.full((*SHAPE, 3), 20 * n, np.uint8))
    writer.release()
    labels = Labels(FileInputs(tmp_path / "sweep.avi"), tmp_path / "labels")

    def thing(mask: np.ndarray) -> dict:
        return {"structure": "heart", "rle": encode(mask).decode(), "origin": "person"}

    labels.save(0, 0, [thing(disc(30, 24, 8))])
    labels.save(4, 0, [thing(disc(30, 24, 20))])
    labels.save(2, 0, [thing(disc(9, 9, 3))])
    site = Annotate(labels, "sweep.avi", None, "")
    assert [site._fill(n, 0, 4) for n in (1, 2, 3)] == [(True, 0, 0.0), (False, 0, 1.0), (True, 0, 0.0)]
    filled = labels.state(1)["objects"]
    assert [entry["origin"] for entry in filled] == ["propagated"]
    assert rle.decode(filled[0]["rle"].encode(), *SHAPE).sum() == pytest.approx(np.pi * 11**2, rel=0.1)
    assert labels.state(2)["objects"] == [thing(disc(9, 9, 3))]
    assert labels.summary()[1]["draft"]
    # Objects are paired by their place, and those of one frame alone are counted.
    here, there = thing(disc(30, 24, 20)), thing(disc(9, 40, 6))
    state = labels.state(0)
    labels.save(0, state["revision"], [thing(disc(8, 38, 6)), thing(disc(30, 24, 8)), thing(disc(55, 8, 4))])
    labels.save(4, labels.state(4)["revision"], [here, there, there | {"structure": "lung"}])
    assert site._fill(1, 0, 4) == (True, 2, 0.0)
    areas = sorted(int(rle.decode(one["rle"].encode(), *SHAPE).sum()) for one in labels.state(1)["objects"])
    assert areas == [pytest.approx(np.pi * 6**2, rel=0.15), pytest.approx(np.pi * 11**2, rel=0.1)]


def test_what_does_not_fit_the_size_of_the_image_is_counted(tmp_path: Path) -> None:
    small = np.zeros((20, 30), bool)
    small[5:9, 5:9] = True
    things = [{"structure": "heart", "rle": encode(mask).decode()} for mask in (small, disc(30, 24, 8))]
    inputs = SimpleNamespace(read=lambda number, window=None: np.zeros(SHAPE, np.uint8))
    site = Annotate(SimpleNamespace(inputs=inputs, state=lambda number: {"objects": things}), "", None, "")
    objects, skipped = site._carried(1, 0)
    assert (len(objects), skipped) == (1, 1)
