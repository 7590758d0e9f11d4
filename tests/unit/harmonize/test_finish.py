"""What a build is made from, its counts, its COCO files, its manifest: each rule on records made by hand."""

import hashlib
import json
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from us43d import __version__, atomic, registry
from us43d.contract import Expect, Fix, RawTree, Recipe, Shared
from us43d.errors import CheckError, CountError, RecipeError, UnknownName
from us43d.harmonize import blocks, finish, plan, shards, taxonomy
from us43d.harmonize.corrections import Corrections
from us43d.harmonize.inventory import Inventory, Skip
from us43d.harmonize.plan import Plan
from us43d.harmonize.records import Annotation, Record, Written
from us43d.splits import duplicate_links
from us43d.splits.duplicate_links import Frame

STU = registry.recipe("stu_hospital")


def made(key: str = "k", **facts: Any) -> Record:
    """A record with an image of 6 × 8 pixels and one annotation."""
    image = Written(
        file=f"images/{key}.png", sha256="s", bytes=9, kept=True, height=6, width=8, pixel_hash=key, phash=5
    )
    thing = Annotation(label="breast_lesion", instance=0, counts="01", area=5, box=(1, 2, 3, 4), speck=False)
    return Record(**{
        "id": 7, "key": key, "group": "g", "official": None, "frame": None, "spacing": None, "slice": None, "tags": {},
        "remarks": (), "masks": 1, "image": image, "annotations": (thing,), "split": "train", **facts,
    })  # fmt: skip


def planned(folder: Path, recipe: Recipe = STU, **how: Any) -> Plan:
    (folder / "raw").mkdir(exist_ok=True)
    given = {"home": folder, "profile": "us43d", "partial": False, "fixes": True, "skip": Skip(), "receipt": {}}
    return Plan(recipe, **{"tree": RawTree(folder / "raw", collect=True), **given, **how})


# ------------------------------------------------------------------------------------------------------------ the plan


@pytest.mark.parametrize(
    ("how", "version"),
    [
        ({}, "r1s1-us43d"),
        ({"partial": True}, "r1s1-us43d-partial"),
        ({"partial": True, "receipt": {"kind": "specimen"}}, "r1s1-us43d-specimen"),
        ({"fixes": False, "profile": "paper"}, "r1s1-paper-unfixed"),
        ({"partial": True, "fixes": False, "skip": Skip(True)}, "r1s1-us43d-partial-unfixed-skipping"),
        ({"skip": Skip(ignore=("*.txt",))}, "r1s1-us43d-skipping"),
    ],
)
def test_the_name_of_a_build(tmp_path: Path, how: dict, version: str) -> None:
    assert planned(tmp_path, **how).version == version


def test_a_build_is_made_again_where_what_it_is_made_from_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raw").mkdir()
    file = tmp_path / "raw" / "a.png"

    def inputs(recipe: Recipe = STU, **how: Any) -> str:
        return planned(tmp_path, recipe, **how).inputs

    first = inputs()
    seen = {first}

    def new(recipe: Recipe = STU, **how: Any) -> None:
        found = inputs(recipe, **how)
        assert found not in seen
        seen.add(found)

    file.write_text("1")
    os.utime(file, ns=(5, 5))
    new()
    os.utime(file, ns=(5, 6))
    new()
    file.write_text("12")
    os.utime(file, ns=(5, 6))
    new()
    file.rename(file.with_name("b.png"))
    new()
    file.with_name("b.png").unlink()
    assert inputs() == inputs(STU.model_copy(update={"known_issues": ("one",)})) == first
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "other" is not of the type
        for name in sorted(plan._CARRIED):
            new(STU.model_copy(update={name: "other"}))
    new(STU.model_copy(update={"slug": "other"}))
    new(partial=True)
    new(skip=Skip(True))
    new(skip=Skip(ignore=("a",)))
    new(skip=Skip(ignore=("b",)))
    links = [duplicate_links.Link(Frame("stu_hospital", "a", "1"), Frame("stu_hospital", "b", "2"))]
    others = [duplicate_links.Link(Frame("stu_hospital", "a", "1"), Frame("busi", "b", "2")),
              duplicate_links.Link(Frame("busi", "a", "1"), Frame("busi", "b", "2"))]  # fmt: skip
    monkeypatch.setattr(duplicate_links, "read", lambda home: others)
    assert (inputs(), planned(tmp_path).links) == (first, [])
    monkeypatch.setattr(duplicate_links, "read", lambda home: others + links)
    assert planned(tmp_path).links == links
    new()
    monkeypatch.setattr(duplicate_links, "read", lambda home: [])
    monkeypatch.setattr(plan.corrections, "read", lambda home, slug: Corrections(digest=f"of {slug}"))
    new()
    assert planned(tmp_path, fixes=False).corrections == Corrections()
    monkeypatch.undo()
    monkeypatch.setattr(plan, "__version__", "0")
    new()
    monkeypatch.undo()
    monkeypatch.setattr(plan, "taxonomy", lambda: taxonomy.Taxonomy(0, ()))
    new()
    assert len(first) == 64


def test_a_reader_whose_text_is_not_there() -> None:
    scope: dict[str, Any] = {}
    exec(compile("def read(raw): ...", "/nowhere/reader.py", "exec"), scope)
    assert plan._source(scope["read"]) == b""
    assert plan._source(planned) == Path(__file__).read_bytes()
    assert plan._source(plan.partial(planned)) == Path(__file__).read_bytes()


def test_labels_of_the_paper(tmp_path: Path) -> None:
    """A label is renamed, omitted or merged; two structures under one name are refused."""
    paper = STU.paper.model_copy(update={"labels": {"a": "m", "b": "m"}, "omit": ("c",)})
    ids = {each.name: each.id for each in taxonomy.taxonomy().categories}
    one, two = list(ids)[:2]
    recipe = STU.model_copy(update={"paper": paper, "labels": {"a": one, "b": one, "c": two, "d": two}})
    assert planned(tmp_path, recipe, profile="paper").category == {"m": ids[one], "d": ids[two]}
    assert planned(tmp_path, recipe).category == {
        "a": ids[one], "b": ids[one], "c": ids[two], "d": ids[two],
    }  # fmt: skip
    recipe = recipe.model_copy(update={"labels": {"a": one, "b": two}})
    with pytest.raises(RecipeError, match=r"^STU-Hospital: the paper profile calls two structures 'm'\."):
        _ = planned(tmp_path, recipe, profile="paper").category


# ------------------------------------------------------------------------------------------------------ the taxonomy


def test_structures() -> None:
    one = taxonomy.taxonomy().categories[0]
    assert taxonomy.category(one.name.upper().replace("_", "-")) is one
    for each in taxonomy.taxonomy().categories:
        for spelling in (each.name, f" {each.name.replace('_', ' ')} ", *each.synonyms):
            assert taxonomy.category(spelling).name == each.name or spelling in each.synonyms
    assert taxonomy.taxonomy().coco()[0] == {"id": one.id, "name": one.name, "supercategory": one.organ}
    ids = [each.id for each in taxonomy.taxonomy().categories]
    assert ids == sorted(ids)
    with pytest.raises(UnknownName) as caught:
        taxonomy.category("breast lesions")
    assert caught.value.what.startswith("Unknown structure 'breast lesions'. Did you mean breast_lesion")
    assert caught.value.next == "us43d taxonomy"
    with pytest.raises(UnknownName) as caught:
        taxonomy.category("qqqq")
    assert caught.value.what == "Unknown structure 'qqqq'."


def test_a_label_of_no_structure() -> None:
    labels = {"a": "nothing", "b": "breast_lesion", "c": "nowhere"}
    with pytest.raises(RecipeError) as caught:
        taxonomy.mapping(STU.model_copy(update={"labels": labels}))
    assert caught.value.what == (
        "STU-Hospital maps labels to structures that manifests/taxonomy.json lacks: nothing, nowhere."
    )


@pytest.mark.parametrize(("twice", "what"), [({"id": 1}, "id 1"), ({"name": "a"}, "name 'a'")])
def test_a_structure_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, twice: dict, what: str) -> None:
    rows = [{"id": n, "name": name, "organ": "", "synonyms": [], "codes": []} for n, name in ((1, "a"), (2, "b"))]
    (tmp_path / "taxonomy.json").write_text(json.dumps({"version": 1, "categories": [rows[0], rows[1] | twice]}))
    monkeypatch.setattr(taxonomy.resources, "files", lambda package: tmp_path)
    with pytest.raises(RecipeError) as caught:
        taxonomy.taxonomy.__wrapped__()
    assert caught.value.what == f"manifests/taxonomy.json has two structures of the {what}."


# ---------------------------------------------------------------------------------------- COCO files and the manifest


def written(folder: Path, records: list[Record], recipe: Recipe = STU) -> shards.Shards:
    sizes = Counter(record.split for record in records if record.split)
    (folder / "parts").mkdir(exist_ok=True)
    files = shards.Shards(folder, sizes, recipe, {"breast_lesion": 3}, "r1", folder / "parts")
    for record in records:
        files.add(record)
    files.finish()
    return files


def test_a_coco_file(tmp_path: Path) -> None:
    record = made(spacing=(0.5, 1), slice=2.5, frame=3, tags={"b": 1, "a": "é"})
    record.annotations = (
        record.annotations[0],
        record.annotations[0].model_copy(update={"instance": 1, "speck": True}),
    )
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "old.json").write_text("")
    files = written(tmp_path, [record, made("d", split=None, image=None, drop="x"), made("e", split=None)])
    assert files.table == {"train": {"images": 1, "groups": 1, "annotations": 2}}
    (path,) = (tmp_path / "annotations").iterdir()
    assert path.name == "train-00000-of-00001.json"
    content = json.loads(path.read_bytes())
    assert path.read_bytes() == json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    terms = STU.licence.terms
    assert content["info"] == {
        "description": STU.title, "url": STU.homepage, "version": "r1", "contributor": STU.citations[0].title,
    }  # fmt: skip
    assert content["licenses"] == [{"id": 1, "name": terms.title, "url": terms.url or ""}]
    assert content["categories"] == taxonomy.taxonomy().coco()
    assert content["images"] == [{
        "id": 7, "file_name": "images/k.png", "width": 8, "height": 6, "license": 1,
        "us43d": {"source": "STU-Hospital", "key": "k", "group": "g", "frame": 3, "spacing_mm": [0.5, 1],
                  "slice_mm": 2.5, "sha256": "s", "tags": {"b": 1, "a": "é"}},
    }]  # fmt: skip
    first, second = content["annotations"]
    assert first == {
        "id": shards.annotation_id(7, "breast_lesion", 0), "image_id": 7, "category_id": 3,
        "segmentation": {"size": [6, 8], "counts": "01"}, "area": 5, "bbox": [1, 2, 3, 4], "iscrowd": 0,
        "us43d": {"label": "breast_lesion", "diagnosis": None, "instance": 0, "speck": False},
    }  # fmt: skip
    assert (second["id"], second["us43d"]["instance"], second["us43d"]["speck"]) == (
        shards.annotation_id(7, "breast_lesion", 1), 1, True,
    )  # fmt: skip


def test_a_source_without_homepage_and_two_citations(tmp_path: Path) -> None:
    one = STU.citations[0]
    recipe = STU.model_copy(update={"homepage": None, "citations": (one, one.model_copy(update={"title": "B"}))})
    written(tmp_path, [made()], recipe)
    content = json.loads(next((tmp_path / "annotations").iterdir()).read_bytes())
    assert (content["info"]["url"], content["info"]["contributor"]) == ("", f"{one.title}; B")
    assert "slice_mm" not in content["images"][0]["us43d"]


def test_coco_files_hold_so_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shards.SHARD == 5000
    monkeypatch.setattr(shards, "SHARD", 2)
    records = [made(f"{n}", id=n, group=f"g{n // 2}", split="val" if n == 3 else "train") for n in range(6)]
    files = written(tmp_path, records)
    assert files.table == {
        "train": {"images": 5, "groups": 3, "annotations": 5}, "val": {"images": 1, "groups": 1, "annotations": 1},
    }  # fmt: skip
    found = {path.name: json.loads(path.read_bytes()) for path in sorted((tmp_path / "annotations").iterdir())}
    assert {name: [image["id"] for image in content["images"]] for name, content in found.items()} == {
        "train-00000-of-00003.json": [0, 1], "train-00001-of-00003.json": [2, 4], "train-00002-of-00003.json": [5],
        "val-00000-of-00001.json": [3],
    }  # fmt: skip
    files = written(tmp_path, records[:2])
    assert [path.name for path in (tmp_path / "annotations").iterdir()] == ["train-00000-of-00001.json"]


@pytest.mark.parametrize(
    ("diagnoses", "tags", "said"),
    [({}, {}, None), ({"l": "malignant"}, {}, "malignant"), ({"l": "tag:d"}, {"d": 3}, "3"),
     ({"l": "tag:d"}, {"e": 3}, None), ({"m": "malignant"}, {}, None)],
)  # fmt: skip
def test_the_diagnosis_of_a_label(diagnoses: dict, tags: dict, said: str | None) -> None:
    assert shards._diagnosis(STU.model_copy(update={"diagnoses": diagnoses}), "l", tags) == said


def test_the_manifest_has_a_row_per_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 2)
    (tmp_path / "parts").mkdir()
    one = made(official="test", tags={"b": 1, "a": "é"}, remarks=("x", "y"))
    dropped = made("d", split=None, image=None, drop="blurred", annotations=())
    path = tmp_path / "manifest.parquet"
    digest = shards.manifest(path, [one, dropped, made("e")], "patient", tmp_path / "parts")
    rows = shards.read_manifest(path)
    assert rows[0] == {
        "id": 7, "key": "k", "file": "images/k.png", "sha256": "s", "pixel_hash": "k", "phash": 5, "group": "g",
        "group_kind": "patient", "split": "train", "official_split": "test", "height": 6, "width": 8, "annotations": 1,
        "tags": '{"a":"é","b":1}', "remarks": '["x","y"]', "drop": None,
    }  # fmt: skip
    assert rows[1] == rows[0] | {
        "key": "d", "official_split": None, "tags": "{}", "remarks": "[]", "drop": "blurred", "split": None,
        **dict.fromkeys(("file", "sha256", "pixel_hash", "phash", "height", "width", "annotations")),
    }  # fmt: skip
    lines = b"".join(
        json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() for row in rows
    )
    assert digest == shards.rows_digest(rows) == hashlib.sha256(lines).hexdigest()
    file = pq.ParquetFile(path)
    assert {field.name: str(field.type) for field in file.schema_arrow} == {
        "id": "int64", "key": "string", "file": "string", "sha256": "string", "pixel_hash": "string", "phash": "uint64",
        "group": "string", "group_kind": "string", "split": "string", "official_split": "string", "height": "int32",
        "width": "int32", "annotations": "int32", "tags": "string", "remarks": "string", "drop": "string",
    }  # fmt: skip
    assert (file.metadata.num_row_groups, file.metadata.metadata) == (2, None)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert list((tmp_path / "parts").iterdir()) == []
    assert shards.read_table(path, ["key", "id"]).to_pylist()[1] == {"key": "d", "id": 7}


def test_a_manifest_with_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    with pytest.raises(CheckError, match=rf"^{path} is not a readable manifest: "):
        shards.read_table(path)
    path.write_bytes(b"x" * 50)
    with pytest.raises(CheckError, match="is not a readable manifest"):
        shards.read_table(path)
    pq.write_table(pa.table({"id": [1], "key": ["a"]}), path)
    with pytest.raises(CheckError) as caught:
        shards.read_table(path)
    assert caught.value.what == f"{path} has other columns than this version of us43d writes: id, key."


def test_the_digest_of_a_build(tmp_path: Path) -> None:
    """It is published with predictions and corpora, so it is this for ever."""
    (tmp_path / "annotations").mkdir()
    for name in ("b.json", "a.json", "c.txt"):
        (tmp_path / "annotations" / name).write_text(name)
    expected = hashlib.sha256(b'{"a":"\xc3\xa9","b":1}')
    for name in ("a.json", "b.json"):
        expected.update(name.encode() + hashlib.sha256(name.encode()).digest())
    expected.update(b"rows")
    assert shards.build_digest(tmp_path, {"b": 1, "digest": "old", "a": "é"}, "rows") == expected.hexdigest()
    with pytest.raises(ValueError, match="not JSON compliant"):
        shards.canonical_json(float("nan"))


# ------------------------------------------------------------------------------------------------------------- counts


def counted(*records: Record) -> finish._Counts:
    counts = finish._Counts()
    for record in records:
        counts.add(record)
    return counts


def test_counts_of_records() -> None:
    bare = made("b", group="h", annotations=(), masks=0, tags={"view": "A4C"}, remarks=("fixed: a", "fixed: b", "seen"))
    assert bare.image is not None
    bare.image.kept = False
    speck = made("s", tags={"view": "A4C", "age": 4}, remarks=("seen",), masks=2)
    speck.annotations = (speck.annotations[0].model_copy(update={"speck": True}), speck.annotations[0])
    dropped = made("d", group="i", image=None, drop="blurred", annotations=(), masks=3)
    counts = counted(made(), bare, speck, dropped)
    assert counts.summary() == {
        "images": 4, "dropped": 1, "annotated": 2, "masks": 6, "annotations": 3, "specks": 1, "groups": 3,
        "kept_byte_for_byte": 2, "image_bytes": 27,
    }  # fmt: skip
    assert counts.drops == {"blurred": 1}
    assert counts.remarks == {"fixed": 1, "seen": 2}
    assert counts.tags == {"view=A4C": 2, "age=4": 1}


def test_counts_that_differ_from_the_published_ones() -> None:
    counts = counted(made(tags={"view": "A4C"}), made("l"))
    counts.annotated_in_source = 2
    expect = Expect(images=3, annotated=1, masks=1, groups=4, tags={"view=A4C": 2, "view=A2C": 0, "age=1": 1})
    assert counts.problems(STU.model_copy(update={"expect": expect})) == [
        {"what": "images", "found": 2, "published": 3}, {"what": "annotated images", "found": 2, "published": 1},
        {"what": "masks", "found": 2, "published": 1}, {"what": "groups", "found": 1, "published": 4},
        {"what": "images with age=1", "found": 0, "published": 1},
        {"what": "images with view=A4C", "found": 1, "published": 2},
    ]  # fmt: skip
    assert counts.problems(STU.model_copy(update={"expect": Expect()})) == []
    same = {"images": 1, "annotated": 1, "masks": 1, "groups": 0}
    fuller = {"images": 2, "annotated": 2, "masks": 2, "groups": 1}
    expect = Expect(**same, fuller=fuller, evidence=dict.fromkeys(fuller, "two copies"))
    assert counts.problems(STU.model_copy(update={"expect": expect})) == []


SHORT = [{"what": "images", "found": 1000, "published": 2000}, {"what": "masks", "found": 3, "published": 2}]


@pytest.mark.parametrize(
    ("facts", "receipt", "next_"),
    [
        ({}, {}, "us43d build STU-Hospital --partial   (for a cut of the source; or us43d fetch STU-Hospital --from "
                 "with a complete copy)"),
        ({}, {"kind": "download"}, "us43d fetch STU-Hospital --force   (or, for a cut of the source: us43d build "
                                   "STU-Hospital --partial)"),
        ({"collections": ("private",)}, {}, "us43d import FOLDER --name STU-Hospital --force   (or, for a cut of "
                                            "the source: us43d build STU-Hospital --partial)"),
    ],
)  # fmt: skip
def test_counts_that_are_short(tmp_path: Path, facts: dict, receipt: dict, next_: str) -> None:
    recipe = STU.model_copy(update=facts)
    with pytest.raises(CountError) as caught:
        finish._refuse_short(planned(tmp_path, recipe, receipt=receipt), SHORT, set(), ["b", "a"])
    lines = caught.value.what.split("\n")
    short = "at import" if facts else "published"
    assert lines[0] == f"STU-Hospital: fewer than {short}: images 1,000 of 2,000 (-1,000)."
    assert lines[1].startswith("42 images are missing: Hospital/Test_Image_1.png, ")
    assert lines[2:] == ["2 images have no annotation: a, b."]
    assert caught.value.next == next_
    assert caught.value.disk == "The finished blocks are kept; no build was written."


def test_only_what_is_known_is_said_of_counts_that_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(recipe: Recipe, keys: set[str], bare: list[str]) -> list[str]:
        with pytest.raises(CountError) as caught:
            finish._refuse_short(planned(tmp_path, recipe), SHORT, keys, bare)
        return caught.value.what.split("\n")[1:]

    keys = {row.member.key for row in finish.pinned.rows("stu_hospital")}
    assert said(STU, keys, []) == []
    assert said(STU, keys - {"Hospital/Test_Image_9.png"}, ["a"]) == [
        "1 image is missing: Hospital/Test_Image_9.png.", "1 image has no annotation: a.",
    ]  # fmt: skip
    some = STU.model_copy(update={"expect": STU.expect.model_copy(update={"annotated": 41})})
    assert said(some, keys, ["a"]) == []
    monkeypatch.setattr(finish.pinned, "GROUPS_ONLY", {"stu_hospital"})
    assert said(STU, set(), []) == []


def test_more_groups_of_the_same_images(tmp_path: Path) -> None:
    many = {"what": "groups", "found": 1500, "published": 1400}
    with pytest.raises(CountError) as caught:
        finish._refuse_short(planned(tmp_path, receipt={"kind": "given"}), [many], set(), [])
    assert caught.value.what == (
        "STU-Hospital: the same images have 1,500 groups, published 1,400. A table or names are not as published, and "
        f"splits could share a {STU.group_kind}."
    )
    assert caught.value.disk == "The finished blocks are kept; no build was written."
    assert caught.value.next == "us43d fetch STU-Hospital --from FOLDER --force"
    more = {"what": "images", "found": 5, "published": 4}
    finish._refuse_short(planned(tmp_path), [more, many], set(), [])
    finish._refuse_short(planned(tmp_path), [], set(), ["a"])
    with pytest.raises(CountError, match="the same images have"):
        finish._refuse_short(planned(tmp_path), [many, {"what": "masks", "found": 2, "published": 1}], set(), [])


def test_what_was_skipped(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("a.txt", "b.csv", "c.csv"):
        (tmp_path / "raw" / name).write_text("x")
    counts = counted(made(image=None, drop=blocks.SKIPPED), made("l", image=None, drop="blurred"))
    for bad in (False, True):
        skip = Skip(bad, ("*.txt", "*.md"))
        tree = RawTree(tmp_path / "raw", hide=skip.ignore, collect=True)
        tree.missing[tmp_path / "raw" / "z.png"] = "z.png is missing"
        plan_ = planned(tmp_path, tree=tree, skip=skip)
        assert finish._skipped(plan_, Inventory(STU, tree), counts) == {
            "skip_bad": bad, "samples": 1, "files": {"b.csv": "", "c.csv": "", "z.png is missing": ""} if bad else {},
            "ignored": {"*.txt": ["a.txt"]}, "patterns": ["*.txt", "*.md"],
        }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- all of it


def finished(folder: Path, records: list[Record], recipe: Recipe = STU, **how: Any) -> dict[str, Any]:
    """Finish a build of these records, in blocks of two."""
    staging = folder / "staging"
    for name in (blocks.OUTPUT, blocks.PARTS, "blocks"):
        (staging / name).mkdir(parents=True, exist_ok=True)
    for number in range(0, len(records), 2):
        path = staging / "blocks" / f"{number // 2:05}.jsonl"
        path.write_bytes(blocks.records.dump(records[number : number + 2]))
    plan_ = planned(folder, recipe, **how)
    return finish.finish(plan_, staging, -(-len(records) // 2), Inventory(recipe, plan_.tree))


def test_all_of_dataset_json(tmp_path: Path) -> None:
    records = [
        made("c", id=3, group="a b", masks=1),
        made("a", id=1, group="x"),
        made("b", id=2, group="y", annotations=()),
    ]
    dropped = made(
        "d", id=4, group="z", image=None, drop="blurred", annotations=(), split=None, remarks=("gesehen für: x",)
    )
    found = finished(tmp_path, [*records, dropped], receipt={"kind": "specimen"})
    output = tmp_path / "staging" / "output"
    assert (output / "dataset.json").read_text() == json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False)
    rows = shards.read_manifest(output / shards.MANIFEST)
    assert [row["key"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["group"] for row in rows] == ["x", "y", "a b", "z"]
    table = {name: part for name, part in found["splits"].items() if name != "rule"}
    assert sum(part["images"] for part in table.values()) == 3
    for name, part in table.items():
        assert part["images"] == sum(row["split"] == name for row in rows)
    assert rows[3]["split"] is None
    terms = {name: getattr(STU.licence.terms, name) for name in STU.licence.terms.__dataclass_fields__}
    assert found | {"splits": {}} == {
        "name": "STU-Hospital", "slug": "stu_hospital", "version": "r1s1-us43d-specimen", "revision": 1, "schema": 1,
        "taxonomy": taxonomy.taxonomy().version, "profile": "us43d", "partial": False, "specimen": True, "fixes": [],
        "title": STU.title, "organ": STU.organ, "kind": STU.kind, "external_tier": STU.external_tier, "shares_with": [],
        "licence": {**terms, "evidence": STU.licence.evidence},
        "citations": [each.model_dump(mode="json") for each in STU.citations], "labels": taxonomy.mapping(STU),
        "group": {"kind": STU.group_kind, "rule": STU.group_rule}, "official_split": STU.official_split,
        "counts": {
            "images": 4, "dropped": 1, "annotated": 2, "masks": 4, "annotations": 2, "specks": 0, "groups": 4,
            "kept_byte_for_byte": 3, "image_bytes": 27, "differences": [],
            "published": {
                "images": 42, "annotated": 42, "masks": STU.expect.masks, "groups": STU.expect.groups, "tags": {},
            },
        },
        "drops": {"blurred": 1}, "remarks": {"gesehen für": 1}, "splits": {}, "digest": found["digest"],
        "twins": {"known": found["twins"]["known"], "audited": 0, "digest": duplicate_links.digest([])},
    }  # fmt: skip
    facts = {name: value for name, value in found.items() if name != "digest"}
    assert found["digest"] == shards.build_digest(output, facts, shards.rows_digest(rows))
    provenance = json.loads((output / "provenance.json").read_text())
    inputs = planned(tmp_path, receipt={"kind": "specimen"}).inputs
    assert provenance == {"inputs": inputs, "tool": f"us43d {__version__}", "receipt": {"kind": "specimen"}}


def test_which_counts_are_enforced(tmp_path: Path) -> None:
    records = [made("a", annotations=()), made("b")]
    with pytest.raises(CountError, match="1 image has no annotation: a"):
        finished(tmp_path, records)
    for skip in (Skip(True), Skip(ignore=("*.txt",))):  # nothing was skipped
        with pytest.raises(CountError):
            finished(tmp_path, records, skip=skip)
    short = finished(tmp_path, records, partial=True)["counts"]["differences"]
    assert {"what": "images", "found": 2, "published": 42} in short
    assert {"what": "annotated images", "found": 1, "published": 42} in short
    paper = STU.model_copy(update={"paper": STU.paper.model_copy(update={"labels": {}})})
    assert finished(tmp_path, records, paper, profile="paper")["counts"]["differences"] == []
    skipped = [*records, made("c", image=None, annotations=(), drop=blocks.SKIPPED)]
    assert finished(tmp_path, skipped, skip=Skip(True))["skipped"]["samples"] == 1
    (tmp_path / "raw" / "notes.csv").write_text("x")
    found = finished(tmp_path, records, skip=Skip(True))
    assert found["counts"]["differences"] == short
    assert found["skipped"]["files"] == {"notes.csv": ""}
    assert json.loads((tmp_path / "staging" / "output" / "provenance.json").read_text())["skipped"] == found["skipped"]
    tree = RawTree(tmp_path / "raw", hide=("*.csv",), collect=True)
    assert finished(tmp_path, records, tree=tree, skip=Skip(ignore=("*.csv",)))["skipped"]["ignored"]


def test_near_duplicates_that_an_audit_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = [duplicate_links.Link(Frame("stu_hospital", "a", "a"), Frame("stu_hospital", "b", "b"))]
    monkeypatch.setattr(duplicate_links, "read", lambda home: links)
    records = [made(key, group=key) for key in "abcdef"]
    found = finished(tmp_path, records, receipt={"kind": "specimen"})
    assert found["twins"]["audited"] == 1
    assert found["twins"]["digest"] == duplicate_links.digest(links)
    rows = shards.read_manifest(tmp_path / "staging" / "output" / shards.MANIFEST)
    assert rows[0]["split"] == rows[1]["split"]


def test_files_that_are_being_written_are_not_in_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how: list[dict[str, Any]] = []
    write = atomic.write_bytes
    monkeypatch.setattr(atomic, "write_bytes", lambda *what, **given: (how.append(given), write(*what, **given)))
    finished(tmp_path, [made()], partial=True)
    assert how == [{"parts": tmp_path / "staging" / "parts"}] * 3


def test_facts_of_a_private_source_with_corrections(tmp_path: Path) -> None:
    fix = Fix(key="a", reason="a copy")
    shared = Shared(source="busi", what="frames", evidence="page")
    recipe = STU.model_copy(
        update={"collections": ("private",), "fixes": (fix,), "shares_with": (shared,), "expect": Expect()}
    )
    found = finished(tmp_path, [made("a")], recipe)
    assert found["private"] is True
    assert found["fixes"] == [fix.model_dump(mode="json")]
    assert found["shares_with"] == [shared.model_dump(mode="json")]
    assert finished(tmp_path, [made("a")], recipe, fixes=False)["fixes"] == []
