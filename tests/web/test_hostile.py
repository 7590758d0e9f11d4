"""A build whose every text is an attack: nothing runs, nothing is loaded, everything is shown as text."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from us43d.harmonize.merge import merge
from us43d.view import opening
from us43d.view.annotate import Annotate
from us43d.view.browse import Browse
from us43d.view.inputs import FileInputs
from us43d.view.labels import Labels
from us43d.view.review import Review
from us43d.view.server import Site, serve
from us43d.view.thumbs import Thumbs

pytestmark = pytest.mark.web

ATTACK = "<img src=x onerror=window.pwned=1><script>window.pwned=2</script>\"'><svg onload=window.pwned=3>{{7*7}}"


def attacked(text: str) -> str:
    return f"{ATTACK}/{text}\u202e\u0000"


def harmless(page: Any) -> None:
    """No script of the data ran, and no element was made of it."""
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None
    assert page.locator("img[onerror], svg[onload]").count() == 0
    scripts = page.eval_on_selector_all("script", "all => all.map(script => script.getAttribute('src'))")
    assert all(source and source.startswith("/static/") for source in scripts)


@pytest.fixture
def hostile(home: Path, tmp_path: Path) -> Path:
    """The build of BUSI with attacks for keys, groups, tags, remarks, reasons, title, licence and citations."""
    root = tmp_path / "home"
    build = next(path.parent for path in home.glob("build/BUSI/*/dataset.json"))
    there = root / build.relative_to(home)
    shutil.copytree(build, there)
    table = pq.read_table(there / "manifest.parquet")
    rows = table.to_pylist()
    names = {row["key"]: attacked(row["key"]) for row in rows}
    for row in rows:
        row |= {"key": names[row["key"]], "group": attacked(row["group"]), "group_kind": ATTACK}
        row |= {"tags": json.dumps({ATTACK: ATTACK, "device": ATTACK}), "remarks": json.dumps([ATTACK])}
        row["official_split"] = ATTACK
    pq.write_table(pa.Table.from_pylist(rows, table.schema), there / "manifest.parquet")
    for shard in (there / "annotations").glob("*.json"):
        content = json.loads(shard.read_text())
        for image in content["images"]:
            image["us43d"] |= {"key": names[image["us43d"]["key"]], "group": attacked(image["us43d"]["group"])}
        for annotation in content["annotations"]:
            annotation["us43d"]["diagnosis"] = ATTACK
        for category in content["categories"]:
            category["name"] = ATTACK if category["name"] == "breast_lesion" else category["name"]
        shard.write_text(json.dumps(content))
    facts = json.loads((there / "dataset.json").read_text())
    facts |= {"title": ATTACK, "organ": ATTACK, "version": ATTACK, "drops": {ATTACK: 1}, "remarks": {ATTACK: 2}}
    facts["licence"]["title"] = ATTACK
    for citation in facts["citations"]:
        citation["title"] = ATTACK
    (there / "dataset.json").write_text(json.dumps(facts))
    merge([there], root, "hostile")
    images = sorted((there / "images").rglob("*.png"))
    images[0].unlink()  # a hard link
    images[0].write_text(f"<html><script>{ATTACK}</script>")
    images[1].unlink()
    return root


def test_nothing_of_a_build_runs(hostile: Path, tmp_path: Path, visit: Callable[..., Any]) -> None:
    from us43d.harmonize.corpus import Corpus

    corpus = Corpus.open(hostile / "corpora" / "hostile", hostile)
    catalogue = opening.catalogue(corpus, hostile)
    keys = [catalogue.key(n) for n in range(2)]
    ends = [{"source": "BUSI", "key": key, "split": ATTACK} for key in keys]
    findings = {"near": [{"a": ends[0], "b": ends[1], "equal_blocks": 1.0, "mirrored": ATTACK, "place": None}],
                "conflicts": [{"a": ends[0], "b": ends[1], "kind": ATTACK, "detail": ATTACK}]}  # fmt: skip
    routes = [
        *Browse(catalogue, Thumbs(tmp_path / "thumbs"), ATTACK).routes(),
        *Review(catalogue, findings, hostile, ATTACK).routes(),
    ]
    running = serve(Site(routes, "/"), port=0)
    try:
        page = visit(running.url, quiet=True)  # the browser reports pictures that cannot be read
        page.wait_for_selector(".item a")
        for summary in page.locator("#facets summary").all()[4:]:
            summary.click()
        harmless(page)
        assert ATTACK in page.inner_text("#facets")
        assert page.locator(".no-picture").count() == 2
        page.locator("#facets input[type=checkbox]:not([name=group])").last.check()
        page.wait_for_selector(".chip")
        harmless(page)
        page.click(".item a >> nth=3")
        page.wait_for_selector("#facts .fact")
        harmless(page)
        assert ATTACK in page.inner_text("#facts")
        page.click("#facts a[href^='/source/']")
        page.wait_for_selector(".sheet")
        harmless(page)
        assert "{{7*7}}" in page.inner_text(".sheet")
        page.goto(running.url.split("?")[0] + "review?kind=%22%3E%3Cscript%3E")
        page.wait_for_timeout(300)
        harmless(page)
        page.goto(running.url.split("?")[0] + "review?kind=conflict")
        page.wait_for_selector("#choices button")
        harmless(page)
        page.goto(running.url.split("?")[0] + "source/%3Cscript%3Ewindow.pwned=1%3C%2Fscript%3E")
        harmless(page)
    finally:
        running.stop()


def test_nothing_of_a_file_name_runs(tmp_path: Path, visit: Callable[..., Any]) -> None:
    folder = tmp_path / "<img src=x onerror=window.pwned=1>"
    folder.mkdir()
    data = cv2.imencode(".png", np.zeros((40, 50), np.uint8))[1].tobytes()
    (folder / "<svg onload=window.pwned=3>.png").write_bytes(data)
    labels = Labels(FileInputs(folder), tmp_path / "labels")
    running = serve(Site(Annotate(labels, folder.name, None, ATTACK).routes(), "/label", labels.close), port=0)
    try:
        page = visit(running.url)
        page.wait_for_function("() => document.querySelector('#position')?.textContent !== ''")
        page.fill("#structure", ATTACK[:60])
        page.keyboard.press("Enter")
        page.keyboard.press("d")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("x")
        page.wait_for_function("() => document.querySelector('#saved')?.textContent === 'Saved'")
        page.reload()
        page.wait_for_selector("#objects .pick")
        harmless(page)
        assert "onerror" in page.inner_text("#objects")
    finally:
        running.stop()
