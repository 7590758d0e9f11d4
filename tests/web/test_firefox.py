"""The main ways through the page in Firefox, driven over its Marionette protocol: open, filter, click, draw, save."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from us43d.splits import review
from us43d.view.server import Running

from .test_correct import mine, viewing

__all__ = ["mine", "viewing"]  # fixtures

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


def test_filter_click_draw_and_save(viewing: Running, mine: Path, firefox: Any) -> None:
    from marionette_driver import By, Wait
    from marionette_driver.keys import Keys

    def find(selector: str) -> Any:
        return firefox.find_element(By.CSS_SELECTOR, selector)

    def until(expression: str) -> None:
        Wait(firefox, timeout=30).until(lambda browser: browser.execute_script(f"return {expression}"))

    firefox.navigate(viewing.url)
    find("input[name=source][value=BUSI]").click()
    until("document.querySelectorAll('.chip').length === 1")
    until("[...document.querySelectorAll('.said')].every((said) => said.textContent.startsWith('BUSI'))")
    until("[...document.querySelectorAll('.item img')].every((image) => image.complete && image.naturalWidth)")
    find(".item a").click()
    find("#correct").click()
    find("#objects")
    until("document.querySelector('#name').textContent.startsWith('BUSI')")
    stage = find("#stage")
    for key in ("d", Keys.ARROW_LEFT, "x"):
        stage.send_keys(key)
    until("document.querySelector('#saved').textContent === 'Saved'")
    stage.send_keys(Keys.ENTER)
    find("#fix")
    assert len(review.fixes(mine)) == 1
    assert firefox.execute_script("return document.querySelector('#toast.error') === null")
