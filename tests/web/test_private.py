"""A private source in the browser: shown as what it is, a mask corrected, the correction in the next build."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner
from us43d.cli.build import merging
from us43d.cli.output import Session

from us43d.harmonize.corpus import Corpus
from us43d.splits import review
from us43d.view import opening
from us43d.view.browse import Browse
from us43d.view.correct import Correct
from us43d.view.server import Site, serve
from us43d.view.thumbs import Thumbs

from .conftest import run, us43d

pytestmark = pytest.mark.web


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A home with a COCO folder of four patients, imported, built and merged."""
    folder, home = tmp_path / "my lab", tmp_path / "home"
    folder.mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for n in range(12):
        name = f"P{n // 3}_{n % 3}.png"
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (60, 80), np.uint8))
        images.append({"id": n + 1, "file_name": name, "width": 80, "height": 60})
        outline = [10, 10, 40, 10, 40, 30, 10, 30]
        annotations.append({"id": n + 1, "image_id": n + 1, "category_id": 1, "segmentation": [outline]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thyroid nodule"}]}
    (folder / "anno.json").write_text(json.dumps(content))
    us43d(home, "import", str(folder), "--group", r"(P\d)_", "--name", "MyLab")
    us43d(home, "build", "MyLab", "--jobs", "1")
    return home


def test_a_private_source_is_shown_corrected_and_built_again(
    lab: Path, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    evaluated = CliRunner().invoke(
        importlib.import_module("us43d.cli.app").app, ["eval", "--on", "MyLab", "--home", str(lab)]
    )
    assert "Next: us43d corpus MyLab --release mine" in evaluated.stderr  # build --all would make no corpus
    us43d(lab, "corpus", "MyLab", "--release", "mine")
    corpus = Corpus.open(lab / "corpora" / "mine", lab)
    catalogue = opening.catalogue(corpus, lab, merge=merging(Session(lab, as_json=False, quiet=True), corpus))
    correct = Correct(catalogue, lab, "corpus mine", None)
    routes = [*Browse(catalogue, Thumbs(tmp_path / "thumbs"), "corpus mine").routes(), *correct.routes()]
    running = serve(Site(routes, "/", correct.close), port=0)
    try:
        page = visit(running.url)
        page.wait_for_selector(".item img")
        assert page.inner_text("#count") == "12 images"
        page.click(".item a >> nth=0")
        page.wait_for_selector("#facts .fact")
        assert "Private data; permitted uses unknown" in page.inner_text("#facts")
        page.goto(f"{running.url.split('?')[0]}source/mylab")
        assert page.inner_text("thead").split("\t")[1:] == ["this build", "counted at import\n"]
        assert "Private data of this home" in page.inner_text("main")
        page.go_back()
        page.wait_for_selector("#facts .fact")
        page.keyboard.press("e")
        page.wait_for_selector("#objects .pick")
        for key in ("d", "ArrowLeft", "x"):
            page.keyboard.press(key)
        page.wait_for_function("() => document.querySelector('#saved')?.textContent === 'Saved'")
        page.keyboard.press("Enter")
        page.wait_for_selector("#fix")
        printed = page.inner_text("#fix").partition("the next build applies it: ")[2].partition(". ")[0]
    finally:
        running.stop()
    (fix,) = review.fixes(lab).values()
    before = corpus.mask(corpus.of(0)[0])
    run(lab, printed)
    after = Corpus.open(lab / "corpora" / "mine", lab)
    row = next(n for n in range(len(after)) if after.key(n) == fix.image.key)
    area = sum(int(after.mask(n).sum()) for n in after.of(row))
    assert area > before.sum()
