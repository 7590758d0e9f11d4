"""Labelling in a browser, with a server that is killed in between."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from us43d.errors import ImageError
from us43d.masks import rle
from us43d.view.annotate import Annotate
from us43d.view.assistant import Answer, Assistant, Prompt
from us43d.view.inputs import FileInputs
from us43d.view.labels import Labels
from us43d.view.server import Running, Site, serve

pytestmark = pytest.mark.web

SHAPE = (120, 160)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(3):
        cv2.imwrite(str(folder / f"P{n}.png"), rng.integers(20, 90, SHAPE, np.uint8))
    return folder


class Boxes(Assistant):
    """Answers a box with itself; a click inside adds a square around it, one outside takes that square away."""

    def __init__(self, shape: Callable[[int], tuple[int, ...]] = lambda number: SHAPE) -> None:
        self.shape = shape

    def ahead(self, numbers: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def predict(self, number: int, prompt: Prompt) -> Answer:
        mask = np.zeros(self.shape(number), bool)
        if prompt.box:
            x0, y0, x1, y1 = (round(v) for v in prompt.box)
            mask[y0:y1, x0:x1] = True
        for (x, y), inside in zip(prompt.points, prompt.labels, strict=True):
            column, row = round(x), round(y)
            mask[max(0, row - 6) : row + 7, max(0, column - 6) : column + 7] = bool(inside)
        return Answer(mask, 0.9)

    def tracker(self, number: int, mask: np.ndarray) -> Any:
        return SimpleNamespace(number=number, level=mask)

    def follow(self, trackers: Iterable[Any], number: int) -> Any:
        for tracker in trackers:
            step = number - tracker.number
            assert abs(step) == 1
            tracker.number, tracker.level = number, np.roll(tracker.level, 2 * step, axis=1)
            yield SimpleNamespace(mask=tracker.level, score=0.9, lost=False)


class Session(NamedTuple):
    running: Running
    out: Path


@pytest.fixture
def session(scans: Path, tmp_path: Path) -> Iterator[Session]:
    labels = Labels(FileInputs(scans), tmp_path / "labels")
    site = Annotate(labels, "scans", Boxes(), "us43d train --data labels.json")
    running = serve(Site(site.routes(), "/label", labels.close), port=0)
    yield Session(running, tmp_path / "labels")
    running.stop()


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """A place of the image on the page: x and y of SHAPE's pixels."""
    place = page.locator("#stage").bounding_box()
    scale = min((place["width"] - 24) / SHAPE[1], (place["height"] - 24) / SHAPE[0])
    left = place["x"] + (place["width"] - SHAPE[1] * scale) / 2
    top = place["y"] + (place["height"] - SHAPE[0] * scale) / 2
    return left + x * scale, top + y * scale


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *start))
    page.mouse.down()
    page.mouse.move(*at(page, *end), steps=6)
    page.mouse.up()


def saved(page: Any) -> None:
    page.wait_for_timeout(100)
    page.wait_for_function("() => document.querySelector('#saved')?.textContent === 'Saved'")


def until(page: Any, holds: Callable[[], Any]) -> None:
    """Wait for what a click leads to: the model answers, then the file is written."""
    for _ in range(100):
        if holds():
            break
        page.wait_for_timeout(100)
    assert holds()


def masks(out: Path) -> list[tuple[str, np.ndarray]]:
    """(structure, mask) of everything on disk."""
    content = json.loads((out / "labels.json").read_text())
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    held = []
    for a in content["annotations"]:
        height, width = a["segmentation"]["size"]
        held.append((names[a["category_id"]], rle.decode(a["segmentation"]["counts"].encode(), height, width)))
    return held


def opened(visit: Callable[..., Any], url: str, **more: Any) -> Any:
    page = visit(url, **more)
    page.wait_for_function("() => document.querySelector('#position')?.textContent.startsWith('1 of 3')")
    return page


def test_a_box_corrected_by_clicks_undone_and_redone(session: Session, visit: Callable[..., Any]) -> None:
    page = opened(visit, session.running.url)
    page.fill("#structure", "thyroid nodule")
    page.keyboard.press("Enter")
    drag(page, (40, 30), (100, 80))
    until(page, lambda: (session.out / "labels.json").exists())
    ((name, box),) = masks(session.out)
    assert name == "thyroid_nodule"
    truth = np.zeros(SHAPE, bool)
    truth[30:80, 40:100] = True
    assert (box ^ truth).sum() < 250  # the edges are where the mouse was, to a pixel
    page.keyboard.press("c")
    page.mouse.click(*at(page, 120, 50))
    until(page, lambda: masks(session.out)[0][1][50, 120])
    page.mouse.click(*at(page, 60, 50), button="right")
    until(page, lambda: not masks(session.out)[0][1][50, 60])
    page.keyboard.press("Control+z")
    until(page, lambda: masks(session.out)[0][1][50, 60])
    page.keyboard.press("Control+Shift+z")
    until(page, lambda: not masks(session.out)[0][1][50, 60])
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    until(page, lambda: masks(session.out) == [])


def test_a_box_drawn_before_the_first_is_answered_waits_for_it(
    session: Session, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, drawn = Boxes.predict, Event()

    def late(self: Boxes, number: int, prompt: Prompt) -> Answer:
        assert drawn.wait(60)
        return at_once(self, number, prompt)

    monkeypatch.setattr(Boxes, "predict", late)
    page = opened(visit, session.running.url)
    page.fill("#structure", "thyroid nodule")
    page.keyboard.press("Enter")
    drag(page, (10, 10), (50, 40))
    drag(page, (80, 60), (130, 100))
    drawn.set()
    until(page, lambda: (session.out / "labels.json").exists() and len(masks(session.out)) == 2)
    (_, first), (_, second) = masks(session.out)
    assert first[25, 30]
    assert second[80, 100]


def test_brush_eraser_and_polygon(session: Session, visit: Callable[..., Any]) -> None:
    page = opened(visit, session.running.url)
    page.keyboard.press("d")
    drag(page, (30, 60), (90, 60))
    saved(page)
    mask = masks(session.out)[0][1]
    assert mask[60, 30:90].all()
    assert not mask[75].any()
    page.keyboard.press("e")
    drag(page, (60, 50), (60, 70))
    saved(page)
    mask = masks(session.out)[0][1]
    assert not mask[60, 60]
    assert mask[60, 35]
    page.keyboard.press("n")
    page.keyboard.press("g")
    for corner in ((100, 20), (140, 20), (140, 50), (100, 50)):
        page.mouse.click(*at(page, *corner))
    page.keyboard.press("Enter")
    saved(page)
    area = masks(session.out)[1][1].sum()
    assert 1100 < area < 1300
    page.keyboard.press("Delete")
    saved(page)
    assert len(masks(session.out)) == 1


def test_nothing_is_lost_between_images(session: Session, visit: Callable[..., Any]) -> None:
    page = opened(visit, session.running.url)

    def on(number: int) -> None:
        page.wait_for_function(f"() => document.querySelector('#position')?.textContent.startsWith('{number} of')")

    page.keyboard.press("g")
    for corner in ((100, 20), (140, 20), (140, 50), (100, 50)):
        page.mouse.click(*at(page, *corner))
    page.keyboard.press("d")  # another tool closes the polygon
    page.keyboard.press("n")
    drag(page, (30, 60), (90, 60))
    held: list[Any] = []
    page.route("**/api/label/pixels/1?*", lambda route: held.append(route))
    page.keyboard.press(".")
    until(page, lambda: held)
    drag(page, (30, 90), (90, 90))  # while the next image is on its way
    page.mouse.move(*at(page, 20, 20))
    page.mouse.down()  # a stroke that no image has
    held[0].continue_()
    on(2)
    page.mouse.up()
    page.wait_for_timeout(500)
    polygon, brush = (mask for _, mask in masks(session.out))
    assert polygon[30, 120]
    assert brush[60, 60]
    assert brush[90, 60]
    page.keyboard.press(",")
    on(1)
    page.keyboard.press("Control+z")  # steps of an image are there on return
    until(page, lambda: not masks(session.out)[1][1][90, 60])
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    until(page, lambda: masks(session.out) == [])


def test_two_windows_do_not_overwrite_each_other(session: Session, visit: Callable[..., Any]) -> None:
    one = opened(visit, session.running.url)
    other = opened(visit, session.running.url, quiet=True)  # the browser reports the refusal
    one.keyboard.press("d")
    drag(one, (30, 30), (60, 30))
    saved(one)
    first = masks(session.out)[0][1]
    other.keyboard.press("d")
    drag(other, (100, 90), (130, 90))
    other.wait_for_selector("#toast.error")
    assert "Another window" in other.inner_text("#toast")
    assert np.array_equal(masks(session.out)[0][1], first)
    assert len(masks(session.out)) == 1
    other.keyboard.press("Control+z")  # mine, knowingly
    saved(other)
    assert masks(session.out)[0][1][90, 115]


def test_a_window_saves_to_a_server_that_was_started_again(
    scans: Path, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    def started_again(port: int) -> Running:
        labels = Labels(FileInputs(scans), tmp_path / "labels")
        return serve(Site(Annotate(labels, "scans", Boxes(), "").routes(), "/label", labels.close), port=port)

    running = started_again(0)
    page = opened(visit, running.url, quiet=True)  # the browser reports the lost connection
    page.keyboard.press("d")
    drag(page, (30, 30), (60, 30))
    saved(page)
    running.stop()
    page.keyboard.press("n")
    drag(page, (30, 90), (60, 90))
    page.wait_for_selector("#gone:not([hidden])")
    assert page.inner_text("#gone").endswith("Leave this page open: it saves the rest then.")
    running = started_again(running.port)
    try:
        page.context.new_page().goto(running.url)  # the address that the terminal prints
        until(page, lambda: len(masks(tmp_path / "labels")) == 2)
        saved(page)
        assert page.locator("#toast.error").count() == 0
    finally:
        running.stop()


def test_masks_go_on_through_the_frames_of_a_video(tmp_path: Path, visit: Callable[..., Any]) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "sweep.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, SHAPE[::-1])
    for n in range(5):
        writer.write(np.full((*SHAPE, 3), 60 + n, np.uint8))
    writer.release()
    out = tmp_path / "labels"
    labels = Labels(FileInputs(tmp_path / "sweep.avi"), out)
    running = serve(Site(Annotate(labels, "sweep", Boxes(), "").routes(), "/label", labels.close), port=0)

    def at_frame(number: int) -> None:
        text = f"{number} of 5"
        page.wait_for_function("text => document.querySelector('#position')?.textContent === text", arg=text)

    try:
        page = visit(running.url)
        at_frame(1)
        page.fill("#structure", "thyroid nodule")
        page.keyboard.press("Enter")
        drag(page, (40, 30), (100, 80))
        page.wait_for_selector("#objects .pick")
        page.keyboard.press("Enter")  # the next frame starts from the last one's mask
        at_frame(2)
        page.wait_for_selector("#objects :text('to check')")
        saved(page)
        page.keyboard.press("y")
        page.wait_for_function("() => document.querySelector('#toast').textContent.startsWith('No frames are between')")
        with page.expect_response("**/carry/1"):
            page.keyboard.press("t")  # again: the mask that was taken over before is replaced
        saved(page)
        assert page.locator("#objects .pick").count() == 1
        page.keyboard.press(".")  # looking at frames labels none
        at_frame(3)
        page.keyboard.press(".")
        at_frame(4)
        page.keyboard.press(".")
        at_frame(5)
        assert page.inner_text("#objects") == "None yet"
        drag(page, (60, 30), (120, 80))
        page.wait_for_selector("#objects .pick")
        page.keyboard.press("y")  # what is between them follows both
        page.wait_for_function("() => document.querySelector('#through-said')?.textContent.startsWith('2 frames')")
        assert "Check 3 first: both ways agree least there (IoU 0.67)" in page.inner_text("#through-said")
        lefts = [int(np.flatnonzero(mask.any(0))[0]) for _, mask in masks(out)]
        assert lefts[1] == lefts[0] + 2  # as this model follows it
        assert lefts[1] < lefts[2] < lefts[3] < lefts[4] == lefts[0] + 20
        origins = [a["us43d"]["origin"] for a in json.loads((out / "labels.json").read_text())["annotations"]]
        assert origins == ["model", "propagated", "propagated", "propagated", "model"]
    finally:
        running.stop()


def test_what_has_no_name_is_kept_and_asked_for(session: Session, visit: Callable[..., Any]) -> None:
    page = opened(visit, session.running.url, quiet=True)
    drag(page, (40, 30), (100, 80))
    until(page, lambda: (session.out / "labels.json").exists())
    assert [name for name, _ in masks(session.out)] == ["unnamed"]
    assert page.inner_text("#objects .pick") == "no name yet"
    page.focus("#stage")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "structure"  # asked, instead of the next image
    assert page.inner_text("#position").startswith("1 of 3")
    page.keyboard.type("thyroid nodule")
    page.keyboard.press("Enter")
    page.focus("#stage")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#position')?.textContent.startsWith('2 of 3')")
    assert [name for name, _ in masks(session.out)] == ["thyroid_nodule"]
    drag(page, (40, 30), (100, 80))  # the name stays for what comes next
    until(page, lambda: len(masks(session.out)) == 2)
    assert masks(session.out)[1][0] == "thyroid_nodule"


def test_labelling_by_keyboard_alone(session: Session, visit: Callable[..., Any]) -> None:
    page = opened(visit, session.running.url)
    page.keyboard.press("s")
    assert page.evaluate("document.activeElement.id") == "structure"
    page.keyboard.type("breast lesion")
    page.keyboard.press("Enter")
    page.keyboard.press("c")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    until(page, lambda: (session.out / "labels.json").exists())
    ((name, mask),) = masks(session.out)
    assert (name, bool(mask[60, 84])) == ("breast_lesion", True)
    page.keyboard.press("Enter")  # reviewed, next
    page.wait_for_function("() => document.querySelector('#position')?.textContent.startsWith('2 of 3')")
    content = json.loads((session.out / "labels.json").read_text())
    assert content["images"][0]["us43d"]["reviewed"] is True
    page.keyboard.press("d")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    until(page, lambda: len(masks(session.out)) == 2)
    page.focus("#stage")
    page.keyboard.press("Tab")  # no key of the page holds the focus
    assert page.evaluate("document.activeElement.id") == "frame"
    assert page.get_attribute("#frame", "aria-valuetext") == "2 of 3"
    page.focus("#size")
    before = page.input_value("#size")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#size") != before


def test_a_mask_is_painted_where_it_is_and_only_there(session: Session, visit: Callable[..., Any]) -> None:
    """Of an image of 8000 pixels, all of it was painted again at every move of the brush, which took 1.3 s."""
    page = opened(visit, session.running.url)
    page.fill("#structure", "cyst")
    page.keyboard.press("Enter")
    page.evaluate(
        """() => {
        const make = CanvasRenderingContext2D.prototype.createImageData;
        window.sizes = [];
        CanvasRenderingContext2D.prototype.createImageData = function (...size) {
          window.sizes.push(size);
          return make.apply(this, size);
        };
      }"""
    )
    drag(page, (40, 30), (100, 80))
    until(page, lambda: (session.out / "labels.json").exists())
    ((_, mask),) = masks(session.out)
    rows, columns = np.nonzero(mask)
    assert page.evaluate("window.sizes") == [[int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]]
    place = page.locator("#stage").bounding_box()
    shown = cv2.imdecode(np.frombuffer(page.locator("#stage").screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    for x in range(30, 110, 3):
        column, row = at(page, x + 0.5, 55.5)
        pixel = shown[round(row - place["y"]), round(column - place["x"])].astype(int)
        assert (np.ptp(pixel) > 20) == bool(mask[55, x])


def focused(page: Any) -> str:
    return str(page.evaluate("() => document.activeElement.getAttribute('aria-label') || document.activeElement.id"))


def test_keys_work_after_any_control_was_used(session: Session, visit: Callable[..., Any]) -> None:
    page = opened(visit, session.running.url)
    page.fill("#structure", "cyst")
    page.keyboard.press("Enter")
    assert focused(page) == "P0"  # the image
    page.keyboard.press("d")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("x")
        page.keyboard.press("n")
    page.locator("#objects .pick").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.matches('#objects li.chosen .pick')")
    page.get_by_label("Delete cyst").first.focus()
    page.keyboard.press("Enter")
    assert focused(page) == "Delete cyst"
    page.keyboard.press("Enter")
    assert focused(page) == "new"
    page.keyboard.press("Control+z")
    page.click("#objects .pick")
    page.keyboard.press("Backspace")  # the only one of both keys on many keyboards
    assert page.locator("#objects .pick").count() == 0
    page.locator("[data-help]").click()
    page.keyboard.press("Enter")  # closes the list of keys, and does not open it again
    page.wait_for_timeout(100)
    page.locator("#window input").first.click()
    page.keyboard.press("Enter")
    until(page, lambda: page.locator("#position").inner_text() == "2 of 3")


def test_the_last_image_says_what_is_left(session: Session, visit: Callable[..., Any]) -> None:
    page = opened(visit, session.running.url)
    page.keyboard.press(".")
    until(page, lambda: page.locator("#position").inner_text() == "2 of 3")
    for position in ("3 of 3", "3 of 3"):
        page.keyboard.press("Enter")
        until(page, lambda position=position: page.locator("#position").inner_text() == position)
    until(page, lambda: page.locator("#toast").inner_text() == "This is the last image. Not labelled yet: 1 (u).")
    page.goto(session.running.url)
    until(page, lambda: page.locator("#toast").inner_text().startswith("Labelled: 2 of 3. u goes to"))
    page.keyboard.press("u")
    until(page, lambda: page.locator("#toast").inner_text() == "All other images are labelled.")
    page.keyboard.press(".")
    until(page, lambda: page.locator("#position").inner_text() == "2 of 3")
    page.keyboard.press("u")
    until(page, lambda: page.locator("#position").inner_text() == "1 of 3")
    for position in ("2 of 3", "3 of 3", "3 of 3"):
        page.keyboard.press("Enter")
        until(page, lambda position=position: page.locator("#position").inner_text() == position)
    until(page, lambda: "Next: us43d train --data labels.json" in page.locator("#toast").inner_text())


def test_the_cursor_of_the_keyboard_stays_in_sight(session: Session, visit: Callable[..., Any]) -> None:
    page = opened(visit, session.running.url)
    for _ in range(15):
        page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    place = page.locator("#stage").bounding_box()
    corner = {"x": place["x"], "y": place["y"], "width": place["width"] / 4, "height": place["height"] / 4}
    seen = page.screenshot(clip=corner)
    for _ in range(200):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert page.screenshot(clip=corner) != seen  # the image moves under a cursor at the edge


def test_the_least_certain_image_first_and_an_unreadable_one_last(
    scans: Path, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    class Unsure(Boxes):
        def certainty(self, number: int) -> float:
            if number == 0:
                raise ImageError("It is cut off.")
            return (0.0, 0.9, 0.2)[number]

    labels = Labels(FileInputs(scans), tmp_path / "labels")
    running = serve(Site(Annotate(labels, "scans", Unsure(), "").routes(), "/label", labels.close), port=0)
    try:
        page = opened(visit, running.url, quiet=True)  # the browser reports the image that is refused
        page.select_option("#order", "uncertain")
        page.wait_for_function("() => document.querySelector('#name')?.textContent === 'P2'")
        assert page.inner_text("#position") == "1 of 3"
        page.keyboard.press(".")
        page.wait_for_function("() => document.querySelector('#name')?.textContent === 'P1'")
    finally:
        running.stop()


def test_a_deep_image_is_windowed_in_its_own_values(tmp_path: Path, visit: Callable[..., Any]) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    ramp = np.tile(np.linspace(1000, 5000, 200), (150, 1)).astype(np.uint16)
    cv2.imwrite(str(folder / "a.png"), ramp)
    labels = Labels(FileInputs(folder), tmp_path / "labels")
    running = serve(Site(Annotate(labels, "deep", None, "").routes(), "/label", labels.close), port=0)
    try:
        page = visit(running.url, quiet=True)  # the browser remarks on pixels being read back
        page.wait_for_selector("#values")
        assert page.inner_text("#values") == "1,000 to 5,000 of 1,000 to 5,000"
        read = "() => { const c = document.querySelector('#stage'); const d = c.getContext('2d').getImageData(0, c.height / 2, c.width, 1).data; return [...d].filter((_, n) => n % 4 === 0); }"  # noqa: E501
        page.wait_for_function(f"() => ({read})().some(value => value === 255)")
        assert np.mean(np.array(page.evaluate(read)) == 255) < 0.02
        with page.expect_response("**/pixels/0?low=1000&high=3000"):
            page.get_by_role("slider", name="Width").fill("2000")
            page.get_by_role("slider", name="Level").fill("2000")
        page.wait_for_timeout(300)
        assert np.mean(np.array(page.evaluate(read)) == 255) > 0.3  # what is above 3,000 is white now
        page.get_by_role("button", name="Reset").click()
        page.wait_for_timeout(300)
        assert np.mean(np.array(page.evaluate(read)) == 255) < 0.02
        assert not (tmp_path / "labels" / "labels.json").exists()
    finally:
        running.stop()


def test_an_image_that_cannot_be_read_says_why(scans: Path, tmp_path: Path, visit: Callable[..., Any]) -> None:
    (scans / "P0.png").write_bytes((scans / "P0.png").read_bytes()[:700])
    labels = Labels(FileInputs(scans), tmp_path / "labels")
    running = serve(Site(Annotate(labels, "scans", None, "").routes(), "/label", labels.close), port=0)
    try:
        page = opened(visit, running.url, quiet=True)  # the browser reports the pixels that are missing
        page.wait_for_selector("#no-image:not([hidden])")
        assert "P0.png" in page.inner_text("#no-image")
        page.keyboard.press(".")
        page.wait_for_selector("#no-image", state="hidden")
    finally:
        running.stop()


def test_masks_of_an_image_that_cannot_be_read_any_more_are_kept(session: Session, visit: Callable[..., Any]) -> None:
    page = opened(visit, session.running.url, quiet=True)  # the browser reports the pixels that are missing
    drag(page, (40, 30), (100, 80))
    until(page, lambda: (session.out / "labels.json").exists())
    saved(page)
    before = (session.out / "labels.json").read_bytes()
    page.route("**/api/label/pixels/0?*", lambda route: route.fulfill(status=400, json={"error": "P0.png is cut off."}))
    page.reload()
    page.wait_for_selector("#no-image:not([hidden])")
    page.wait_for_function("() => document.querySelector('#name')?.textContent !== ''")
    page.keyboard.press("Enter")
    page.wait_for_selector("#no-image", state="hidden")
    page.wait_for_timeout(500)
    assert (session.out / "labels.json").read_bytes() == before
    assert "keeps its labels" in page.inner_text("#toast")


@pytest.mark.parametrize("width", [390, 1280, 2560])
def test_nothing_is_wider_than_the_window(session: Session, visit: Callable[..., Any], width: int) -> None:
    page = opened(visit, session.running.url, width=width)
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


@contextmanager
def started(scans: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`us43d label` as a person types it, and its address; ended in any case."""
    command = [sys.executable, "-m", "us43d", "label", str(scans), "--no-browser", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_click_correct_kill_the_server_reopen_nothing_is_lost(
    scans: Path, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'us43d[train]'")
    from us43d.model import weights
    from us43d.model.network import PRESETS, UltraSam

    weights.save(UltraSam.random(PRESETS["tiny"], 0), tmp_path / "w")
    out = scans.with_name("scans-labels")
    with started(scans, "--weights", str(tmp_path / "w")) as (process, url):
        page = opened(visit, url, quiet=True)  # the browser reports the lost connection
        page.fill("#structure", "breast lesion")
        page.keyboard.press("Enter")
        page.keyboard.press("c")
        page.mouse.click(*at(page, 80, 60))
        page.wait_for_selector("#objects .pick")
        page.keyboard.press("d")
        drag(page, (30, 30), (120, 90))
        saved(page)
        before = masks(out)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        drag(page, (20, 100), (60, 100))
        page.wait_for_selector("#gone:not([hidden])")
        assert page.inner_text("#saved") == "Not saved"
    ((_, mask),) = before
    assert mask[30:90].any()
    with started(scans) as (process, url):
        page = opened(visit, url)
        page.wait_for_selector("#objects .pick")
        ((name, after),) = masks(out)
        assert np.array_equal(after, before[0][1])
        assert (name, page.inner_text("#objects .pick")) == ("breast_lesion", "breast lesion")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_page_keys_go_through_clips(tmp_path: Path, visit: Callable[..., Any]) -> None:
    for name in ("a.avi", "b.avi"):
        writer = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*"MJPG"), 10, SHAPE[::-1])
        for value in (40, 80, 120):
            writer.write(np.full((*SHAPE, 3), value, np.uint8))
        writer.release()
    labels = Labels(FileInputs(tmp_path), tmp_path / "labels")
    running = serve(Site(Annotate(labels, "scans", None, "").routes(), "/label", labels.close), port=0)
    try:
        page = visit(running.url)
        for key, number in (("", 1), ("PageDown", 4), (".", 5), ("PageUp", 4), ("PageUp", 1), ("PageUp", 1)):
            if key:
                page.keyboard.press(key)
            page.wait_for_function(f"() => document.querySelector('#position')?.textContent === '{number} of 6'")
        page.keyboard.press("?")
        assert page.evaluate("document.querySelector('dialog').scrollTop") == 0
    finally:
        running.stop()
