"""Corpora: what crosses sources is excluded, what is one archive stays together, terms and references are carried."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from us43d import atomic, registry
from us43d.contract import Recipe, Shared
from us43d.errors import BuildError, LicenceError, UnknownName
from us43d.harmonize import shards
from us43d.harmonize.build import build
from us43d.harmonize.corpus import SPLITS, Corpus
from us43d.harmonize.merge import merge

SPECIMEN = {"kind": "specimen"}


def splits(corpus: Corpus, source: str) -> dict[str, str]:
    slugs = [each["slug"] for each in corpus.sources]
    rows = [row for row in range(len(corpus)) if slugs[corpus.images["source"][row]] == source]
    return {corpus.key(row): SPLITS[corpus.images["split"][row]] for row in rows}


def manifest(build: Path) -> dict[str, dict]:
    return {row["key"]: row for row in shards.read_manifest(build / shards.MANIFEST)}


def test_a_picture_that_another_source_tests_on_is_never_trained_on(built: Callable, tmp_path: Path) -> None:
    home, (one,) = built(tmp_path, "stu_hospital", receipt=SPECIMEN)
    rows = manifest(one)
    tested = next(row for row in rows.values() if row["split"] == "test")
    trained = next(row for row in rows.values() if row["split"] == "train")
    # BUSI comes to hold both pictures under other names, written anew.
    busi = tmp_path / "busi"
    places = manifest(built(tmp_path, "busi", receipt=SPECIMEN)[1][0])
    keys = [key for key, row in places.items() if row["split"] == "train" and "normal" in key][:2]
    for key, row in zip(keys, (tested, trained), strict=True):
        picture = cv2.imread(str(one / row["file"]))
        cv2.imwrite(str(busi / key), picture)
        cv2.imwrite(str(busi / key.replace(".png", "_mask.png")), np.zeros(picture.shape[:2], np.uint8))
    _, (other,) = built(tmp_path, "busi", receipt=SPECIMEN)
    alone = splits(merge([other], home.root, "alone"), "busi")
    assert [alone[key] for key in keys] == ["train", "train"]
    corpus = merge([one, other], home.root, "both")
    both = splits(corpus, "busi")
    assert [both[key] for key in keys] == ["excluded", "train"]
    assert both == alone | {keys[0]: "excluded"}
    assert splits(corpus, "stu_hospital") == {key: row["split"] for key, row in rows.items()}
    said = corpus.facts["across_sources"]
    assert said["excluded"] == {"BUSI": 1}
    assert said["shared"] == [
        [
            {"source": "BUSI", "group": key, "images": {place: 1}},
            {"source": "STU-Hospital", "group": row["group"], "images": {row["split"]: 1}},
        ]
        for key, place, row in zip(keys, ("excluded", "train"), (tested, trained), strict=True)
    ]


def test_one_archive_is_split_once_whether_or_not_its_twin_is_there(built: Callable, tmp_path: Path) -> None:
    (tmp_path / "microseg").mkdir()
    registry.specimen("microseg")(tmp_path / "microseg", np.random.default_rng(0), 4)
    shutil.copytree(tmp_path / "microseg", tmp_path / "mup")
    home, (mup, microseg) = built(tmp_path, "mup", "microseg", receipt=SPECIMEN)
    assert {k: r["split"] for k, r in manifest(mup).items()} == {k: r["split"] for k, r in manifest(microseg).items()}
    corpus = merge([mup, microseg], home.root, "both")
    said = corpus.facts["across_sources"]
    assert said["excluded"] == {}
    assert len(said["shared"]) == json.loads((mup / "dataset.json").read_text())["counts"]["groups"]


def altered(slug: str, **facts: Any) -> Recipe:
    recipe = registry.recipe(slug)
    return Recipe(**({name: getattr(recipe, name) for name in Recipe.model_fields} | facts))


def test_groups_that_a_rule_names_stay_in_one_split(built: Callable, tmp_path: Path) -> None:
    """A case of BrEaST is made a patient of BUS-BRA who is tested on: it is not trained on."""
    home, (one, other) = built(tmp_path, "breast_lesions_usg", "busbra", receipt=SPECIMEN)
    cases = {row["group"]: row["split"] for row in manifest(one).values()}
    patients = {row["group"]: row["split"] for row in manifest(other).values()}
    case = next(name for name, split in cases.items() if split == "train")
    patient = next(name for name, split in patients.items() if split == "test")
    shared = Shared(source="busbra", what="patients", evidence="made up", group=f"({case})", to=patient)
    recipe = altered("breast_lesions_usg", shares_with=(shared,))
    one = build(recipe, tmp_path / "breast_lesions_usg", home, receipt=SPECIMEN).path
    corpus = merge([one, other], home.root, "both")
    mine, theirs = splits(corpus, "breast_lesions_usg"), splits(corpus, "busbra")
    for key, row in manifest(one).items():
        assert mine[key] == ("excluded" if row["group"] == case else row["split"])
    assert theirs == {key: row["split"] for key, row in manifest(other).items()}
    across = corpus.facts["across_sources"]
    assert [[place["group"] for place in group] for group in across["shared"]] == [[case, patient]]
    assert across["excluded"] == {"BrEaST": sum(row["group"] == case for row in manifest(one).values())}
    assert across["unmatched"] == []


def test_sources_that_share_unknown_groups_are_named(built: Callable, tmp_path: Path) -> None:
    home, builds = built(tmp_path, "mmotu_2d", "mmotu_3d", "stu_hospital", receipt=SPECIMEN)
    unmatched = merge(builds, home.root, "all").facts["across_sources"]["unmatched"]
    assert unmatched == [{"sources": ["MMOTU-2D", "MMOTU-3D"], "what": "patients", "certain": False}]
    assert merge(builds[1:], home.root, "two").facts["across_sources"]["unmatched"] == []


def test_a_build_of_before_these_facts_is_still_merged(built: Callable, tmp_path: Path) -> None:
    home, (path,) = built(tmp_path, "stu_hospital", receipt=SPECIMEN)
    dataset = json.loads((path / "dataset.json").read_text())
    for name in ("kind", "external_tier", "shares_with"):
        del dataset[name]
    (path / "dataset.json").write_text(json.dumps(dataset))
    (source,) = merge([path], home.root, "old").sources
    assert (source["kind"], source["external_tier"]) == ("human", False)


def test_a_citation_corrected_in_between_is_named(built: Callable, tmp_path: Path) -> None:
    """An earlier build has the same key with another text; the source is built again, as a fact has changed."""
    home, builds = built(tmp_path, "mmotu_2d", "mmotu_3d", receipt=SPECIMEN)
    dataset = json.loads((builds[0] / "dataset.json").read_text())
    dataset["citations"][0]["bibtex"] = dataset["citations"][0]["bibtex"].replace("2022", "2021")
    (builds[0] / "dataset.json").write_text(json.dumps(dataset))
    with pytest.raises(BuildError, match="Two different BibTeX entries have the key 'DBLP"):
        merge(builds, home.root, "both")
    (citation,) = registry.recipe("mmotu_2d").citations
    recipe = altered("mmotu_2d", citations=(citation.model_copy(update={"venue": "corrected"}),))
    assert not build(recipe, tmp_path / "mmotu_2d", home, receipt=SPECIMEN).reused
    merge(builds, home.root, "both")


def test_a_corpus_carries_terms_and_references_of_its_sources(built: Callable, tmp_path: Path) -> None:
    home, builds = built(tmp_path, "stu_hospital", "busbra", receipt=SPECIMEN)
    facts = merge(builds, home.root, "two").facts
    assert facts["licences"]["commercial"] is False
    uses = facts["licences"]["uses"]["research"]
    assert sorted(uses["allowed"] + uses["forbidden"] + uses["unknown"]) == ["BUS-BRA", "STU-Hospital"]
    for slug in ("stu_hospital", "busbra"):
        for citation in registry.recipe(slug).citations:
            assert citation.bibtex.strip() in facts["bibliography"]
    assert "echonet" not in facts["bibliography"].lower()
    with pytest.raises(LicenceError, match="--commercial refuses"):
        merge(builds, home.root, "two", commercial=True)
    assert Corpus.open(home.corpus("two")).facts == facts


def test_a_merge_that_fails_leaves_the_corpus_as_it_was(
    built: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, (path,) = built(tmp_path, "stu_hospital", receipt=SPECIMEN)
    before = merge([path], home.root, "local").digest

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28), "images.npy")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(Exception, match="the disk is full"):
        merge([path], home.root, "local")
    assert Corpus.open(home.corpus("local")).digest == before
    assert [each.name for each in (home.root / "corpora").iterdir()] == ["local"]
    monkeypatch.undo()
    monkeypatch.setattr(atomic, "replace_dir", full)
    with pytest.raises(Exception, match="the disk is full"):
        merge([path], home.root, "local")
    assert Corpus.open(home.corpus("local")).digest == before


def test_sources_are_selected_in_any_spelling(built: Callable, tmp_path: Path) -> None:
    home, builds = built(tmp_path, "stu_hospital", "asus", receipt=SPECIMEN)
    corpus = merge(builds, home.root, "both")
    assert [source["name"] for source in corpus.sources] == ["ASUS", "STU-Hospital"]
    assert corpus.select() == [0, 1]
    for names, chosen in (
        (["stu hospital"], [1]),
        (["QueensSagittal", "asus"], [0]),
        (["Stu_Hospital", "ASUS"], [0, 1]),
    ):
        assert corpus.select(names) == chosen
        marked = corpus.selected(["train", "val", "test"], names)
        assert set(corpus.images["source"][marked]) == set(chosen)
    with pytest.raises(UnknownName, match=r"Unknown source 'asuss'. Did you mean ASUS\? Known: ASUS, STU-Hospital"):
        corpus.select(["asuss"])
