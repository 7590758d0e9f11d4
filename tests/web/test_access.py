"""Every page for people who use a keyboard, a screen reader, a small or a huge screen: axe-core finds no barrier."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from us43d.harmonize.corpus import Corpus
from us43d.splits import review
from us43d.view import opening
from us43d.view.browse import Browse
from us43d.view.correct import Correct
from us43d.view.review import Review
from us43d.view.server import Running, Site, serve
from us43d.view.thumbs import Thumbs

from .test_correct import mine
from .test_label import Boxes, Session, scans, session

__all__ = ["mine", "scans", "session"]  # fixtures

pytestmark = pytest.mark.web


@pytest.fixture
def reviewed(mine: Path, tmp_path: Path) -> Iterator[Running]:
    """`us43d view` with a model, and a pair to review."""
    corpus = Corpus.open(mine / "corpora" / "us43d", mine)
    catalogue = opening.catalogue(corpus, mine)
    ends = [{"source": "BUSI", "key": catalogue.key(n)} for n in range(2)]
    findings = {"near": [{"a": ends[0], "b": ends[1], "equal_blocks": 0.9, "mirrored": "none", "place": None}]}
    correct = Correct(
        catalogue, mine, "corpus us43d", lambda inputs: Boxes(lambda number: inputs.read(number).shape[:2])
    )
    routes = [
        *Browse(catalogue, Thumbs(tmp_path / "thumbs"), "corpus us43d").routes(),
        *Review(catalogue, findings, mine, "corpus us43d").routes(),
        *correct.routes(),
    ]
    running = serve(Site(routes, "/", correct.close), port=0)
    yield running
    running.stop()


@pytest.mark.parametrize("width", [390, 1280, 3840])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barriers(reviewed: Running, session: Session, visit: Callable[..., Any], width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()
    barriers: list[str] = []

    def look(page: Any, name: str) -> None:
        for violation in axe.run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                barriers.extend(f"{name}: {violation['id']}: {node['html'][:200]}" for node in violation["nodes"])
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            barriers.append(f"{name}: wider than the window")

    page = visit(reviewed.url, width=width, height=900, scheme=scheme, quiet=True)  # the browser reports the 404
    root = reviewed.url.split("?")[0]
    page.wait_for_selector(".item img")
    look(page, "grid")
    if width == 390:
        page.click("#facets-open")
        look(page, "filters")
        page.keyboard.press("Escape")
    page.keyboard.press("?")
    look(page, "keys")
    page.goto(root + "?q=no+such+key")
    page.wait_for_selector("#empty:not([hidden])")
    look(page, "no image")
    page.goto(root + "?source=CAMUS")
    page.click(".item a >> nth=0")
    page.wait_for_selector("#facts .fact")
    look(page, "image")
    page.click("#facts a[href^='/source/']")
    page.wait_for_selector(".sheet")
    look(page, "source")
    page.goto(root + "review")
    page.wait_for_selector("#choices button")
    look(page, "review")
    page.goto(root + "review?kind=prediction")
    page.wait_for_selector("#empty:not([hidden])")
    look(page, "nothing to review")
    assert page.goto(root + "image/12").status == 404
    look(page, "message")
    page.goto(root + "?source=CAMUS")
    page.click(".item a >> nth=0")
    page.click("#correct")
    page.wait_for_selector("#objects .pick")
    look(page, "correct")
    page = visit(session.running.url, width=width, height=900, scheme=scheme)
    page.wait_for_function("() => document.querySelector('#position')?.textContent !== ''")
    look(page, "label")
    assert barriers == []


def test_from_the_grid_to_a_confirmed_mask_by_keyboard_alone(
    reviewed: Running, mine: Path, visit: Callable[..., Any]
) -> None:
    page = visit(reviewed.url)
    page.wait_for_selector(".item img")

    def tab_to(selector: str) -> None:
        for _ in range(60):
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                break
            page.keyboard.press("Tab")
        else:
            raise AssertionError(f"Tab never reaches {selector}")

    tab_to(".links a[href='/review']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#choices button")
    page.keyboard.press("2")
    page.wait_for_selector("#empty:not([hidden])")
    assert [verdict.verdict for verdict in review.decided(mine)] == ["not the same"]
    page.keyboard.press("Escape")
    page.wait_for_selector(".item img")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#facts .fact")
    tab_to("#correct")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # the focus is seen
    page.keyboard.press("Enter")
    page.wait_for_selector("#objects .pick")
    page.keyboard.press("c")
    page.keyboard.press("ArrowDown")
    with page.expect_response("**/api/label/prompt/*"):
        page.keyboard.press("x")
    page.wait_for_function("() => document.querySelector('#saved')?.textContent === 'Saved'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fix")
    assert len(review.fixes(mine)) == 1


@pytest.mark.parametrize(
    ("path", "ready", "key"),
    [("?source=CAMUS", ".item img", "c"), ("review", "#choices button", "2"), ("image", "#facts .fact", "ArrowRight"),
     ("label", "#objects .pick", "Delete")],
)  # fmt: skip
def test_every_page_says_when_the_server_has_gone(
    reviewed: Running, mine: Path, visit: Callable[..., Any], path: str, ready: str, key: str
) -> None:
    corpus = Corpus.open(mine / "corpora" / "us43d", mine)
    number = corpus.images["id"][next(n for n in range(len(corpus)) if corpus.images["count"][n])]
    page = visit(reviewed.url, quiet=True)  # the browser reports the lost connection
    path = {"image": f"image/{number}", "label": f"correct/{number}"}.get(path, path)
    page.goto(reviewed.url.split("?")[0] + path)
    page.wait_for_selector(ready)
    reviewed.stop()
    page.keyboard.press(key)
    page.wait_for_selector("#gone:not([hidden])")
    assert "The server has stopped." in page.inner_text("#gone")


def test_the_focus_is_not_lost_in_the_grid(site: Running, visit: Callable[..., Any]) -> None:
    focused = "() => document.activeElement.id || document.activeElement.tagName"
    page = visit(site.url + "&source=BUSI&source=CAMUS", width=390)
    page.wait_for_selector("#chips .chip")
    page.wait_for_selector("#facets summary", state="attached")
    page.focus("#facets-open")
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.querySelector('#facets').contains(document.activeElement)")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.matches('#facets input[type=checkbox]')")
    page.keyboard.press("Enter")  # opens no image
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "facets-open"
    for left, place in ((1, "BUTTON"), (0, "scroller")):
        page.focus("#chips .chip")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "left => document.querySelectorAll('#chips .chip:not(.plain)').length === left", arg=left
        )
        assert page.evaluate(focused) == place
    page.fill("#q", "no such key")
    page.wait_for_selector("#empty:not([hidden])")
    page.focus("#clear")
    page.keyboard.press("Enter")
    page.wait_for_selector("#empty", state="hidden")
    assert page.evaluate(focused) == "scroller"
    assert "/image/" not in page.url
