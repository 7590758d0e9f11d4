"""Facets, search, order and windows, against plain Python over the manifests."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from us43d.harmonize import shards
from us43d.harmonize.corpus import SPLITS, Corpus
from us43d.view import opening
from us43d.view.catalogue import Catalogue, Query


@pytest.fixture(scope="module")
def rows(home: Path, corpus: Corpus) -> list[dict]:
    """Every manifest row with its source, structures and split in the corpus."""
    names = {entry["id"]: entry["name"] for entry in corpus.categories}
    place = {int(number): n for n, number in enumerate(corpus.images["id"])}
    held = []
    for source in corpus.sources:
        for row in shards.read_manifest(home / source["path"] / shards.MANIFEST):
            row["source"] = source["name"]
            row["state"] = "dropped" if row["drop"] else SPLITS[corpus.images["split"][place[row["id"]]]]
            own = [] if row["drop"] else [corpus.annotations[n] for n in corpus.of(place[row["id"]])]
            row["structures"] = {names[int(a["category"])] for a in own if not a["flags"] & 1}
            row["count"] = sum(not a["flags"] & 1 for a in own)
            held.append(row)
    return held


@pytest.fixture(scope="module")
def catalogue(home: Path, corpus: Corpus) -> Catalogue:
    return opening.catalogue(corpus, home)


def keys(catalogue: Catalogue, query: Query) -> list[str]:
    return [catalogue.key(int(n)) for n in catalogue.rows(query)]


def test_every_sample_has_a_row_also_what_was_dropped(catalogue: Catalogue, rows: list[dict]) -> None:
    assert keys(catalogue, Query()) == [row["key"] for row in rows]
    assert len(rows) > 70


def test_facets_count_what_the_manifests_hold(catalogue: Catalogue, rows: list[dict]) -> None:
    said = {facet["name"]: {v["value"]: v["count"] for v in facet["values"]} for facet in catalogue.counted(Query())}
    assert said["source"] == Counter(row["source"] for row in rows)
    assert said["split"] == Counter(row["state"] for row in rows)
    structures = Counter(name for row in rows for name in row["structures"])
    bare = sum(not row["structures"] and not row["drop"] for row in rows)
    assert said["structure"] == structures | ({"(no mask)": bare} if bare else {})
    tags = Counter(str(json.loads(row["tags"])["view"]) for row in rows if "view" in json.loads(row["tags"]))
    assert said["tag.view"] == tags
    assert len(tags) > 1


def test_facets_narrow_each_other_but_not_themselves(catalogue: Catalogue, rows: list[dict]) -> None:
    query = Query(choices=(("source", ("CAMUS",)), ("split", ("test", "val"))))
    wanted = [r["key"] for r in rows if r["source"] == "CAMUS" and r["state"] in ("test", "val")]
    assert keys(catalogue, query) == wanted
    assert wanted
    said = {facet["name"]: {v["value"]: v["count"] for v in facet["values"]} for facet in catalogue.counted(query)}
    assert said["split"] == Counter(row["state"] for row in rows if row["source"] == "CAMUS")
    assert said["source"] == Counter(row["source"] for row in rows if row["state"] in ("test", "val"))


def test_search_is_plain_text_in_keys_groups_and_ids(catalogue: Catalogue, rows: list[dict]) -> None:
    assert keys(catalogue, Query(text="BENIGN (1")) == [r["key"] for r in rows if "benign (1" in r["key"].lower()]
    assert keys(catalogue, Query(text="benign (1"))
    assert keys(catalogue, Query(text="patient0001_")) == [r["key"] for r in rows if "patient0001_" in r["key"]]
    assert keys(catalogue, Query(text=str(rows[7]["id"]))) == [rows[7]["key"]]
    assert keys(catalogue, Query(text=".*")) == [r["key"] for r in rows if ".*" in r["key"]]
    assert keys(catalogue, Query(choices=(("source", ("no such source",)),))) == []


def test_a_group_and_its_members(catalogue: Catalogue, rows: list[dict]) -> None:
    camus = next(row for row in rows if row["source"] == "CAMUS")
    wanted = [r["key"] for r in rows if r["source"] == "CAMUS" and r["group"] == camus["group"]]
    assert len(wanted) > 1
    assert keys(catalogue, Query(choices=(("source", ("CAMUS",)),), groups=(camus["group"],))) == wanted
    row = catalogue.row(camus["id"])
    assert row is not None
    assert [catalogue.key(n) for n in catalogue.members(row)] == wanted


def test_frames_come_in_the_order_of_their_numbers(
    catalogue: Catalogue, rows: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = catalogue.row(next(row for row in rows if row["source"] == "CAMUS")["id"])
    assert row is not None
    members = catalogue.members(row)
    assert len(members) == 4
    names = dict(zip(members, ("v/b10.png", "v/b9.png", "v/a100.png", "v/b09x.png"), strict=True))
    monkeypatch.setattr(catalogue, "_keys", pa.array([names.get(n, "") for n in range(len(catalogue))]))
    assert [names[n] for n in catalogue.members(row)] == ["v/a100.png", "v/b9.png", "v/b09x.png", "v/b10.png"]


def test_orders(catalogue: Catalogue, rows: list[dict]) -> None:
    counts = {row["key"]: row["count"] for row in rows}
    got = [counts[key] for key in keys(catalogue, Query(order="annotations"))]
    assert got == sorted(got, reverse=True)
    assert got[0] > got[-1]
    target = rows[3]
    like = catalogue.rows(Query(like=target["id"]))
    assert catalogue.key(int(like[0])) == target["key"]
    distances = [bin(rows[int(n)]["phash"] ^ target["phash"]).count("1") for n in like if catalogue.images[n] >= 0]
    assert distances == sorted(distances)


def test_worst_predictions_come_first(home: Path, corpus: Corpus) -> None:
    annotations = corpus.annotations
    predicted = {int(annotations["id"][n]): {"dice": 0.1 + n / 1000} for n in range(20, 40)}
    catalogue = opening.catalogue(corpus, home, predicted)
    first = int(catalogue.rows(Query(order="dice"))[0])
    assert catalogue.ids[first] == corpus.images["id"][annotations["image"][20]]
    assert "dice" not in opening.catalogue(corpus, home).orders


def test_the_facts_of_an_image_are_its_manifest_row(catalogue: Catalogue, rows: list[dict]) -> None:
    for n in (0, 5, len(rows) - 1):
        assert catalogue.facts(n) == {k: rows[n][k] for k in catalogue.facts(n)}
        assert catalogue.facts(n)["sha256"] == rows[n]["sha256"]


def test_builds_named_together_are_indexed_once(home: Path, tmp_path: Path) -> None:
    builds = [home / source["path"] for source in Corpus.open(home / "corpora" / "us43d", home).sources[:2]]
    corpus = opening.indexed(builds, home)
    assert corpus.path.parent == home / "cache" / "view"
    before = (corpus.path / "images.npy").stat().st_mtime_ns
    assert (opening.indexed(builds[::-1], home).path / "images.npy").stat().st_mtime_ns == before
    assert np.array_equal(np.unique(corpus.images["source"]), [0, 1])
