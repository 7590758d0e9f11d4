"""What the pages of review, sources and corrections are answered, without a browser (tests/web drives them in one)."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from us43d.errors import UsageError
from us43d.harmonize.corpus import Corpus
from us43d.splits.review import KINDS
from us43d.view import opening
from us43d.view.catalogue import Catalogue
from us43d.view.correct import Correct
from us43d.view.review import Review
from us43d.view.sources import source_page


def asked(query: str = "", body: Any = None, **path: Any) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    scope = {
        "type": "http",
        "method": "GET",
        "headers": [],
        "query_string": query.encode(),
        "path_params": path,
        "path": "/",
    }
    return Request(scope, receive)


def content(response: Response) -> Any:
    return json.loads(bytes(response.body))


@pytest.fixture(scope="module")
def mine(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same home by hard links, with a log of verdicts of its own."""
    return Path(shutil.copytree(home, tmp_path_factory.mktemp("answers") / "mine", copy_function=os.link))


@pytest.fixture(scope="module")
def catalogue(mine: Path) -> Catalogue:
    return opening.catalogue(Corpus.open(mine / "corpora" / "us43d", mine), mine)


@pytest.fixture
def ends(catalogue: Catalogue) -> list[dict[str, str]]:
    """Source and key of three images of BUSI."""
    number = [source["slug"] for source in catalogue.corpus.sources].index("busi")
    rows = np.flatnonzero((catalogue.sources == number) & (catalogue.images >= 0))[:3]
    return [{"source": "BUSI", "key": catalogue.key(int(row))} for row in rows]


@pytest.fixture
def review(catalogue: Catalogue, ends: list[dict[str, str]], tmp_path: Path) -> Review:
    """What an audit could report: two pairs, of which the second is mirrored, and a mask outside the sector."""
    one, two, three = ends
    place = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    findings = {
        "near": [
            {"a": one, "b": two, "equal_blocks": 0.7, "place": place},
            {"a": one, "b": three, "equal_blocks": 0.9, "place": place, "mirrored": "left-right"},
            {"a": one, "b": {"source": "BUSI", "key": "not in this corpus"}, "equal_blocks": 0.8},
        ],
        "masks": [one | {"kind": "outside", "label": "benign", "value": 0.25}],
    }
    return Review(catalogue, findings, tmp_path, "corpus us43d")


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_pair_is_shown_aligned(review: Review, catalogue: Catalogue, mirrored: bool) -> None:
    listed = content(review.listing(asked("kind=near")))
    assert (listed["total"], listed["open"], listed["rebuild"]) == (2, 2, "")
    number = next(n for n, thing in enumerate(review.things["near"]) if (thing["mirrored"] != "none") == mirrored)
    pair = content(review.thing(asked(kind="near", number=number)))
    assert (pair["ids"], pair["verdict"], pair["alignable"]) == (listed["rows"][number]["ids"], None, True)
    rows = [catalogue.row(identifier) for identifier in pair["ids"]]
    first, second = (cv2.imread(str(catalogue.corpus.file(int(catalogue.images[row]))), 0) for row in rows)
    moved = cv2.imdecode(np.frombuffer(review.aligned(asked(kind="near", number=number)).body, np.uint8), 0)
    assert moved.shape == second.shape
    size = max(second.shape) / max(first.shape)
    wanted = cv2.resize(first[:, ::-1] if mirrored else first, None, fx=size, fy=size)
    height, width = (min(sides) for sides in zip(wanted.shape, moved.shape, strict=True))
    inside = moved[2 : height - 2, 2 : width - 2], wanted[2 : height - 2, 2 : width - 2]
    assert np.corrcoef(*(pixels.ravel() for pixels in inside))[0, 1] > 0.95


def test_an_excluded_image_is_in_no_split(
    catalogue: Catalogue, ends: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A near-duplicate that a build excluded was said to be in another split."""
    one, two, three = ends
    states = dict(zip((one["key"], two["key"], three["key"]), ("test", "excluded", "train"), strict=True))
    monkeypatch.setattr(Catalogue, "state", lambda self, row: states[self.key(row)])
    pairs = [{"a": one, "b": two, "equal_blocks": 0.9}, {"a": one, "b": three, "equal_blocks": 0.7}]
    review = Review(catalogue, {"near": pairs}, tmp_path, "corpus us43d")
    assert [(thing["crosses"], thing["detail"][:3]) for thing in review.things["near"]] == [
        (True, "70%"),
        (False, "90%"),
    ]


def test_an_odd_mask_has_a_sentence(review: Review) -> None:
    (row,) = content(review.listing(asked("kind=mask")))["rows"]
    assert row["detail"] == "benign: 25% outside the field of view"


def test_a_verdict_is_recorded_filtered_and_taken_back(review: Review) -> None:
    decision = {"kind": "near", "number": 0, "verdict": "not the same"}
    line = content(asyncio.run(review.decide(asked(body=decision))))["id"]
    listed = content(review.listing(asked("kind=near&verdict=not+the+same")))
    assert [(row["number"], row["verdict"]) for row in listed["rows"]] == [(0, "not the same")]
    assert (listed["open"], listed["rebuild"][:12]) == (1, "us43d build ")
    assert content(review.thing(asked(kind="near", number=0)))["verdict"] == {"id": line, "verdict": "not the same"}
    asyncio.run(review.undo(asked(body={"id": line})))
    assert content(review.listing(asked("kind=near&verdict=open")))["open"] == 2


def test_what_is_no_item_or_verdict_is_refused(review: Review) -> None:
    for query, status in (("kind=nothing", 404), ("kind=near&verdict=wrong", 400)):
        with pytest.raises(HTTPException) as caught:
            review.listing(asked(query))
        assert caught.value.status_code == status
    for kind, number in (("near", 10_000), ("near", -1), ("nothing", 0)):
        with pytest.raises(HTTPException, match="Unknown number"):
            review.thing(asked(kind=kind, number=number))
    with pytest.raises(UsageError, match="'perhaps' is not a verdict"):
        asyncio.run(review.decide(asked(body={"kind": "near", "number": 0, "verdict": "perhaps"})))
    page = bytes(review.page(asked()).body).decode()
    assert all(f'data-kind="{kind}"' in page for kind in KINDS)


def test_the_page_of_a_source(catalogue: Catalogue) -> None:
    page = source_page(catalogue, "busi", "corpus us43d")
    number = [source["slug"] for source in catalogue.corpus.sources].index("busi")
    rows = catalogue.sources == number
    assert "Dataset of Breast Ultrasound Images" in page or "BUSI" in page
    assert "benign" in page
    for split in ("train", "test"):
        facet = catalogue.facets["split"]
        count = int(facet.counts(rows)[list(facet.values).index(split)])
        assert f">{count:,}<" in page, split
    with pytest.raises(HTTPException, match="No source 'nowhere'"):
        source_page(catalogue, "nowhere", "corpus us43d")


@pytest.fixture
def correct(catalogue: Catalogue, mine: Path) -> Iterator[Correct]:
    opened = Correct(catalogue, mine, "corpus us43d", None)
    yield opened
    opened.close()


def test_an_image_is_corrected_among_those_of_a_query(correct: Correct, catalogue: Catalogue) -> None:
    first = correct.begin(asked("source=BUSI&sort=key")).headers["location"]
    assert first.endswith("?source=BUSI&sort=key&through=1")
    identifier = int(first.removeprefix("/correct/").partition("?")[0])
    row = catalogue.row(identifier)
    assert row is not None
    number = int(catalogue.sources[row])
    turn = content(correct.order(asked("sort=key", number=number)))
    assert identifier in turn["ids"]
    assert set(turn["ids"]) == set(catalogue.ids[(catalogue.sources == number) & (catalogue.images >= 0)].tolist())
    to = correct.page(asked("source=BUSI&through=1", id=identifier)).headers["location"]
    annotate, _ = correct._of(number)
    place = int(to.partition("n=")[2].partition("&")[0])
    assert to == f"/correct/source/{number}/label?n={place}&source=BUSI&through=1"
    assert annotate.labels.inputs.items[place - 1].id == identifier
    with pytest.raises(HTTPException, match="No image with the id 7"):
        correct.page(asked(id=7))
    with pytest.raises(HTTPException, match="None of these images"):
        correct.begin(asked("source=nowhere"))
