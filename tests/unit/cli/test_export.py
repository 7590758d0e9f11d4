"""`us43d export` and `us43d check` on an export, from the command line."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from us43d import registry
from us43d.harmonize import shards
from us43d.harmonize.build import build
from us43d.paths import Home

from .runs import run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """STU-Hospital and BUSI built; one training image of BUSI is a test image of STU-Hospital."""
    folder = tmp_path_factory.mktemp("home")

    def made(slug: str) -> Path:
        raw = folder / "raw" / registry.recipe(slug).name
        if not raw.is_dir():
            raw.mkdir(parents=True)
            registry.specimen(slug)(raw, np.random.default_rng(0))
        return build(registry.recipe(slug), raw, Home(folder), receipt={"kind": "specimen"}).path

    one = made("stu_hospital")
    rows = shards.read_manifest(one / shards.MANIFEST)
    tested = cv2.imread(str(one / next(row["file"] for row in rows if row["split"] == "test")))
    busi = made("busi")
    rows = shards.read_manifest(busi / shards.MANIFEST)
    key = next(row["key"] for row in rows if row["split"] == "train" and "normal" in row["key"])
    raw = folder / "raw" / "BUSI"
    cv2.imwrite(str(raw / key), tested)
    cv2.imwrite(str(raw / key.replace(".png", "_mask.png")), np.zeros(tested.shape[:2], np.uint8))
    made("busi")
    assert run("corpus", "--all", "--home", folder)[0] == 0
    return folder


def test_a_corpus_is_exported_and_checked(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    code, shown, _ = run("export", "us43d", "--to", "coco", "--out", out, "--home", home, "--json")
    assert code == 0
    facts = json.loads(shown)
    assert facts["skipped"] == {"excluded: near-duplicate of a test or validation image": 1}
    assert "register_coco_instances" in facts["usage"]
    assert "metainfo = dict(classes=('breast_lesion',))" in facts["usage"]
    assert run("check", out)[0] == 0
    victim = next((out / "images").iterdir())
    victim.write_bytes(victim.read_bytes()[:-1])
    (out / "images" / "mine.png").write_bytes(b"")
    code, _, said = run("check", out)
    assert code == 1
    assert f"changed: images/{victim.name}" in said
    assert "extra: images/mine.png" in said
    for place in (tmp_path / "none", "none/at-all"):
        code, _, said = run("check", place)
        assert code == 1
        assert f"No export found in {place}: export.json is missing." in said
    monkeypatch.chdir(tmp_path)
    Path("unfinished").mkdir()
    assert "No export found in unfinished: export.json is missing." in run("check", "unfinished")[2]
    shutil.rmtree(out / "annotations")
    assert "missing: annotations/instances_train.json" in run("check", out)[2]


def test_a_source_states_what_a_corpus_would_exclude(home: Path, tmp_path: Path) -> None:
    code, _, said = run("export", "busi", "--to", "masks", "--out", tmp_path / "out", "--home", home)
    assert code == 0
    assert "1 images of BUSI are near-duplicates" in said
    assert "1 images of BUSI are near-duplicates" in (tmp_path / "out" / "README.md").read_text()
    code, _, said = run("export", "stu-hospital", "--to", "masks", "--out", tmp_path / "two", "--home", home)
    assert code == 0
    assert "near-duplicates of images" not in said
    code, shown, _ = run(
        "export", "us43d", "--source", "BUSI", "--to", "masks", "--out", tmp_path / "three", "--home", home, "--json"
    )
    assert code == 0
    assert json.loads(shown)["skipped"]["excluded: near-duplicate of a test or validation image"] == 1


def test_usage_errors_name_what_is_wrong(home: Path, tmp_path: Path) -> None:
    for words, message in (
        (("us43d", "--out", tmp_path / "out"), "Missing --to"),
        (("us43d", "--to", "voc", "--out", tmp_path / "out"), "Unknown format 'voc'"),
        (("us43d", "--to", "coco"), "Missing --out"),
        (("bussi", "--to", "coco", "--out", tmp_path / "out"), "Corpora: us43d"),
        (("us43d", "--to", "coco", "--out", tmp_path / "out", "--structures", "elbow"), "Unknown structure 'elbow'"),
        (("us43d", "--to", "coco", "--out", "nosuch://bucket/out"), "nosuch"),
    ):
        code, _, said = run("export", *words, "--home", home)
        assert code == 2, said
        assert message in said
    assert not list(tmp_path.iterdir())


def test_a_corpus_that_is_not_built_is_not_taken_for_a_source(home: Path, tmp_path: Path, monkeypatch) -> None:
    words = ("--to", "coco", "--out", tmp_path / "out", "--home")
    code, _, said = run("export", "us43d", *words, tmp_path / "new")
    assert (code, said) == (
        2, "The corpus 'us43d' is not built.\nNothing was changed on disk.\nNext: us43d build --all\n",
    )  # fmt: skip
    code, _, said = run("export", "paper", *words, home)
    assert said.startswith("The corpus 'paper' is not built. Corpora: us43d.")
    for name in ("us43d", "mine"):
        shutil.copytree(home / "corpora" / "us43d", tmp_path / "two" / "corpora" / name)
    monkeypatch.setattr("sys.argv", ["us43d", "export", "--to", "coco"])
    code, _, said = run("export", *words, tmp_path / "two")
    assert "Several corpora found: mine, us43d. Choose one by its name." in said
    assert said.endswith("Next: us43d export --to coco mine\n")


def test_commercial_refuses(home: Path, tmp_path: Path) -> None:
    code, _, said = run("export", "us43d", "--to", "coco", "--out", tmp_path / "out", "--commercial", "--home", home)
    assert code == 4
    assert "--commercial refuses" in said


def test_link_shares_the_bytes_of_the_build(home: Path, tmp_path: Path) -> None:
    out = home / "exports" / "linked"
    assert run("export", "us43d", "--to", "coco", "--out", out, "--link", "--home", home)[0] == 0
    assert all(path.stat().st_nlink > 1 for path in (out / "images").iterdir())
    assert run("export", "us43d", "--to", "coco", "--out", tmp_path / "out", "--home", home)[0] == 0
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "out" / "images").iterdir())


def test_a_folder_that_holds_data_of_us43d_is_refused(home: Path, tmp_path: Path) -> None:
    for place in (home / "corpora" / "us43d" / "out", home / "build" / "out", home / "raw" / "BUSI"):
        code, _, said = run("export", "us43d", "--to", "masks", "--out", place, "--home", home)
        assert code == 2
        assert f"{place} is inside" in said
    assert not (home / "build" / "out").exists()
    (tmp_path / "file").write_text("mine")
    code, _, said = run("export", "us43d", "--to", "masks", "--out", tmp_path / "file", "--home", home)
    assert code == 2
    assert "is a file" in said


def test_a_url_without_credentials_names_the_login(home: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'us43d[export]'")
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    for words in (("us43d", "--out", "s3://bucket/out"), ("s3://bucket/corpora/us43d", "--out", tmp_path / "out")):
        code, _, said = run("export", *words, "--to", "masks", "--home", home)
        assert code == 1, said
        assert "Unable to locate credentials" in said
        assert said.rstrip().endswith("Next: aws configure")
    s3fs.S3FileSystem.clear_instance_cache()
