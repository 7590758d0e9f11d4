"""Builds of specimens: bytes that depend on nothing but the inputs, COCO that others read, faults that are named."""

import contextlib
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from us43d import load, registry
from us43d.contract import Expect, Fix, RawTree, Recipe, Sample
from us43d.errors import BuildError, CheckError, CountError, RawDataError, UsageError
from us43d.harmonize import blocks, shards
from us43d.harmonize import build as building
from us43d.harmonize.build import build
from us43d.harmonize.built import PROVENANCE
from us43d.harmonize.check import check
from us43d.harmonize.corpus import Corpus, is_speck
from us43d.harmonize.merge import merge
from us43d.paths import Home
from us43d.splits import pinned

RECIPE = registry.recipe("stu_hospital")


def altered(**changes: Any) -> Recipe:
    return Recipe(**({name: getattr(RECIPE, name) for name in Recipe.model_fields} | changes))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    registry.specimen("stu_hospital")(folder, np.random.default_rng(0))
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != PROVENANCE
    }


def test_the_same_bytes_from_any_worker_count_order_and_machine(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(building, "BLOCK", 3)
    one = build(RECIPE, raw, Home(tmp_path / "one"), partial=True)
    many = build(RECIPE, raw, Home(tmp_path / "many"), partial=True, jobs=2)
    other = tmp_path / "elsewhere"
    shutil.copytree(raw, other)  # other inodes, other times
    listed = request.getfixturevalue("reversed_listing")
    shuffled = build(RECIPE, other, Home(tmp_path / "shuffled"), partial=True)
    assert any(folder.is_relative_to(other) for folder in listed), "the raw tree was listed in reverse"
    assert tree(one.path) == tree(many.path) == tree(shuffled.path)
    assert one.digest == many.digest == shuffled.digest
    assert check(one.path) == []


def test_a_finished_build_is_reused_until_the_raw_tree_changes(raw: Path, home: Home) -> None:
    first = build(RECIPE, raw, home, partial=True)
    assert (first.reused, first.dataset["partial"]) == (False, True)
    assert build(RECIPE, raw, home, partial=True).reused
    image = next(raw.rglob("Test_Image_1.png"))
    os.utime(image, ns=(1, 1))
    assert not build(RECIPE, raw, home, partial=True).reused


@pytest.mark.parametrize("change", ["replace", "remove", "remove all"])
@pytest.mark.parametrize("bad", [False, True])
def test_a_raw_tree_that_changes_during_a_build_stops_it(
    raw: Path, home: Home, monkeypatch: pytest.MonkeyPatch, change: str, bad: bool
) -> None:
    """Another process fetched it again: the build was of two trees, or recorded half of it as damaged."""
    run = building._run_blocks

    def changing(*arguments: Any) -> int:
        image = next(raw.rglob("Test_Image_1.png"))
        if change == "remove all":
            shutil.rmtree(raw)
        elif change == "remove":
            image.unlink()
        else:
            image.write_bytes(next(raw.rglob("Test_Image_2.png")).read_bytes())
        return run(*arguments)

    monkeypatch.setattr(building, "_run_blocks", changing)
    with pytest.raises(RawDataError, match="was changed while it was read") as caught:
        build(RECIPE, raw, home, partial=True, skip=building.Skip(bad))
    assert caught.value.next == "us43d build STU-Hospital"
    assert [path.name for path in home.builds("STU-Hospital").iterdir()] == [".lock"]


def test_a_raw_file_that_vanishes_before_a_build(raw: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(*arguments: Any, **options: Any) -> RawTree:
        tree = RawTree(*arguments, **options)
        next(raw.rglob("Test_Image_1.png")).unlink(missing_ok=True)
        return tree

    monkeypatch.setattr(building, "RawTree", listed)
    with pytest.raises(RawDataError, match="was changed while it was read"):
        build(RECIPE, raw, home, partial=True)


def test_an_edited_reader_builds_again(raw: Path, home: Home, tmp_path: Path) -> None:
    module = tmp_path / "reader.py"
    text = Path(RECIPE.read.__code__.co_filename).read_text()

    def recipe() -> Recipe:
        scope: dict[str, Any] = {"__name__": "us43d.recipes.stu_hospital"}
        exec(compile(module.read_text(), module, "exec"), scope)
        return altered(read=scope["read"])

    module.write_text(text)
    assert not build(recipe(), raw, home, partial=True).reused
    assert build(recipe(), raw, home, partial=True).reused
    module.write_text(f"{text}\n# edited")
    assert not build(recipe(), raw, home, partial=True).reused


def test_published_files_are_kept_byte_for_byte(raw: Path, home: Home) -> None:
    result = build(RECIPE, raw, home, partial=True)
    assert result.dataset["counts"]["kept_byte_for_byte"] == 12
    for sample in load("STU-Hospital", home=home.root):
        (published,) = raw.rglob(Path(sample.meta["us43d"]["key"]).name)
        assert sample.path.read_bytes() == published.read_bytes()


def test_coco_is_read_unchanged_and_agrees_with_itself(raw: Path, home: Home) -> None:
    from faster_coco_eval import COCO as FastCOCO
    from faster_coco_eval import COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path = next((build(RECIPE, raw, home, partial=True).path / "annotations").glob("train-*.json"))
    for coco_class, eval_class in ((COCO, COCOeval), (FastCOCO, COCOeval_faster)):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = coco_class(str(path))
            found = [
                {
                    "image_id": a["image_id"],
                    "category_id": a["category_id"],
                    "segmentation": a["segmentation"],
                    "score": 1,
                }
                for a in coco.dataset["annotations"]
            ]
            assert all(coco.annToMask(a).sum() == a["area"] for a in coco.dataset["annotations"])
            judge = eval_class(coco, coco.loadRes(found), "segm")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        assert judge.stats[0] == 1.0


def test_a_count_that_is_short_names_the_images(raw: Path, home: Home) -> None:
    """Those of the pinned split that are missing, and, as every published image has a lesion, those without."""
    mask = next(raw.rglob("mask_3.png"))
    cv2.imwrite(str(mask), np.zeros((128, 128), np.uint8))
    for kind, next_ in (
        ("given", "us43d build STU-Hospital --partial "),
        ("download", "us43d fetch STU-Hospital --force "),
    ):
        with pytest.raises(CountError) as caught:
            build(RECIPE, raw, home, receipt={"kind": kind})
        _, missing, bare = caught.value.what.split("\n")
        assert missing.startswith("30 images are missing: Hospital/Test_Image_13.png, Hospital/Test_Image_14.png, ")
        assert bare.startswith("1 image has no annotation: Hospital/Test_Image_3.png")
        assert caught.value.next.startswith(next_)


def test_counts_are_enforced_and_reported(raw: Path, home: Home) -> None:
    with pytest.raises(CountError, match=r"images 12 of 42 \(-30\)"):
        build(RECIPE, raw, home)
    assert not home.build("STU-Hospital", "r1s1-us43d").exists()
    dataset = build(RECIPE, raw, home, partial=True).dataset
    assert {"what": "images", "found": 12, "published": 42} in dataset["counts"]["differences"]
    drawn = [path for path in raw.rglob("mask_*.png") if cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).any()]
    assert dataset["counts"]["masks"] == len(drawn) > 0


def test_the_count_of_a_fuller_copy_is_no_difference(raw: Path, home: Home) -> None:
    """Any other number above the published one is reported."""
    for fuller, reported in ((12, []), (13, [{"what": "images", "found": 12, "published": 10}])):
        expect = Expect(images=10, fuller={"images": fuller}, evidence={"images": "Two copies."})
        dataset = build(RECIPE.model_copy(update={"expect": expect}), raw, home).dataset
        assert dataset["counts"]["differences"] == reported
    with pytest.raises(ValueError, match="needs a lower count images and its evidence"):
        Expect(images=10, fuller={"images": 12})


def test_a_file_nobody_accounts_for_is_listed(raw: Path, home: Home) -> None:
    (raw / "surprise.csv").write_text("x")
    (raw / "Thumbs.db").write_text("x")
    with pytest.raises(BuildError, match=r"1 file .* neither read nor ignored by name: surprise\.csv"):
        build(RECIPE, raw, home, partial=True)
    (raw / "surprise.csv").unlink()
    build(RECIPE, raw, home, partial=True)


def test_every_bad_sample_is_named_at_once(raw: Path, home: Home) -> None:
    folder = next(raw.rglob("Hospital"))
    (folder / "mask_3.png").write_bytes(b"")
    (folder / "Test_Image_5.png").write_bytes((folder / "Test_Image_5.png").read_bytes()[:60])
    with pytest.raises(RawDataError, match="2 samples cannot be read") as caught:
        build(RECIPE, raw, home, partial=True)
    assert "Test_Image_3.png" in caught.value.what
    assert "Test_Image_5.png" in caught.value.what


def test_a_missing_mask_names_what_lies_beside(raw: Path, home: Home) -> None:
    next(raw.rglob("mask_3.png")).unlink()
    with pytest.raises(RawDataError, match=r"mask_3\.png is missing"):
        build(RECIPE, raw, home, partial=True)


def strict(raw: RawTree) -> Any:
    """The reader without its rule for masks of another size."""
    for sample in RECIPE.read(raw):
        yield replace(sample, fit=None)


def twice(raw: RawTree) -> Any:
    yield from RECIPE.read(raw)
    yield next(iter(RECIPE.read(raw)))


def undeclared(raw: RawTree) -> Any:
    for sample in RECIPE.read(raw):
        yield Sample(key=sample.key, image=sample.image, masks={"cyst": sample.masks["breast_lesion"]})


def ungrouped(raw: RawTree) -> Any:
    for sample in RECIPE.read(raw):
        yield replace(sample, group="")


def nothing(raw: RawTree) -> Any:
    yield from ()


def test_a_mask_of_another_size_needs_a_rule(raw: Path, home: Home) -> None:
    with pytest.raises(RawDataError, match=r"its mask is 420 × 420 pixels, the image 128 × 128, and no rule"):
        build(altered(read=strict), raw, home, partial=True)


@pytest.mark.parametrize(
    ("reader", "error", "why"),
    [
        (twice, RawDataError, "1 sample cannot be used:\n  Hospital/Test_Image_1.png has a key that appears twice"),
        (undeclared, RawDataError, "Test_Image_1.png has the label 'cyst'; known labels: breast_lesion"),
        (ungrouped, RawDataError, "Test_Image_1.png has no image: its table or name leaves it empty"),
        (nothing, RawDataError, "found no sample"),
    ],
)
def test_a_reader_that_breaks_the_contract(raw: Path, home: Home, reader: Any, error: Any, why: str) -> None:
    with pytest.raises(error, match=why):
        build(altered(read=reader), raw, home, partial=True)
    assert list(home.builds("STU-Hospital").glob("r*")) == []


def test_fixes_can_be_switched_off(raw: Path, home: Home) -> None:
    fixed = altered(fixes=(Fix(key="Hospital/Test_Image_2.png", reason="a copy", drop=True),))
    assert build(fixed, raw, home, partial=True).dataset["drops"] == {"a copy": 1}
    assert build(fixed, raw, home, partial=True, fixes=False).dataset["drops"] == {}


def test_a_fix_replaces_tags_and_is_remarked() -> None:
    sample = Sample(key="k", image=Path("k.png"), tags={"left": True, "age": 40}, remarks=("seen",), drop="blurred")
    fixed = building._fixed(sample, Fix(key="k", reason="wrong age", tags={"age": 41}))
    assert (fixed.tags, fixed.drop) == ({"left": True, "age": 41}, "blurred")
    assert fixed.remarks == ("seen", f"{blocks.FIXED}wrong age")


def test_a_dropped_sample_keeps_its_row(raw: Path, home: Home) -> None:
    fixed = altered(fixes=(Fix(key="Hospital/Test_Image_2.png", reason="a copy", drop=True),))
    rows = shards.read_manifest(build(fixed, raw, home, partial=True).path / shards.MANIFEST)
    (dropped,) = (row for row in rows if row["drop"])
    assert (dropped["key"], dropped["drop"], dropped["file"], dropped["split"]) == (
        "Hospital/Test_Image_2.png", "a copy", None, None,
    )  # fmt: skip
    assert len(rows) == 12


def damage_image(path: Path, row: dict[str, Any]) -> None:
    data = bytearray((path / row["file"]).read_bytes())
    data[-20] ^= 1
    (path / row["file"]).unlink()  # it is linked to the raw file, which must stay whole
    (path / row["file"]).write_bytes(data)


def remove_image(path: Path, row: dict[str, Any]) -> None:
    (path / row["file"]).unlink()


def edit_annotation(path: Path, row: dict[str, Any]) -> None:
    shard = path / "annotations" / "train-00000-of-00001.json"
    content = json.loads(shard.read_text())
    content["annotations"][0]["area"] += 1
    shard.write_text(json.dumps(content))


def swap_split(path: Path, row: dict[str, Any]) -> None:
    folder = path / "annotations"
    for name, to in (("train", "x"), ("test", "train"), ("x", "test")):
        (folder / f"{name}-00000-of-00001.json").rename(folder / f"{to}-00000-of-00001.json")


def stale_manifest(path: Path, row: dict[str, Any]) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(path / shards.MANIFEST)
    pq.write_table(table.slice(1), path / shards.MANIFEST)


def extra_file(path: Path, row: dict[str, Any]) -> None:
    (path / "images" / "notes.txt").write_text("x")


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (damage_image, "changed"),
        (remove_image, "missing"),
        (edit_annotation, "annotation"),
        (swap_split, "manifest"),
        (stale_manifest, "manifest"),
        (extra_file, "extra"),
    ],
)
def test_check_finds(raw: Path, home: Home, damage: Any, kind: str) -> None:
    path = build(RECIPE, raw, home, partial=True).path
    row = next(row for row in shards.read_manifest(path / shards.MANIFEST) if row["split"] == "train")
    assert check(path) == []
    damage(path, row)
    assert kind in {problem.kind for problem in check(path)}


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("iscrowd", 1, "iscrowd is 1, should be 0"),
        ("area", 7, "area is 7, should be"),
        ("bbox", [0, 0, 1, 1], "bbox is [0, 0, 1, 1], should be"),
        ("id", 1, "id is 1, should be"),
        ("speck", True, "speck is True, should be False"),
        ("size", [5, 4], "its mask is 4 × 5, its image"),
        ("counts", "0", "its mask cannot be decoded"),
    ],
)
def test_check_names_what_is_wrong_with_an_annotation(raw: Path, home: Home, field: str, value: Any, told: str) -> None:
    path = build(RECIPE, raw, home, partial=True).path
    shard = path / "annotations" / "train-00000-of-00001.json"
    content = json.loads(shard.read_text())
    annotation = content["annotations"][0]
    place = {"speck": annotation["us43d"], "size": annotation["segmentation"], "counts": annotation["segmentation"]}
    place.get(field, annotation)[field] = value
    shard.write_text(json.dumps(content))
    problems = [problem for problem in check(path) if problem.kind == "annotation"]
    assert [told in str(problem) for problem in problems] == [True], problems


def test_check_names_what_is_wrong_with_an_image(raw: Path, home: Home) -> None:
    path = build(RECIPE, raw, home, partial=True).path
    shard = path / "annotations" / "train-00000-of-00001.json"
    content = json.loads(shard.read_text())
    images = content["images"]
    assert [image["license"] for image in images] == [content["licenses"][0]["id"]] * len(images)
    wrong = ["file", "size", "key", "group", "sha256", "tags", "annotations"]
    images[0]["file_name"] = "images/other.png"
    images[1]["width"] += 1
    images[2]["us43d"] |= {"key": "other"}
    images[3]["us43d"] |= {"group": "other"}
    images[4]["us43d"] |= {"sha256": "0"}
    images[5]["us43d"] |= {"tags": {"view": "A4C"}}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != images[6]["id"]]
    shard.write_text(json.dumps(content))
    said = [problem.what.rpartition("disagree on ")[2] for problem in check(path) if problem.kind == "manifest"]
    assert said == wrong


@pytest.mark.parametrize(
    ("area", "height", "width", "speck"),
    [(15, 400, 376, True), (15, 400, 375, False), (16, 1000, 1000, False), (1, 100, 100, False), (1, 73, 137, True)],
)
def test_the_limit_of_a_speck(area: int, height: int, width: int, speck: bool) -> None:
    """Both below 16 pixels and below 1/10,000 of the image, in builds, in corrections and in check."""
    assert is_speck(area, height, width) is speck


def test_a_speck_of_a_build_is_flagged(tmp_path: Path, home: Home) -> None:
    mask = np.zeros((500, 600), bool)
    mask[10:13, 10:13] = mask[20:24, 20:24] = True  # 9 and 16 pixels
    image = np.zeros((500, 600), np.uint8)

    def samples(tree: RawTree) -> Any:
        yield Sample(key="a", image=image, masks={"breast_lesion": mask})

    (tmp_path / "raw").mkdir()
    path = build(altered(read=samples), tmp_path / "raw", home, partial=True).path
    content = [json.loads(shard.read_text()) for shard in sorted((path / "annotations").glob("*.json"))]
    specks = {each["area"]: each["us43d"]["speck"] for shard in content for each in shard["annotations"]}
    assert specks == {9: True, 16: False}


def test_check_needs_a_build(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match="is not a build"):
        check(tmp_path)


def test_load(raw: Path, home: Home) -> None:
    with pytest.raises(BuildError, match="STU-Hospital is not built"):
        load("stu", home=home.root)
    build(RECIPE, raw, home, receipt={"kind": "specimen"})
    sizes = {split: len(load("stu", split, home=home.root)) for split in ("train", "val", "test", "excluded")}
    assert sum(sizes.values()) == len(load("stu", home=home.root)) == 12
    assert min(sizes["train"], sizes["val"], sizes["test"]) > 0
    sample = load("stu", "train", home=home.root)[0]
    ((name, (mask,)),) = sample.masks.items()
    assert (name, mask.shape, mask.dtype) == ("breast_lesion", sample.image.shape, np.bool_)
    with pytest.raises(UsageError, match="Unknown split 'training'"):
        load("stu", "training", home=home.root)


def test_a_cut_is_split_as_the_whole_source_and_a_specimen_by_the_rule_alone(raw: Path, home: Home) -> None:
    cut = build(RECIPE, raw, home, partial=True)
    decided = pinned.split("stu_hospital", "us43d")
    rows = shards.read_manifest(cut.path / shards.MANIFEST)
    assert {row["key"]: row["split"] for row in rows} == {row["key"]: decided[row["key"]] for row in rows}
    specimen = build(RECIPE, raw, home, receipt={"kind": "specimen"})
    assert specimen.path.name == "r1s1-us43d-specimen"
    assert specimen.dataset["specimen"]
    assert specimen.dataset["counts"]["differences"] == []
    assert set(specimen.dataset["splits"]) == {"rule", "train", "val", "test"}


def test_a_corpus_holds_what_the_builds_hold(raw: Path, home: Home) -> None:
    path = build(RECIPE, raw, home, partial=True).path
    corpus = merge([path], home.root, "local")
    assert Corpus.open(home.corpus("local")).digest == corpus.digest
    by_key = {corpus.key(row): row for row in range(len(corpus))}
    for split in ("train", "val", "test"):
        for sample in load("stu", split, home=home.root):
            row = by_key[sample.meta["us43d"]["key"]]
            assert row in corpus.split(split)
            assert corpus.file(row) == sample.path
            masks = [corpus.mask(each) for each in corpus.of(row)]
            assert all((a == b).all() for a, b in zip(masks, sample.masks["breast_lesion"], strict=True))
    with pytest.raises(BuildError, match="several were given of stu_hospital"):
        merge([path, path], home.root, "local")
    with pytest.raises(BuildError, match="not a readable corpus"):
        Corpus.open(home.corpus("other"))
