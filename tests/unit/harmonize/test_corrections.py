"""Masks corrected on the page replace those of the reader in the next build, and nothing else."""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import us43d
from us43d.coco.segmentation import encode
from us43d.errors import BuildError, UsageError
from us43d.harmonize import corrections, shards
from us43d.harmonize.build import build
from us43d.paths import Home
from us43d.registry import find
from us43d.splits import review
from us43d.view import fixes
from us43d.view.labels import Labels
from us43d.view.opening import indexed

app = importlib.import_module("us43d.cli.app").app


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    for words in (("fetch", "busi", "--specimen"), ("build", "busi", "--jobs", "1")):
        assert CliRunner().invoke(app, [*words, "--home", str(home.root)]).exit_code == 0
    return home


def labelled(home: Home) -> Labels:
    """All images of the build, as `us43d label BUSI --all` opens them."""
    (path,) = home.builds("BUSI").glob("*/dataset.json")
    corpus = indexed([path.parent], home.root)
    return fixes.opened(home.root, corpus, 0)


def rebuilt(home: Home, *words: str) -> dict[str, dict[str, list[np.ndarray]]]:
    """Key → structure → masks of a new build."""
    result = CliRunner().invoke(app, ["build", "busi", "--jobs", "1", *words, "--home", str(home.root)])
    assert result.exit_code == 0, result.output
    samples = us43d.load("busi", home=home.root, version=None)
    return {sample.meta["us43d"]["key"]: sample.masks for sample in samples}


def raw(home: Home) -> str:
    files = sorted(path for path in home.raw("BUSI").rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def same(one: dict[str, list[np.ndarray]], other: dict[str, list[np.ndarray]]) -> bool:
    return one.keys() == other.keys() and all(
        len(one[k]) == len(other[k]) and all(map(np.array_equal, one[k], other[k])) for k in one
    )


def test_a_reviewed_image_has_its_new_masks_and_the_others_their_own(home: Home) -> None:
    before, untouched = rebuilt(home), raw(home)
    labels = labelled(home)
    shape = labels.inputs.read(0).shape[:2]
    mask = np.zeros(shape, bool)
    mask[5:20, 8:30] = True
    thing = {"structure": "breast_lesion", "rle": encode(mask).decode(), "origin": "person"}
    labels.save(0, 0, [thing], reviewed=True)
    labels.save(1, 0, [thing | {"rle": encode(np.ones(labels.inputs.read(1).shape[:2], bool)).decode()}])  # a draft
    labels.close()
    key = labels.inputs.items[0].input
    after = rebuilt(home)
    assert list(after[key]) == ["breast_lesion"]
    assert np.array_equal(after[key]["breast_lesion"][0], mask)
    assert all(same(after[other], before[other]) for other in before if other != key)
    assert raw(home) == untouched
    (facts,) = home.builds("BUSI").glob("*/dataset.json")
    assert '"corrections"' in facts.read_text()
    (entry,) = json.loads((facts.parent / "provenance.json").read_text())["corrections"]
    assert (set(entry), entry["key"]) == ({"id", "who", "when", "key", "replaces"}, key)
    rows = {row["key"]: row["remarks"] for row in shards.read_manifest(facts.parent / shards.MANIFEST)}
    assert corrections.REMARK in rows[key]
    assert sum(corrections.REMARK in text for text in rows.values()) == 1


def test_no_fixes_builds_without_and_withdrawing_restores_the_bytes(home: Home) -> None:
    recipe = find("busi")
    receipt = {"kind": "specimen"}
    first = build(recipe, home.raw("BUSI"), home, receipt=receipt).digest
    labels = labelled(home)
    saved = labels.save(0, 0, [], reviewed=True)  # nothing is there
    assert build(recipe, home.raw("BUSI"), home, receipt=receipt).digest != first
    plain = build(recipe, home.raw("BUSI"), home, receipt=receipt, fixes=False).dataset
    assert "corrections" not in plain
    labels.save(0, saved, [], reviewed=False)
    labels.close()
    assert build(recipe, home.raw("BUSI"), home, receipt=receipt).digest == first


def test_masks_that_a_review_removes_still_count_as_published(home: Home) -> None:
    recipe, labels = find("busi"), labelled(home)
    before = build(recipe, home.raw("BUSI"), home, receipt={"kind": "specimen"}).dataset["counts"]
    labels.save(0, 0, [], reviewed=True)
    labels.close()
    published = {name: before[name] for name in ("images", "annotated", "masks")}
    expect = recipe.expect.model_copy(update={**published, "tags": {}})
    counts = build(recipe.model_copy(update={"expect": expect}), home.raw("BUSI"), home).dataset["counts"]
    assert counts["annotated"] == before["annotated"] - 1
    assert counts["differences"] == []


def test_a_fix_of_other_pixels_is_refused_and_reported(home: Home) -> None:
    before = rebuilt(home)
    labels = labelled(home)
    key = labels.inputs.items[0].input
    labels.inputs.sources[0] = labels.inputs.sources[0]._replace(picture="0" * 64)
    labels.save(0, 0, [], reviewed=True)
    labels.close()
    result = CliRunner().invoke(app, ["build", "busi", "--jobs", "1", "--home", str(home.root)])
    assert result.exit_code == 0
    assert "1 correction of a review not applied" in result.stderr
    assert key in result.stderr
    after = rebuilt(home)
    assert all(same(after[key], before[key]) for key in before)


def facts(home: Home) -> dict[str, Any]:
    (path,) = home.builds("BUSI").glob("*/dataset.json")
    return dict(json.loads(path.read_text()))


def test_a_fix_of_masks_that_changed_is_refused_and_reported(home: Home) -> None:
    labels = labelled(home)
    number = next(n for n in range(len(labels.inputs.items)) if labels.state(n)["objects"])
    labels.save(number, 0, [], reviewed=True)
    labels.close()
    rebuilt(home)
    assert facts(home)["corrections"] | {"digest": ""} == {"images": 1, "excluded": 0, "stale": [], "digest": ""}
    key = labels.inputs.items[number].input
    file = next(path for path in home.raw("BUSI").rglob("*_mask.png") if path.name == Path(key).stem + "_mask.png")
    mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    file.parent.chmod(0o755)
    file.chmod(0o644)
    mask[:4, :4] = 255
    cv2.imwrite(str(file), mask)
    after = rebuilt(home)
    assert after[key]  # as published now
    assert facts(home)["corrections"] | {"digest": ""} == {"images": 0, "excluded": 0, "stale": [key], "digest": ""}


def test_a_corrected_mask_is_corrected_again_and_undone(home: Home) -> None:
    published = rebuilt(home)
    labels = labelled(home)
    number = next(n for n in range(len(labels.inputs.items)) if labels.state(n)["objects"])
    key = labels.inputs.items[number].input
    shape = labels.inputs.read(number).shape[:2]
    labels.save(number, 0, [], reviewed=True)
    labels.close()
    assert rebuilt(home)[key] == {}
    labels = labelled(home)  # of the corrected build
    full = {"structure": "breast_lesion", "rle": encode(np.ones(shape, bool)).decode(), "origin": "person"}
    labels.save(number, labels.state(number)["revision"], [full], reviewed=True)
    labels.close()
    assert rebuilt(home)[key]["breast_lesion"][0].all()
    (path,) = home.builds("BUSI").glob("*/provenance.json")
    (line,) = json.loads(path.read_text())["corrections"]
    fix = review.fixes(home.root)["busi", key]
    assert line == {
        "id": fix.id, "who": fix.who, "when": fix.when, "key": key,
        "replaces": corrections.masks_digest(
            encode(mask).decode() for masks in published[key].values() for mask in masks
        ),
    }  # fmt: skip
    shown = CliRunner().invoke(app, ["card", "busi", "--home", str(home.root)])
    assert "Images whose masks were corrected in review: 1;" in shown.stdout
    review.undo(home.root, fix.id)  # the fix before it holds again
    assert rebuilt(home)[key] == {}
    review.undo(home.root, review.fixes(home.root)["busi", key].id)
    assert same(rebuilt(home)[key], published[key])
    assert len(review.log(home.root)) == 4


def test_fixes_travel_as_a_file(home: Home, tmp_path: Path) -> None:
    labels = labelled(home)
    labels.save(0, 0, [], reviewed=True)
    labels.close()
    key = labels.inputs.items[0].input
    file = tmp_path / "sent.jsonl"
    other = Home(tmp_path / "other")
    for words, root in (
        (("review", "export", str(file)), home), (("fetch", "busi", "--specimen"), other),
        (("review", "import", str(file)), other), (("build", "busi", "--jobs", "1"), other),
    ):  # fmt: skip
        assert CliRunner().invoke(app, [*words, "--home", str(root.root)]).exit_code == 0
    assert facts(other)["corrections"]["images"] == 1
    opened = labelled(other)
    assert opened.state(0)["reviewed"]
    assert opened.state(0)["objects"] == []  # what was imported is shown
    opened.close()
    assert key in {fix.image.key for fix in review.fixes(other.root).values()}


def test_what_cannot_be_applied_is_named(home: Home) -> None:
    labels = labelled(home)
    mask = np.ones(labels.inputs.read(0).shape[:2], bool)
    thing = {"structure": "made up", "rle": encode(mask).decode(), "origin": "person"}
    with pytest.raises(UsageError, match="made up"):
        labels.save(0, 0, [thing], reviewed=True)
    image = review.Picture(*labels.inputs.sources[0])
    replaces = corrections.masks_digest(entry["rle"] for entry in labels.state(0)["objects"])
    labels.close()
    review.append_fix(home.root, image, replaces, [review.Mask("made up", thing["rle"])])  # of another taxonomy
    with pytest.raises(BuildError, match="made up"):
        build(find("busi"), home.raw("BUSI"), home, receipt={"kind": "specimen"})
    with review.path(home.root).open("a") as log:
        log.write('{"id": "1", "when": "", "who": "", "fix": {}, "replaces": "", "masks": [{"structure": 1}]}\n')
    with pytest.raises(BuildError, match=r"Line 2 of .*verdicts\.jsonl"):
        corrections.read(home.root, "busi")


def test_an_image_whose_masks_were_judged_wrong_is_excluded_until_they_are_corrected(home: Home) -> None:
    recipe, receipt = find("busi"), {"kind": "specimen"}

    def built() -> tuple[str, dict[str, str], dict[str, Any]]:
        """Digest, split by key, dataset.json of a new build."""
        result = build(recipe, home.raw("BUSI"), home, receipt=receipt)
        rows = shards.read_manifest(result.path / shards.MANIFEST)
        assert {row["key"] for row in rows if review.WRONG in row["remarks"]} == {
            row["key"] for row in rows if row["split"] == "excluded"
        }
        return result.digest, {row["key"]: row["split"] for row in rows}, result.dataset

    first, before, _ = built()
    rows = shards.read_manifest(next(home.builds("BUSI").glob("*/manifest.parquet")))
    ends = [review.Picture("busi", row["key"], row["pixel_hash"]) for row in rows[:3]]
    review.append(home.root, "mask", "wrong", ends[0], None)
    review.append(home.root, "conflict", "second is wrong", ends[1], ends[2])
    review.append(home.root, "prediction", "prediction is wrong", ends[1], None)
    review.append(home.root, "mask", "wrong", ends[1]._replace(picture="0" * 64), None)  # an image since replaced
    _, after, dataset = built()
    assert after == before | {ends[0].key: "excluded", ends[2].key: "excluded"}
    assert dataset["remarks"][review.WRONG] == 2
    assert dataset["corrections"] | {"digest": ""} == {
        "images": 0, "excluded": 2, "stale": [ends[1].key], "digest": "",
    }  # fmt: skip
    (path,) = home.builds("BUSI").glob("*/provenance.json")
    assert [line["verdict"] for line in json.loads(path.read_text())["corrections"]] == ["wrong", "second is wrong"]
    labels = labelled(home)
    labels.save(0, 0, labels.state(0)["objects"], reviewed=True)  # they are right after all
    labels.close()
    _, after, dataset = built()
    assert after == before | {ends[2].key: "excluded"}
    assert dataset["corrections"]["images"] == 1
    plain = build(recipe, home.raw("BUSI"), home, receipt=receipt, fixes=False)
    assert "excluded" not in plain.dataset["splits"]
    for verdict in review.decided(home.root):
        review.undo(home.root, verdict.id)
    review.undo(home.root, review.fixes(home.root)["busi", ends[0].key].id)
    assert built()[0] == first
