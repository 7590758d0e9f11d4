"""Deciding on pairs in the browser, and what the next build makes of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from us43d.cli.build import merging
from us43d.cli.output import Session

from us43d.harmonize.corpus import SPLITS, Corpus
from us43d.paths import Home
from us43d.splits import review
from us43d.view import opening
from us43d.view.browse import Browse
from us43d.view.review import Review
from us43d.view.server import Running, Site, serve
from us43d.view.thumbs import Thumbs

from .conftest import run, us43d

pytestmark = pytest.mark.web


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    """STU-Hospital with its images 1 to 6 once more, half as large, as 31 to 36; built, audited, merged as `mine`."""
    home = Home(tmp_path / "home")
    us43d(home.root, "fetch", "stu", "--specimen")
    folder = next(home.raw("STU-Hospital").rglob("Hospital"))
    folder.chmod(0o755)
    for n in range(1, 7):
        picture = cv2.imread(str(folder / f"Test_Image_{n}.png"), cv2.IMREAD_GRAYSCALE)
        small = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"Test_Image_{30 + n}.png"), small)
        cv2.imwrite(str(folder / f"mask_{30 + n}.png"), np.full((64, 64), 255, np.uint8))
    build = ("build", "stu", "--jobs", "1")
    for words in (build, ("audit", "--all"), build, ("corpus", "stu", "--release", "mine")):
        us43d(home.root, *words)
    return home.root


@pytest.fixture
def reviewing(doubled: Path, tmp_path: Path) -> Iterator[Running]:
    corpus = Corpus.open(doubled / "corpora" / "mine", doubled)
    merge = merging(Session(doubled, as_json=False, quiet=True), corpus)
    catalogue = opening.catalogue(corpus, doubled, merge=merge)
    routes = [
        *Browse(catalogue, Thumbs(tmp_path / "thumbs"), "corpus us43d").routes(),
        *Review(catalogue, opening.findings(doubled), doubled, "corpus us43d").routes(),
    ]
    running = serve(Site(routes, "/review"), port=0)
    yield running
    running.stop()


def rows(home: Path) -> dict[str, tuple[str, int]]:
    """Key → (group, split) of the corpus."""
    corpus = Corpus.open(home / "corpora" / "mine", home)
    return {corpus.key(n): (corpus.group(n), int(corpus.images["split"][n])) for n in range(len(corpus))}


def position(page: Any, text: str) -> None:
    page.wait_for_function("text => document.querySelector('#position')?.textContent.includes(text)", arg=text)


def test_a_pair_is_decided_by_key_and_the_next_build_splits_otherwise(
    reviewing: Running, doubled: Path, visit: Callable[..., Any]
) -> None:
    pairs = [{p["a"]["key"], p["b"]["key"]} for p in json.loads((doubled / "audit" / "audit.json").read_text())["near"]]
    assert len(pairs) == 6
    before = rows(doubled)
    assert all(len({before[key] for key in pair}) == 1 for pair in pairs)  # twins share group and split
    page = visit(reviewing.url)
    position(page, "6 undecided")
    for left in (5, 4, 3, 2, 1):
        page.keyboard.press("2")  # not the same
        position(page, f"{left} undecided")
    page.keyboard.press("z")  # undone: five times not the same are four
    position(page, "2 undecided")
    verdicts = review.decided(doubled)
    assert [verdict.verdict for verdict in verdicts] == ["not the same"] * 4
    page.select_option("#verdict", "not the same")
    position(page, "1 of 4")
    assert page.url.endswith("?kind=near&verdict=not+the+same")  # a link to it
    page.select_option("#verdict", "same")
    page.wait_for_selector("#empty")
    assert "2 decisions left" in page.inner_text("#empty")
    page.click("[data-kind=conflict]")
    position(page, "6 undecided")
    page.keyboard.press("2")
    position(page, "5 undecided")
    (wrong,) = [verdict for verdict in review.decided(doubled) if verdict.kind == "conflict"]
    review.append(doubled, "conflict", "first is wrong", wrong.b, wrong.a)  # the same, of the pair the other way round
    page.select_option("#verdict", "second is wrong")
    position(page, "1 of 1")
    run(doubled, page.inner_text("#then code"))
    after = rows(doubled)
    assert [key for key, (_, split) in after.items() if split == SPLITS.index("excluded")] == [wrong.b.key]
    apart = [{verdict.a.key, verdict.b.key} for verdict in verdicts if verdict.b]
    assert all(len({after[key][0] for key in pair}) == 2 for pair in apart)
    assert all(len({after[key][0] for key in pair}) == 1 for pair in pairs if pair not in apart)
    moved = {key for key, (_, split) in after.items() if split != before[key][1]}
    assert moved - {wrong.b.key}


def test_blinking_lays_the_first_image_on_the_second(
    reviewing: Running, doubled: Path, visit: Callable[..., Any]
) -> None:
    page = visit(reviewing.url, quiet=True)  # the browser remarks on pixels being read back
    page.wait_for_selector("#choices button")  # the images are there
    page.keyboard.press("m")
    page.wait_for_timeout(200)
    read = "() => { const c = document.querySelector('#second'); const d = c.getContext('2d').getImageData(c.width / 2 - 40, c.height / 2 - 40, 80, 80).data; return [...d].filter((_, n) => n % 4 === 0); }"  # noqa: E501
    one = np.array(page.evaluate(read), float)
    with page.expect_response("**/aligned") as answer:
        page.keyboard.press("Space")
    assert answer.value.status == 200
    page.wait_for_timeout(600)
    other = np.array(page.evaluate(read), float)
    assert not np.array_equal(one, other)
    assert np.corrcoef(one, other)[0, 1] > 0.8  # the same frame in the same place
    page.keyboard.press("d")
    page.wait_for_timeout(300)
    assert np.array(page.evaluate(read), float).mean() < 0.4 * one.mean()


@pytest.mark.parametrize(
    ("findings", "said"), [(None, "Run us43d audit --all, then"), ({}, "The last us43d audit reported nothing")]
)
def test_an_empty_review_says_whether_there_was_an_audit(
    home: Path, tmp_path: Path, visit: Callable[..., Any], findings: dict[str, Any] | None, said: str
) -> None:
    catalogue = opening.catalogue(Corpus.open(home / "corpora" / "us43d", home), home)
    running = serve(Site(Review(catalogue, findings, tmp_path, "corpus us43d").routes(), "/review"), port=0)
    try:
        page = visit(running.url)
        page.wait_for_selector("#empty:not([hidden])")
        assert page.inner_text("#empty-said").startswith(said)
    finally:
        running.stop()


def test_a_verdict_is_on_a_pair_that_was_seen(reviewing: Running, doubled: Path, visit: Callable[..., Any]) -> None:
    page = visit(reviewing.url)
    position(page, "6 undecided")
    page.evaluate(
        """() => {
        for (const repeat of [false, true, true, false])
          document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '1', repeat, bubbles: true }));
      }"""
    )
    position(page, "5 undecided")
    page.wait_for_timeout(300)
    assert len(review.log(doubled)) == 1  # the key was held, then pressed again before the next pair was there
    page.keyboard.press("ArrowRight")
    position(page, "2 of 5")
    page.keyboard.press("z")
    position(page, "1 of 6")  # the pair whose verdict was undone
    page.click("[data-kind=conflict]")
    position(page, "1 of 6")
    assert page.evaluate("() => !document.activeElement.matches('button')")  # Space blinks
