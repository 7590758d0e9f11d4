"""The main tasks in Firefox, driven over its Marionette protocol: open, filter, zoom, draw, box, save."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d.splits import review
from us43d.view.server import Running

from .test_correct import assistant, mine, viewing
from .test_label import SHAPE, Session, masks, scans, session

__all__ = ["assistant", "mine", "scans", "session", "viewing"]  # fixtures

# marionette_driver leaves the sockets open with which it waits for the browser.
pytestmark = [
    pytest.mark.web,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Any]:
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("firefox is not installed: apt-get install firefox-esr")
    driver = pytest.importorskip("marionette_driver.marionette", reason="pip install marionette_driver")
    browser = driver.Marionette(bin=program, headless=True, startup_timeout=120, gecko_log=str(tmp_path / "gecko.log"))
    browser.start_session()
    browser.timeout.implicit = 20
    yield browser
    browser.cleanup()


def find(firefox: Any, selector: str) -> Any:
    from marionette_driver import By

    return firefox.find_element(By.CSS_SELECTOR, selector)


def until(firefox: Any, expression: str) -> None:
    from marionette_driver import Wait

    Wait(firefox, timeout=30).until(lambda browser: browser.execute_script(f"return {expression}"))


def well(firefox: Any) -> bool:
    return firefox.execute_script("return document.querySelector('#toast.error') === null")


def drag(firefox: Any, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Drag between two places of the window."""
    actions = firefox.actions.sequence("pointer", "mouse", {"pointerType": "mouse"})
    actions.pointer_move(*start).pointer_down().pointer_move(*end, duration=100).pointer_up().perform()


def test_filter_click_draw_and_save(viewing: Running, mine: Path, firefox: Any) -> None:
    from marionette_driver.keys import Keys

    firefox.navigate(viewing.url)
    find(firefox, "input[name=source][value=BUSI]").click()
    until(firefox, "document.querySelectorAll('.chip').length === 1")
    until(firefox, "[...document.querySelectorAll('.said')].every((said) => said.textContent.startsWith('BUSI'))")
    until(firefox, "[...document.querySelectorAll('.item img')].every((image) => image.complete && image.naturalWidth)")
    find(firefox, ".item a").click()
    find(firefox, "#facts .structure")
    painted = "document.querySelector('#stage').toDataURL()"
    until(firefox, f"{painted}.length > 40_000")  # the image is there
    whole = firefox.execute_script(f"return {painted}")
    find(firefox, "#stage").send_keys("+")
    until(firefox, f"{painted} !== {json.dumps(whole)}")
    find(firefox, "#correct").click()
    find(firefox, "#objects")
    until(firefox, "document.querySelector('#name').textContent.startsWith('BUSI')")
    until(firefox, f"{painted}.length > 40_000")  # keys before the image is drawn would be lost
    stage = find(firefox, "#stage")
    for key in ("d", Keys.ARROW_LEFT, "x"):
        stage.send_keys(key)
    until(firefox, "document.querySelector('#saved').textContent === 'Saved'")
    stage.send_keys(Keys.ENTER)
    find(firefox, "#fix")
    assert len(review.fixes(mine)) == 1
    assert well(firefox)


def test_a_box_becomes_a_mask_that_is_saved(session: Session, firefox: Any) -> None:
    firefox.navigate(session.running.url)
    until(firefox, "document.querySelector('#position').textContent === '1 of 3'")
    place = firefox.execute_script(
        "const { x, y, width, height } = document.querySelector('#stage').getBoundingClientRect(); return [x, y, width, height]"  # noqa: E501
    )
    scale = min((place[2] - 24) / SHAPE[1], (place[3] - 24) / SHAPE[0])
    middle = (place[0] + place[2] / 2, place[1] + place[3] / 2)
    far = 30 * scale  # 30 pixels of the image to each side
    drag(firefox, (round(middle[0] - far), round(middle[1] - far)), (round(middle[0] + far), round(middle[1] + far)))
    find(firefox, "#objects .pick")
    until(firefox, "document.querySelector('#saved').textContent === 'Saved'")
    ((_, mask),) = masks(session.out)
    truth = np.zeros(SHAPE, bool)
    truth[30:90, 50:110] = True
    assert (mask ^ truth).sum() < 250  # the edges are where the mouse was, to a pixel
    assert well(firefox)
