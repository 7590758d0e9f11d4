"""A mask corrected from the view of its image: the next build has it, and undoing brings the published one back."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d.harmonize.corpus import Corpus
from us43d.masks import rle
from us43d.splits import review
from us43d.view import opening
from us43d.view.assistant import Assistant
from us43d.view.browse import Browse
from us43d.view.correct import Correct
from us43d.view.labels import Inputs
from us43d.view.review import Review
from us43d.view.server import Running, Site, serve
from us43d.view.thumbs import Thumbs

from .conftest import us43d
from .test_label import Boxes

pytestmark = pytest.mark.web


@pytest.fixture
def mine(home: Path, tmp_path: Path) -> Path:
    """A copy of the home, to be written to."""
    return Path(shutil.copytree(home, tmp_path / "mine"))


@pytest.fixture
def assistant() -> Callable[[Inputs], Assistant] | None:
    return None


@pytest.fixture
def viewing(mine: Path, tmp_path: Path, assistant: Callable[[Inputs], Assistant] | None) -> Iterator[Running]:
    corpus = Corpus.open(mine / "corpora" / "us43d", mine)
    catalogue = opening.catalogue(corpus, mine)
    correct = Correct(catalogue, mine, "corpus us43d", assistant)
    routes = [
        *Browse(catalogue, Thumbs(tmp_path / "thumbs"), "corpus us43d").routes(),
        *Review(catalogue, opening.findings(mine), mine, "corpus us43d").routes(),
        *correct.routes(),
    ]
    running = serve(Site(routes, "/", correct.close), port=0)
    yield running
    running.stop()


def masks(home: Path, key: str) -> list[np.ndarray]:
    corpus = Corpus.open(home / "corpora" / "us43d", home)
    row = next(n for n in range(len(corpus)) if corpus.key(n) == key)
    return [corpus.mask(n) for n in corpus.of(row)]


def test_a_mask_is_corrected_rebuilt_and_undone(viewing: Running, mine: Path, visit: Callable[..., Any]) -> None:
    corpus = Corpus.open(mine / "corpora" / "us43d", mine)
    row = next(n for n in range(len(corpus)) if corpus.sources[corpus.images["source"][n]]["slug"] == "busi"
               and corpus.images["count"][n] == 1)  # fmt: skip
    key, before = corpus.key(row), corpus.mask(corpus.of(row)[0])
    page = visit(viewing.url)
    page.goto(viewing.url.split("?")[0] + f"image/{corpus.images['id'][row]}")
    page.wait_for_selector("#correct")
    page.keyboard.press("e")
    page.wait_for_selector("#objects .pick")
    assert page.get_by_role("button", name="Box (b)").is_disabled()  # without a model
    name = page.input_value("#structure")
    page.fill("#structure", "something new")
    page.keyboard.press("Enter")  # a build would refuse it
    page.wait_for_selector("#toast.error.shown")
    assert "something_new is not in the taxonomy" in page.inner_text("#toast")
    assert page.input_value("#structure") == name
    page.focus("#stage")
    page.keyboard.press("d")
    page.keyboard.press("ArrowLeft")
    for _ in range(3):
        page.keyboard.press("x")  # the brush, in the middle of the image
        for _ in range(12):
            page.keyboard.press("ArrowUp")
    page.wait_for_function("() => document.querySelector('#saved')?.textContent === 'Saved'")
    assert review.fixes(mine) == {}  # a draft is not a fix
    page.keyboard.press("Enter")
    page.wait_for_selector("#fix")
    assert "us43d build BUSI" in page.inner_text("#fix")
    (fix,) = review.fixes(mine).values()
    assert (fix.image.source, fix.image.key) == ("busi", key)
    us43d(mine, "build", "--all", "--jobs", "1")
    (after,) = masks(mine, key) if len(masks(mine, key)) == 1 else [np.logical_or.reduce(masks(mine, key))]
    assert (after & before).sum() == before.sum()  # the brush only added
    assert after.sum() > before.sum()
    page.locator("#fix button").click()
    page.wait_for_selector("#fix", state="detached")
    us43d(mine, "build", "--all", "--jobs", "1")
    assert np.array_equal(masks(mine, key)[0], before)
    assert len(review.log(mine)) == 2


@pytest.mark.parametrize("assistant", [lambda inputs: Boxes(lambda number: inputs.read(number).shape[:2])])
def test_a_model_answers_a_click_on_a_mask_of_the_build(
    viewing: Running, mine: Path, visit: Callable[..., Any]
) -> None:
    corpus = Corpus.open(mine / "corpora" / "us43d", mine)
    row = next(n for n in range(len(corpus)) if corpus.images["count"][n] == 1)
    before = corpus.mask(corpus.of(row)[0])
    page = visit(viewing.url)
    page.goto(viewing.url.split("?")[0] + f"correct/{corpus.images['id'][row]}")
    page.wait_for_selector("#objects .pick")
    page.keyboard.press("c")
    stage = page.locator("#stage").bounding_box()
    with page.expect_response("**/api/label/prompt/*") as answer:
        page.mouse.click(stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)
    assert answer.value.status == 200
    page.wait_for_function("() => document.querySelector('#saved')?.textContent === 'Saved'")
    (drafts,) = (mine / "review" / "masks").glob("*/labels.json")
    (annotation,) = json.loads(drafts.read_text())["annotations"]
    after = rle.decode(annotation["segmentation"]["counts"].encode(), *annotation["segmentation"]["size"])
    middle = (before.shape[0] // 2, before.shape[1] // 2)
    assert after[middle]
    assert (after & before).sum() == before.sum()  # the click added to the mask of the build


def test_the_images_of_a_query_are_labelled_one_after_the_other(
    viewing: Running, mine: Path, visit: Callable[..., Any]
) -> None:
    page = visit(viewing.url + "&structure=(no mask)&structure=thyroid_nodule&q=1")
    page.wait_for_selector(".item img")
    total = int(page.inner_text("#count").split()[0])
    page.keyboard.press("l")  # the first source of the query, then the next
    seen = []
    for n in range(total):
        page.wait_for_selector("#position:not(:empty)")
        if page.inner_text("#objects") == "None yet":
            page.fill("#structure", "breast lesion")
            page.keyboard.press("Enter")
            page.focus("#stage")
            page.keyboard.press("d")
            page.keyboard.press("ArrowLeft")
            page.keyboard.press("x")
        name = page.inner_text("#name")
        page.focus("#stage")
        page.keyboard.press("Enter")
        seen.append(name)
        if n + 1 < total:
            text = "document.querySelector('#name')?.textContent"
            page.wait_for_function(
                f"name => {text} !== name && document.querySelector('#position').textContent", arg=name
            )
    page.wait_for_selector("#toast.shown")
    assert "last image" in page.inner_text("#toast")
    fixed = set(review.fixes(mine))
    assert len(fixed) == len(set(seen)) == total
    assert {source for source, _ in fixed} == {"busi", "ddti"}
    page.click("#back")
    page.wait_for_selector(".item img")
    assert page.inner_text("#count") == f"{total} images"


def test_the_label_tools_open_images_of_built_sources_only(viewing: Running, visit: Callable[..., Any]) -> None:
    page = visit(viewing.url, quiet=True)
    root = viewing.url.split("?")[0]
    assert page.goto(root + "correct/1").status == 404
    assert page.goto(root + "correct/source/99/label").status == 404
