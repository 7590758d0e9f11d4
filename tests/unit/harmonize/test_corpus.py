"""A corpus of small builds: every field of its arrays, files and facts; what is damaged is named."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest

from us43d import registry
from us43d.bibliography import ULTRASAM, bibtex
from us43d.errors import BuildError, LicenceError, StorageError, TrainError, UnknownName
from us43d.harmonize import merge as merging
from us43d.harmonize import shards
from us43d.harmonize.corpus import ANNOTATION, IMAGE, SPLITS, Corpus
from us43d.harmonize.merge import excluded_by, merge
from us43d.harmonize.records import Annotation, Record
from us43d.masks.components import components

#: docs/format.md
FIELDS = {
    "id": "<i8", "source": "<u2", "split": "|u1", "height": "<i4", "width": "<i4", "group": "<u4", "first": "<i8",
    "count": "<i4", "file_at": "<i8", "file_len": "<u2", "key_at": "<i8", "key_len": "<u2", "group_at": "<i8",
    "group_len": "<u2", "spacing": ("<f4", (2,)),
}  # fmt: skip
OF_ANNOTATIONS = {
    "id": "<i8", "image": "<u4", "category": "<u2", "flags": "|u1", "area": "<i8", "bbox": ("<i4", (4,)),
    "rle_at": "<i8", "rle_len": "<u4", "diagnosis": "<u2",
}  # fmt: skip


def altered(records: dict[str, Record]) -> None:
    """One image without spacing, one of a volume, one speck, one group of two images, all with annotations."""
    mask = np.zeros((6, 9), bool)
    mask[:2, 3:] = mask[4, :2] = True
    records["b"].annotations = tuple(Annotation.of(piece, "breast_lesion", 0, False) for piece in components(mask))
    records["b"].spacing, records["c"].slice, records["b"].group = None, 2.5, "patient a"
    first, second = records["d"].annotations
    records["d"].annotations = (first, second.model_copy(update={"speck": True}))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def two(small: Callable, home: Path) -> list[Path]:
    """Builds of BUSI and STU-Hospital; in the order that a merge does not keep."""
    return [
        small(home / "builds" / slug, altered if slug == "busi" else None, slug) for slug in ("stu_hospital", "busi")
    ]


def test_the_types_of_the_arrays() -> None:
    for dtype, fields in ((IMAGE, FIELDS), (ANNOTATION, OF_ANNOTATIONS)):
        assert dtype.names is not None
        found = {
            name: (dtype[name].base.str, *([dtype[name].shape] if dtype[name].shape else [])) for name in dtype.names
        }
        assert found == {name: kind if isinstance(kind, tuple) else (kind,) for name, kind in fields.items()}


def test_arrays_hold_what_the_coco_files_hold(two: list[Path], home: Path) -> None:
    corpus = merge(two, home, "both")
    assert (corpus.path, corpus.home, corpus.remote) == (home / "corpora" / "both", home, None)
    assert len(corpus) == 8
    row, at = 0, 0
    diagnoses: list[str] = [""]
    groups: dict[tuple[int, str], int] = {}
    for number, build in enumerate(two[::-1]):
        for file in sorted((build / "annotations").glob("*.json")):
            content = json.loads(file.read_text())
            for image in content["images"]:
                own, here = image["us43d"], corpus.images[row]
                group = groups.setdefault((number, own["group"]), len(groups))
                assert [here[name] for name in ("id", "source", "height", "width", "group")] == [
                    image["id"], number, image["height"], image["width"], group,
                ]  # fmt: skip
                assert SPLITS[here["split"]] == file.name.partition("-")[0]
                assert (corpus.key(row), corpus.group(row)) == (own["key"], own["group"])
                assert corpus.file(row) == build / image["file_name"]
                assert corpus.origin(row) == str(corpus.file(row))
                assert np.array_equal(corpus.picture(row), cv2.imread(str(corpus.file(row)), cv2.IMREAD_GRAYSCALE))
                spacing = [np.nan, np.nan] if own["spacing_mm"] is None else own["spacing_mm"]
                assert np.array_equal(here["spacing"], np.array(spacing, np.float32), equal_nan=True)
                assert corpus.slice_mm(row) == own.get("slice_mm")
                entries = [each for each in content["annotations"] if each["image_id"] == image["id"]]
                assert corpus.of(row) == range(at, at + len(entries))
                for entry in entries:
                    there = corpus.annotations[at]
                    assert [there[name] for name in ("id", "image", "category", "area", "flags")] == [
                        entry["id"], row, entry["category_id"], entry["area"], int(entry["us43d"]["speck"]),
                    ]  # fmt: skip
                    assert there["bbox"].tolist() == entry["bbox"]
                    text = entry["us43d"]["diagnosis"] or ""
                    if text not in diagnoses:
                        diagnoses.append(text)
                    assert diagnoses[there["diagnosis"]] == text
                    assert corpus.rle(at) == entry["segmentation"]["counts"].encode()
                    assert (corpus.mask(at).shape, corpus.mask(at).sum()) == (
                        (here["height"], here["width"]),
                        entry["area"],
                    )
                    at += 1
                row += 1
    assert (row, at) == (8, len(corpus.annotations))
    facts = corpus.facts
    assert facts["images"] == {"train": 4, "val": 2, "test": 2, "excluded": 0}
    assert (facts["annotations"], facts["groups"], facts["diagnoses"]) == (14, 7, diagnoses)
    assert corpus.categories == content["categories"]
    digest = hashlib.sha256()
    for name in ("images.npy", "annotations.npy", "strings.bin", "rle.bin"):
        digest.update(hashlib.sha256((corpus.path / name).read_bytes()).digest())
    assert corpus.digest == facts["digest"] == digest.hexdigest()
    assert sorted(path.name for path in corpus.path.iterdir()) == [
        "annotations.npy", "corpus.json", "images.npy", "rle.bin", "slices.npy", "strings.bin",
    ]  # fmt: skip
    assert [path.name for path in corpus.path.parent.iterdir()] == ["both"]


def test_facts_of_a_corpus(two: list[Path], home: Path) -> None:
    corpus = merge(two, home, "für", folder=home / "elsewhere")
    assert corpus.path == home / "elsewhere"
    text = (corpus.path / "corpus.json").read_text()
    assert text == json.dumps(corpus.facts, indent=1, sort_keys=True, ensure_ascii=False)
    dataset = json.loads((two[1] / "dataset.json").read_text())
    kept = ("name", "slug", "version", "digest", "organ", "licence", "citations", "profile", "partial", "specimen",
            "counts", "kind", "external_tier", "shares_with")  # fmt: skip
    busi, stu = corpus.sources
    assert busi == {name: dataset[name] for name in kept} | {
        "path": "builds/busi", "aliases": list(registry.recipe("busi").aliases),
    }  # fmt: skip
    assert stu["path"] == "builds/stu_hospital"
    assert corpus.facts["release"] == "für"
    assert corpus.facts["across_sources"] == {"excluded": {}, "shared": [], "unmatched": []}
    licences = corpus.facts["licences"]
    assert sorted(licences) == ["attribution", "by_licence", "caveat", "commercial", "share_alike", "uses"]
    assert licences["commercial"] is False
    assert {use: entry["use"] for use, entry in licences["uses"].items()} == {use: use for use in licences["uses"]}
    assert sum(len(names) for names in licences["by_licence"].values()) == 2
    citations = [each for slug in ("busi", "stu_hospital") for each in registry.recipe(slug).citations]
    assert corpus.facts["bibliography"] == f"{ULTRASAM}\n\n{bibtex(citations)}"
    with pytest.raises(LicenceError, match="--commercial refuses") as caught:
        merge(two, home, "both", commercial=True)
    assert caught.value.next == "us43d licences --all --commercial"
    assert not (home / "corpora" / "both").exists()


def test_a_corpus_for_commercial_use_without_the_others(small: Callable, two: list[Path], home: Path) -> None:
    terms = json.loads((two[1] / "dataset.json").read_text())["licence"] | {"commercial": True}
    free = small(home / "builds" / "free", slug="busi", licence=terms)
    with pytest.raises(LicenceError, match="settled for STU-Hospital") as caught:
        merge([two[0], free], home, "both", commercial=True)
    assert caught.value.next == "us43d corpus BUSI --commercial"
    assert merge([free], home, "both", commercial=True).facts["licences"]["commercial"] is True


def test_what_else_is_kept_of_a_build(small: Callable, home: Path) -> None:
    path = small(home / "builds" / "x", skipped={"samples": 1}, private=True)
    (source,) = merge([path], home, "one").sources
    assert (source["skipped"], source["private"]) == ({"samples": 1}, True)
    path = small(home / "builds" / "of a person", slug="busi", name="Mine")
    assert merge([path], home, "one").select(["mine"]) == [0]


def test_what_is_no_corpus(small: Callable, two: list[Path], home: Path) -> None:
    with pytest.raises(BuildError, match=r"^A corpus needs at least one build\.") as caught:
        merge([], home, "none")
    assert caught.value.next == "us43d build --all"
    with pytest.raises(BuildError, match=r"several were given of stu_hospital\."):
        merge([two[0], small(home / "builds" / "again"), two[1]], home, "twice")
    assert list((home / "corpora").iterdir()) == []


def test_a_corpus_that_is_being_written_is_hidden(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def full(folder: Path, *_: object) -> None:
        written.append(folder)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging, "_write", full)
    for _ in range(2):
        (home / "corpora" / f".both.{os.getpid()}.tmp" / "of a process that was killed").mkdir(parents=True)
        with pytest.raises(StorageError, match="the disk is full") as caught:
            merge([], home, "both")
        assert caught.value.disk == "The corpus that was there, if any, is unchanged."
    assert written == [home / "corpora" / f".both.{os.getpid()}.tmp"] * 2
    assert list((home / "corpora").iterdir()) == []


def test_the_order_of_annotations(two: list[Path], home: Path) -> None:
    shard = two[1] / "annotations" / "train-00000-of-00001.json"
    content = json.loads(shard.read_text())
    content["annotations"] = [content["annotations"][n] for n in (0, 2, 1, 3)]
    shard.write_text(json.dumps(content))
    with pytest.raises(BuildError, match="annotations of a shard of BUSI are not ordered as its images"):
        merge(two, home, "both")


@pytest.mark.parametrize(("what", "name"), [("images", "image"), ("annotations", "annotation")])
def test_ids_that_collide(two: list[Path], home: Path, what: str, name: str) -> None:
    ids = []
    for build in two:
        shard = build / "annotations" / "test-00000-of-00001.json"
        content = json.loads(shard.read_text())
        first = content[what][0]
        ids.append(first["id"])
        if what == "images":
            for entry in content["annotations"]:
                entry["image_id"] = ids[0]
        first["id"] = ids[0]
        shard.write_text(json.dumps(content))
    with pytest.raises(BuildError, match=rf"^Two {name}s of the corpus have the id {ids[0]}; merge fewer sources\."):
        merge(two, home, "both")


def test_images_without_annotations_volumes_or_spacing(small: Callable, home: Path) -> None:
    def bare(records: dict[str, Record]) -> None:
        for record in records.values():
            record.annotations, record.spacing = (), None

    corpus = merge([small(home / "builds" / "x", bare)], home, "one")
    assert (len(corpus.annotations), corpus.facts["annotations"], len(corpus.of(3))) == (0, 0, 0)
    assert np.isnan(corpus.images["spacing"]).all()
    assert not (corpus.path / "slices.npy").exists()
    assert corpus.slice_mm(0) is None


def test_a_shard_without_images(two: list[Path], home: Path) -> None:
    content = json.loads(next((two[0] / "annotations").glob("*.json")).read_text())
    content |= {"images": [], "annotations": []}
    (two[0] / "annotations" / "excluded-00000-of-00001.json").write_text(json.dumps(content))
    assert len(merge(two, home, "both")) == 8


def shared(small: Callable, home: Path) -> dict[str, Path]:
    """Image a of STU-Hospital, which trains on it, is image d of BUSI, which tests on it."""
    busi = small(home / "builds" / "busi", slug="busi")
    tested = {row["key"]: row for row in shards.read_manifest(busi / shards.MANIFEST)}["d"]

    def alter(records: dict[str, Record]) -> None:
        records["a"].image.pixel_hash = tested["pixel_hash"]
        records["b"].group = records["e"].group = records["a"].group

    return {"busi": busi, "stu_hospital": small(home / "builds" / "stu", alter)}


def test_what_another_source_tests_on(small: Callable, home: Path) -> None:
    builds = shared(small, home)
    corpus = merge(list(builds.values()), home, "both")
    said = corpus.facts["across_sources"]
    excluded = [corpus.key(row) for row in corpus.split("excluded")]
    assert excluded == ["a", "b"]
    assert said == {
        "excluded": {"STU-Hospital": 2}, "unmatched": [],
        "shared": [[
            {"source": "BUSI", "group": "patient d", "images": {"test": 1}},
            {"source": "STU-Hospital", "group": "patient a", "images": {"excluded": 2}},
        ]],
    }  # fmt: skip
    assert corpus.facts["images"] == {"train": 2, "val": 2, "test": 2, "excluded": 2}
    assert excluded_by(builds.values(), home) == {"stu_hospital": 2}


def test_sources_that_share_groups_not_known_by_name(small: Callable, home: Path) -> None:
    rule = {"what": "patients", "evidence": "page", "certain": False, "group": "", "to": "", "groups": {}}
    busi = small(
        home / "builds" / "busi",
        slug="busi",
        shares_with=[rule | {"source": "stu_hospital"}, rule | {"source": "asus"}],
    )
    stu = small(home / "builds" / "stu", shares_with=[rule | {"source": "busi"}])
    told = {"sources": ["BUSI", "STU-Hospital"], "what": "patients", "certain": False}
    assert merge([busi, stu], home, "both").facts["across_sources"]["unmatched"] == [told]
    assert merge([busi], home, "one").facts["across_sources"]["unmatched"] == []
    named = small(home / "builds" / "named", shares_with=[rule | {"source": "busi", "groups": {"x": "y"}}])
    assert merge([busi, named], home, "both").facts["across_sources"]["unmatched"] == []
    assert merging._matched({}, "mup", "microseg") is merging._matched({}, "microseg", "mup") is True


def test_a_corpus_that_cannot_be_opened(two: list[Path], home: Path) -> None:
    path = merge(two, home, "both").path
    assert Corpus.open(str(path)).home == home
    assert Corpus.open(path, home / "x").home == home / "x"
    for name, array in (("images", IMAGE), ("annotations", ANNOTATION)):
        whole = (path / f"{name}.npy").read_bytes()
        np.save(path / f"{name}.npy", np.zeros(1, array.descr[1:]))
        with pytest.raises(BuildError, match=rf"^{path} was written by another version of us43d\.") as caught:
            Corpus.open(path)
        assert caught.value.next == "us43d build --all"
        (path / f"{name}.npy").write_bytes(b"x")
        with pytest.raises(BuildError, match=rf"^{path} is not a readable corpus: ") as caught:
            Corpus.open(path)
        assert caught.value.next == "us43d build --all"
        (path / f"{name}.npy").write_bytes(b"")
        with pytest.raises(BuildError, match="not a readable corpus"):
            Corpus.open(path)
        np.save(path / f"{name}.npy", np.array([None]), allow_pickle=True)
        with pytest.raises(BuildError, match="not a readable corpus"):
            Corpus.open(path)
        (path / f"{name}.npy").write_bytes(whole)
    for content in (b"x", b""):
        (path / "slices.npy").write_bytes(content)
        with pytest.raises(BuildError, match="is not a readable corpus: "):
            Corpus.open(path)
    np.save(path / "slices.npy", np.zeros(1, np.float32))
    with pytest.raises(BuildError, match="was written by another version"):
        Corpus.open(path)
    (path / "slices.npy").unlink()
    (path / "strings.bin").unlink()
    with pytest.raises(BuildError, match=r"not a readable corpus: .*strings\.bin"):
        Corpus.open(path)


def test_selected_images_and_samples_of_them(two: list[Path], home: Path) -> None:
    corpus = merge(two, home, "both")
    chosen = corpus.selected(["train", "test"], ["stu"])
    assert (chosen.dtype, [corpus.key(row) for row in np.flatnonzero(chosen)]) == (np.bool_, ["d", "a", "b"])
    assert corpus.selected(["val"]).sum() == 2
    assert (corpus.split("val").tolist(), corpus.split("excluded").tolist()) == ([3, 7], [])
    with pytest.raises(ValueError, match="not in tuple"):
        corpus.split("other")
    with pytest.raises(UnknownName, match="Unknown source 'nobody'") as caught:
        corpus.select(["nobody"])
    assert caught.value.next == "us43d stats --all"
    rows = [7, 3, 5, 0]
    assert corpus.sample(rows, None) == corpus.sample(rows, 4) == corpus.sample(iter(rows), 9) == [0, 3, 5, 7]
    for seed in (0, 1):
        order = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}\0{corpus.images['id'][row]}".encode()).digest())
        assert corpus.sample(rows, 2, seed) == sorted(order[:2])
    assert corpus.sample(rows, 3) == corpus.sample(rows, 3, 0)
    assert corpus.sample(rows, 0) == []


def test_tags(two: list[Path], home: Path) -> None:
    corpus = merge(two, home, "both")
    rows = np.array([0, 3, 4])
    by_key = {corpus.key(row): tags for row, tags in corpus.tags(rows[:2]).items()}
    assert by_key == {corpus.key(row): {"age": 40 + "abcd".index(corpus.key(row))} for row in rows[:2]}
    assert list(corpus.tags(rows)) == [0, 3, 4]
    manifest = two[0] / shards.MANIFEST
    assert corpus.manifest(1) == manifest
    manifest.write_bytes(b"x")
    with pytest.raises(BuildError, match=rf"^{manifest} is not readable: ") as caught:
        corpus.tags(rows)
    assert caught.value.next == "us43d build --all"
    manifest.unlink()
    assert corpus.manifest(1) is None
    assert corpus.tags(rows)[4] == {}


def own(corpus: Corpus) -> Corpus:
    """The same corpus as if its second source were a user's own COCO file."""
    facts = json.loads((corpus.path / "corpus.json").read_text())
    facts["sources"][1]["slug"] = "own"
    (corpus.path / "corpus.json").write_text(json.dumps(facts))
    return Corpus.open(corpus.path)


def test_tags_of_own_images(two: list[Path], home: Path) -> None:
    corpus = own(merge(two, home, "both"))
    assert corpus.tags(np.array([4, 5])) == {4: {}, 5: {}}
    number = int(corpus.images["id"][4])
    (corpus.path / "tags.json").write_text(json.dumps({str(number): {"view": "A4C"}, "1": {}}))
    assert corpus.tags(np.array([4, 5])) == {4: {"view": "A4C"}, 5: {}}
    (corpus.path / "tags.json").write_text("{")
    with pytest.raises(BuildError, match=r"tags\.json is not readable"):
        corpus.tags(np.array([4, 5]))


def test_a_picture_or_mask_that_is_not_as_the_corpus_says(two: list[Path], home: Path) -> None:
    corpus = merge(two, home, "both")
    for row, name in ((0, "BUSI"), (4, "STU-Hospital")):
        file, key = corpus.file(row), corpus.key(row)
        whole, width = file.read_bytes(), corpus.images["width"][row]
        file.write_bytes(b"no image")
        with pytest.raises(TrainError, match=rf"^Image '{key}' of {name}: ") as caught:
            corpus.picture(row)
        assert caught.value.next == f"us43d check {name}"
        cv2.imwrite(str(file), np.zeros((5, 4, 3), np.uint8))
        with pytest.raises(TrainError) as caught:
            corpus.picture(row)
        assert caught.value.what == f"Image '{key}' of {name} has 4 × 5 pixels, not {width} × 6: {file}."
        assert caught.value.next == f"us43d check {name}"
        file.write_bytes(whole)
    again = own(corpus)
    again.file(4).write_bytes(b"no image")
    with pytest.raises(TrainError) as caught:
        again.picture(4)
    assert caught.value.next == "the same again   (with the image as it was)"
    (again.path / "rle.bin").write_bytes(b"\0" * (again.path / "rle.bin").stat().st_size)
    for row, step in ((0, "us43d corpus --all"), (4, f"rm -r {again.path}   (then the same command)")):
        with pytest.raises(TrainError) as caught:
            Corpus.open(again.path).mask(again.of(row)[0])
        key = again.key(row)
        assert caught.value.what.startswith(f"A mask of image '{key}' in {again.path} cannot be decoded: ")
        assert caught.value.next == step


def test_images_of_a_remote_corpus(
    two: list[Path], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the corpus, its images and its manifests come by URL, once."""
    merge(two, home, "both")
    memory: Any = fsspec.filesystem("memory")
    for file in home.rglob("*"):
        if file.is_file():
            memory.pipe(f"/{tmp_path.name}/{file.relative_to(home).as_posix()}", file.read_bytes())
    monkeypatch.setenv("US43D_CACHE", str(tmp_path / "cache"))
    corpus = Corpus.open(f"memory://{tmp_path.name}/corpora/both")
    local = Corpus.open(home / "corpora" / "both")
    assert corpus.facts == local.facts
    name = local.file(0).relative_to(home).as_posix()
    assert corpus.file(0).is_relative_to(tmp_path / "cache" / "images")
    assert corpus.file(0).read_bytes() == local.file(0).read_bytes()
    assert corpus.origin(0) == f"memory://{tmp_path.name}/{name}"
    assert corpus.slice_mm(3) == local.slice_mm(3) == 2.5
    assert corpus.tags(np.array([0, 4])) == local.tags(np.array([0, 4]))
    memory.rm(f"/{tmp_path.name}/builds/busi/manifest.parquet")
    assert Corpus.open(corpus.path).manifest(0) == corpus.manifest(0)  # of the cache
    corpus.manifest(0).unlink()
    assert corpus.manifest(0) is None
