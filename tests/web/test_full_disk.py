"""A disk without room while a person labels and decides: the page reports it, nothing is lost, saving goes on later."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from us43d.harmonize.corpus import Corpus
from us43d.splits import review
from us43d.view import opening
from us43d.view.annotate import Annotate
from us43d.view.browse import Browse
from us43d.view.inputs import FileInputs
from us43d.view.labels import Labels
from us43d.view.review import Review
from us43d.view.server import Site, serve
from us43d.view.thumbs import Thumbs

from .test_label import drag, masks, opened, pytestmark, saved, scans, until

__all__ = ["pytestmark", "scans"]


def fill(disk: Path) -> Path:
    """Leave no room on a disk; returns the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            return ballast


def test_labels_stay_on_the_page_until_there_is_room(scans: Path, small_disk: Path, visit: Callable[..., Any]) -> None:
    out = small_disk / "labels"
    labels = Labels(FileInputs(scans), out)
    running = serve(Site(Annotate(labels, "scans", None, "").routes(), "/label", labels.close), port=0)
    try:
        page = opened(visit, running.url, quiet=True)  # the browser reports the requests that failed
        drag(page, (30, 60), (90, 60))
        saved(page)
        before = (out / "labels.json").read_bytes()
        ballast = fill(small_disk)
        page.keyboard.press("n")
        drag(page, (30, 90), (90, 90))
        page.wait_for_selector("#toast.error.shown")
        assert "labels.json cannot be written: the disk is full. Labels saved before are" in page.inner_text("#toast")
        assert page.inner_text("#saved") == "Not saved"
        page.keyboard.press(".")  # no other image before this one is saved
        page.wait_for_timeout(300)
        assert page.inner_text("#position").startswith("1 of 3")
        assert (out / "labels.json").read_bytes() == before
        assert sorted(file.name for file in out.iterdir()) == [".lock", "images", "labels.json"]
        ballast.unlink()
        saved(page)
        assert len(masks(out)) == 2
    finally:
        running.stop()


def test_a_verdict_that_cannot_be_written_is_not_given(home: Path, small_disk: Path, visit: Callable[..., Any]) -> None:
    catalogue = opening.catalogue(Corpus.open(home / "corpora" / "us43d", home), home)
    ends = [{"source": "BUSI", "key": catalogue.key(n)} for n in range(3)]
    findings = {"near": [{"a": ends[0], "b": end, "equal_blocks": 0.9, "mirrored": "none"} for end in ends[1:]]}
    routes = [
        *Browse(catalogue, Thumbs(small_disk / "thumbs"), "corpus us43d").routes(),
        *Review(catalogue, findings, small_disk, "corpus us43d").routes(),
    ]
    running = serve(Site(routes, "/review"), port=0)
    try:
        page = visit(running.url, quiet=True)  # the browser reports the requests that failed
        page.wait_for_selector("#choices button")
        page.keyboard.press("1")
        until(page, lambda: len(review.decided(small_disk)) == 1)
        page.wait_for_function("() => document.querySelector('#position')?.textContent.includes('1 undecided')")
        before = review.path(small_disk).read_bytes()
        with review.path(small_disk).open("ab") as stream:  # the next line takes some of the last block, then fails
            stream.write(b"\n" * (4096 - len(before) - 20))
        before = review.path(small_disk).read_bytes()
        ballast = fill(small_disk)
        for key in ("2", "z", "z"):
            page.evaluate("document.querySelector('#toast').className = ''")
            page.keyboard.press(key)
            page.wait_for_selector("#toast.error.shown")
            assert "verdicts.jsonl cannot be written: the disk is full. Verdicts recorded" in page.inner_text("#toast")
            assert review.path(small_disk).read_bytes() == before
        assert "1 undecided" in page.inner_text("#position")
        ballast.unlink()
        page.keyboard.press("z")  # takes back the verdict that was given
        until(page, lambda: review.decided(small_disk) == [])
    finally:
        running.stop()
