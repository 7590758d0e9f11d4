"""Masks corrected on the page replace those of the reader in the next build, and nothing else."""

import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import us43d
from us43d.coco.segmentation import encode
from us43d.errors import BuildError
from us43d.harmonize import corrections, shards
from us43d.harmonize.build import build
from us43d.paths import Home
from us43d.registry import find
from us43d.view.inputs import SourceInputs
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
    columns = shards.read_columns(path.parent / shards.MANIFEST, ["id", "pixel_hash"])
    inputs = SourceInputs(corpus, range(len(corpus)), {row["id"]: row["pixel_hash"] for row in columns})
    return Labels(inputs, corrections.folder(home.root, "busi"), inputs.facts)


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
    rows = {row["key"]: row["remarks"] for row in shards.read_manifest(facts.parent / shards.MANIFEST)}
    assert corrections.REMARK in rows[key]
    assert sum(corrections.REMARK in text for text in rows.values()) == 1


def test_no_fixes_builds_without_and_withdrawing_restores_the_bytes(home: Home) -> None:
    recipe = find("busi")
    receipt = {"kind": "specimen"}
    first = build(recipe, home.raw("BUSI"), home, receipt=receipt).digest
    labels = labelled(home)
    labels.save(0, 0, [], reviewed=True)  # nothing is there
    assert build(recipe, home.raw("BUSI"), home, receipt=receipt).digest != first
    plain = build(recipe, home.raw("BUSI"), home, receipt=receipt, fixes=False).dataset
    assert "corrections" not in plain
    labels.save(0, 1, [], reviewed=False)
    labels.close()
    assert build(recipe, home.raw("BUSI"), home, receipt=receipt).digest == first


def test_a_correction_of_other_pixels_is_ignored(home: Home) -> None:
    before = rebuilt(home)
    labels = labelled(home)
    labels.inputs.sources[0] = labels.inputs.sources[0]._replace(picture="0" * 64)
    labels.save(0, 0, [], reviewed=True)
    labels.close()
    after = rebuilt(home)
    assert all(same(after[key], before[key]) for key in before)


def test_what_cannot_be_applied_is_named(home: Home) -> None:
    labels = labelled(home)
    mask = np.ones(labels.inputs.read(0).shape[:2], bool)
    labels.save(0, 0, [{"structure": "made up", "rle": encode(mask).decode(), "origin": "person"}], reviewed=True)
    labels.close()
    with pytest.raises(BuildError, match="made up"):
        build(find("busi"), home.raw("BUSI"), home, receipt={"kind": "specimen"})
    (corrections.folder(home.root, "busi") / "labels.json").write_text("{")
    with pytest.raises(BuildError, match=r"labels\.json"):
        corrections.read(home.root, "busi")
