"""A model's predictions beside the truth: the worst first, drawn dashed, with a verdict by key."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from us43d.coco.segmentation import encode
from us43d.harmonize.corpus import Corpus
from us43d.splits import review
from us43d.view import opening
from us43d.view.browse import Browse
from us43d.view.review import Review
from us43d.view.server import Site, serve
from us43d.view.thumbs import Thumbs

pytestmark = pytest.mark.web


@pytest.fixture
def evaluation(home: Path, tmp_path: Path) -> Path:
    """What us43d eval writes; each prediction is the truth, moved further to the right than the one before."""
    corpus = Corpus.open(home / "corpora" / "us43d", home)
    rows = []
    for moved, number in enumerate(range(0, 40, 2)):
        truth = corpus.mask(number)
        found = np.roll(truth, moved, axis=1)
        dice = 2 * float((truth & found).sum()) / float(truth.sum() + found.sum())
        for weights, clicks in (("mine", 0), ("mine", 3), ("ellipse", 0)):
            rows.append(
                {"annotation": int(corpus.annotations["id"][number]), "weights": weights, "protocol": "ours",
                 "prompt": "box", "clicks": clicks, "dice": dice if (weights, clicks) == ("mine", 0) else 1.0,
                 "score": 0.9, "rle": encode(found)}
            )  # fmt: skip
    folder = tmp_path / "eval"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "instances.parquet")
    (folder / "metrics.json").write_text(json.dumps({"facts": {"weights": ["mine", "ellipse"]}}))
    return folder


def test_worst_first_and_a_verdict(home: Path, tmp_path: Path, evaluation: Path, visit: Callable[..., Any]) -> None:
    corpus = Corpus.open(home / "corpora" / "us43d", home)
    predicted = opening.predictions(evaluation)
    assert len(predicted) == 20
    catalogue = opening.catalogue(corpus, home, predicted)
    mine = tmp_path / "reviewer"  # the fixture's home is not written to
    routes = [
        *Browse(catalogue, Thumbs(tmp_path / "thumbs"), "corpus us43d", predicted).routes(),
        *Review(catalogue, None, mine, "corpus us43d").routes(),
    ]
    running = serve(Site(routes, "/"), port=0)
    try:
        page = visit(running.url + "&sort=dice")
        page.wait_for_selector(".item img")
        said = page.eval_on_selector_all(".said", "all => all.map(one => one.textContent)")
        values = [float(text.rpartition("Dice ")[2]) for text in said if "Dice" in text]
        assert len(values) >= 15
        assert values == sorted(values)
        page.click(".item a >> nth=0")
        page.wait_for_selector("#facts .structure")
        dice = min(entry["dice"] for entry in predicted.values())
        assert f"{dice:.3f}" in page.inner_text("#facts")
        page.wait_for_timeout(300)
        shown = page.evaluate("document.querySelector('#stage').toDataURL()")
        page.get_by_role("checkbox", name="prediction").uncheck()
        page.wait_for_timeout(200)
        assert page.evaluate("document.querySelector('#stage').toDataURL()") != shown
        page.goto(running.url.split("?")[0] + "review")
        page.wait_for_selector("#choices button")  # without an audit, only predictions are there to review
        assert page.get_attribute("[aria-pressed=true][data-kind]", "data-kind") == "prediction"
        page.keyboard.press("1")
        page.wait_for_selector("#toast.shown")
        (verdict,) = review.decided(mine)
        assert (verdict.kind, verdict.verdict) == ("prediction", "truth is wrong")
    finally:
        running.stop()
