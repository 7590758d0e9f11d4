"""The grid and one image, as a person uses them."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from us43d.view.server import Running

pytestmark = pytest.mark.web


def tiles(page: Any) -> list[str]:
    return page.eval_on_selector_all(".item a", "links => links.map(link => link.title)")


def test_open_filter_go_back_and_send_the_address(site: Running, visit: Callable[..., Any]) -> None:
    page = visit(site.url)
    page.wait_for_selector(".item img")
    assert "token" not in page.url
    total = page.inner_text("#count")
    page.get_by_role("checkbox", name="heart").check()
    page.wait_for_function("total => document.querySelector('#count')?.textContent !== total", arg=total)
    assert page.inner_text("#count") == "48 images"
    assert "organ=heart" in page.url
    assert all("patient" in key for key in tiles(page))
    address = page.url
    page.go_back()
    page.wait_for_function("total => document.querySelector('#count')?.textContent === total", arg=total)
    page.goto(address)  # what a colleague would open
    page.wait_for_function("() => document.querySelector('#count')?.textContent === '48 images'")
    assert page.get_by_role("checkbox", name="heart").is_checked()


def test_search_shows_nothing_and_everything(site: Running, visit: Callable[..., Any]) -> None:
    page = visit(site.url)
    page.wait_for_selector(".item")
    page.fill("#q", "no such key")
    page.wait_for_selector("#empty:not([hidden])")
    page.click("#clear")
    page.wait_for_selector(".item")
    page.fill("#q", "benign (2)")
    page.wait_for_function("() => document.querySelector('#count')?.textContent === '1 image'")
    assert tiles(page)[0].endswith("benign (2).png")


def test_only_what_is_seen_is_on_the_page(site: Running, visit: Callable[..., Any]) -> None:
    page = visit(site.url + "&tile=340", height=500)
    page.wait_for_selector(".item img")
    assert page.locator(".item").count() < 40
    first = tiles(page)[0]
    page.keyboard.press("End")
    page.wait_for_function("key => ![...document.querySelectorAll('.item a')].some(a => a.title === key)", arg=first)
    page.wait_for_timeout(300)
    assert "at=" in page.url
    here = page.evaluate("document.querySelector('#scroller').scrollTop")
    page.reload()
    page.wait_for_selector(".item img")
    assert abs(page.evaluate("document.querySelector('#scroller').scrollTop") - here) < 400


def test_zoom_measure_and_switch_masks_off(site: Running, visit: Callable[..., Any]) -> None:
    page = visit(site.url + "&source=CAMUS")
    page.wait_for_selector(".item img")
    page.click(".item a >> nth=0")
    page.wait_for_selector("#facts .structure")
    page.wait_for_timeout(300)

    def painted() -> str:
        page.wait_for_timeout(120)
        return page.evaluate("document.querySelector('#stage').toDataURL()")

    whole = painted()
    page.keyboard.press("m")
    bare = painted()
    assert bare != whole
    page.keyboard.press("m")
    assert painted() == whole
    page.mouse.move(400, 300)
    page.mouse.wheel(0, -600)
    zoomed = painted()
    assert zoomed != whole
    page.keyboard.press("0")
    assert painted() == whole
    page.keyboard.press("r")
    page.mouse.move(300, 300)
    page.mouse.down()
    page.mouse.move(500, 300, steps=4)
    page.mouse.up()
    assert painted() != whole
    page.get_by_role("checkbox", name="left atrium").uncheck()
    hidden = painted()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('#position')?.textContent.startsWith('2 ')")
    assert not page.get_by_role("checkbox", name="left atrium").is_checked()  # what is off stays off
    assert painted() != hidden
    page.keyboard.press("r")
    page.keyboard.press("i")
    page.keyboard.press("[")
    page.mouse.wheel(0, -300)
    here = painted()
    page.wait_for_timeout(300)
    assert "source=CAMUS" in page.url
    assert "hide=left_atrium" in page.url
    other = visit(site.url)
    other.goto(page.url)  # what a colleague would open
    other.wait_for_selector("#facts .structure")
    other.wait_for_timeout(300)
    assert not other.get_by_role("checkbox", name="left atrium").is_checked()
    assert other.evaluate("document.querySelector('#stage').toDataURL()") == here
    page.keyboard.press("Escape")
    page.wait_for_selector(".item img")
    assert page.url.partition("?")[2].partition("&")[0] == "source=CAMUS"
    assert "hide" not in page.url


def test_frames_of_a_group_by_slider(site: Running, visit: Callable[..., Any]) -> None:
    page = visit(site.url + "&source=CAMUS")
    page.wait_for_selector(".item img")
    page.click(".item a >> nth=0")
    page.wait_for_selector("#frames:not([hidden])")
    key = page.inner_text("#key")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("key => document.querySelector('#key')?.textContent !== key", arg=key)
    assert page.inner_text("#frame-of").startswith("2 / 4 in group ")


def test_several_masks_of_a_structure_are_counted_beside_their_area(site: Running, visit: Callable[..., Any]) -> None:
    page = visit(site.url + "&q=benign+(4)")
    page.wait_for_selector(".item img")
    page.click(".item a >> nth=0")
    page.wait_for_selector(".structure .number")
    assert re.fullmatch(r"3 masks, [0-9.]+ %", page.inner_text(".structure .number"))


def test_everything_by_keyboard_alone(site: Running, visit: Callable[..., Any]) -> None:
    page = visit(site.url)
    page.wait_for_selector(".item img")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    wanted = tiles(page)[2]
    assert page.evaluate("document.activeElement.title") == wanted
    page.keyboard.press("f")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "checkbox"
    page.keyboard.press("Space")
    page.wait_for_selector(".chip")
    page.keyboard.press("c")
    page.wait_for_selector(".chip", state="detached")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("dialog[open] kbd").count() > 8
    page.keyboard.press("Escape")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_selector("#facts .fact")
    page.keyboard.press("Escape")
    page.wait_for_selector(".item img")


def test_the_page_says_when_the_server_has_gone(site: Running, visit: Callable[..., Any]) -> None:
    page = visit(site.url, quiet=True)  # the browser reports the lost connection
    page.wait_for_selector(".item img")
    site.stop()
    page.get_by_role("checkbox", name="heart").check()
    page.wait_for_selector("#gone:not([hidden])")


@pytest.mark.parametrize("width", [390, 1280, 2560])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(site: Running, visit: Callable[..., Any], width: int, scheme: str) -> None:
    page = visit(site.url, width=width, scheme=scheme)
    page.wait_for_selector(".item img")
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wide)
    page.click(".item a >> nth=0")
    page.wait_for_selector("#facts .fact")
    assert not page.evaluate(wide)
    page.click("#facts a[href^='/source/']")
    page.wait_for_selector(".sheet")
    assert not page.evaluate(wide)


def test_groups_are_sought_and_ticked(site: Running, visit: Callable[..., Any]) -> None:
    page = visit(site.url + "&source=CAMUS")
    page.wait_for_selector(".item img")
    page.locator("summary", has_text="Group").last.click()
    find = page.get_by_role("searchbox", name="Find in Group")
    assert find.get_attribute("placeholder") == "Find in 12"
    find.fill("0012")
    page.wait_for_function("() => document.querySelectorAll('[name=group]').length === 1")
    page.locator("[name=group]").check()
    page.wait_for_function("() => document.querySelector('#count')?.textContent === '4 images'")
    assert "source=CAMUS&group=patient0012" in page.url
    page.click(".item a >> nth=0")
    page.wait_for_selector("#facts .strip")
    assert page.locator("#facts .strip a").count() == 3  # the others of the group
    page.click("#facts .strip a >> nth=1")
    page.wait_for_function("() => document.querySelector('#frame-of')?.textContent.startsWith('3 / 4')")
