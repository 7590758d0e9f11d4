"""A build beside another version of it: images whose masks differ, the worst Dice first."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d.coco.segmentation import encode
from us43d.harmonize.corpus import Corpus
from us43d.view import fixes, opening
from us43d.view.browse import Browse
from us43d.view.server import Site, serve
from us43d.view.thumbs import Thumbs

from .conftest import us43d

pytestmark = pytest.mark.web


@pytest.fixture
def versions(home: Path, tmp_path: Path) -> tuple[Path, Corpus, Corpus, list[str]]:
    """(home, BUSI with two corrected images, BUSI without, their keys: moved by 8 and by 2 pixels)."""
    mine = Path(shutil.copytree(home, tmp_path / "mine"))
    (build,) = (mine / "build" / "BUSI").glob("*/dataset.json")
    labels = fixes.opened(mine, opening.indexed([build.parent], mine), 0)
    numbers = [n for n in range(len(labels.inputs.items)) if len(labels.state(n)["objects"]) == 1][:2]
    for number, moved in zip(numbers, (8, 2), strict=True):
        corpus = labels.inputs.corpus
        mask = np.roll(corpus.mask(corpus.of(labels.inputs.rows[number])[0]), moved, axis=1)
        (entry,) = labels.state(number)["objects"]
        labels.save(number, 0, [entry | {"rle": encode(mask).decode(), "origin": "person"}], reviewed=True)
    labels.close()
    us43d(mine, "build", "busi", "--jobs", "1")
    us43d(mine, "build", "busi", "--no-fixes", "--jobs", "1")
    plain, fixed = sorted(
        (path.parent for path in (mine / "build" / "BUSI").glob("*/dataset.json")),
        key=lambda p: "unfixed" not in p.name,
    )
    keys = [labels.inputs.items[n].input for n in numbers]
    return mine, opening.indexed([fixed], mine), opening.indexed([plain], mine), keys


def test_only_what_differs_is_told_and_the_worst_comes_first(
    versions: tuple[Path, Corpus, Corpus, list[str]], tmp_path: Path, visit: Callable[..., Any]
) -> None:
    home, fixed, plain, keys = versions
    against = opening.compared(fixed, plain)
    differing = {n: other for n, other in against.items() if other.masks}
    assert len(differing) == 2
    assert all(other == opening.SAME for n, other in against.items() if n not in differing)
    catalogue = opening.catalogue(fixed, home, against=against)
    running = serve(Site(Browse(catalogue, Thumbs(tmp_path / "t"), "BUSI", against=against).routes(), "/"), port=0)
    try:
        page = visit(running.url + "&against=masks+differ&sort=dice")
        page.wait_for_selector(".item img")
        assert page.inner_text("#count") == "2 images"
        assert page.eval_on_selector_all(".item a", "all => all.map(one => one.title)") == keys
        page.click(".item a >> nth=0")
        page.wait_for_selector("#other")
        worst = min(other.dice for other in differing.values())
        assert 0 < worst < 1
        assert f"masks differ, Dice {worst:.3f}" in page.inner_text("#other")
        page.wait_for_timeout(300)
        shown = page.evaluate("document.querySelector('#stage').toDataURL()")
        page.get_by_role("checkbox", name="other build").uncheck()
        page.wait_for_timeout(200)
        assert page.evaluate("document.querySelector('#stage').toDataURL()") != shown
    finally:
        running.stop()
