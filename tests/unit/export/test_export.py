"""What must hold for every format: exclusions, groups, splits, documents, determinism, resuming."""

import csv
import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from us43d import export
from us43d.errors import LicenceError, StorageError, TrainError, UnknownName, UsageError
from us43d.export import frames
from us43d.export import run as running
from us43d.export.check import check
from us43d.export.selection import Options, Selection
from us43d.export.storage import staged
from us43d.harmonize.corpus import SPLITS

#: nnunet-3d takes volumes alone, and these corpora are of images; its own tests are in test_formats.py.
FORMATS = sorted(set(export.FORMATS) - {"nnunet-3d"})


@pytest.fixture(scope="session")
def exported(planted, tmp_path_factory):
    made = {}

    def of(format: str) -> Path:
        if format not in made:
            made[format] = tmp_path_factory.mktemp("out") / format
            export.write(format, planted.corpus, made[format], Options())
        return made[format]

    return of


def table(out: Path) -> list[dict[str, str]]:
    with (out / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, str]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("format", FORMATS)
def test_planted_near_duplicates_are_in_no_export(format, planted, exported) -> None:
    out = exported(format)
    rows = table(out)
    keys = {row["key"] for row in rows if row["source"] == "BUSI"}
    assert keys, "BUSI itself is exported"
    assert not keys & {planted.exact, planted.near}
    # Not under another name either: the image's id is in every file name and every record.
    corpus = planted.corpus
    ids = [
        int(corpus.images["id"][row]) for row in range(len(corpus)) if corpus.key(row) in (planted.exact, planted.near)
    ]
    assert len(ids) == 2
    for path in out.rglob("*"):
        assert not any(str(n) in path.name for n in ids)
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            assert not set(ids) & set(pq.read_table(path, columns=["id"])["id"].to_pylist())
        elif path.is_file():
            assert not any(str(n).encode() in path.read_bytes() for n in ids)
    facts = json.loads((out / "export.json").read_text())
    assert facts["skipped"] == {"excluded: near-duplicate of a test or validation image": 2}


@pytest.mark.parametrize("format", FORMATS)
def test_splits_and_groups_are_those_of_the_corpus(format, planted, exported) -> None:
    corpus = planted.corpus
    rows = table(exported(format))
    kept = [n for n in range(len(corpus)) if SPLITS[corpus.images["split"][n]] != "excluded"]
    if format == "medsam":  # which has no file for an image without annotation
        kept = [n for n in kept if corpus.images["count"][n]]
    expected = {int(corpus.images["id"][n]): SPLITS[corpus.images["split"][n]] for n in kept}
    assert {int(row["id"]): row["split"] for row in rows} == expected
    split_of: dict[str, set[str]] = {}
    for row in rows:
        split_of.setdefault(row["unit"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in split_of.values())


@pytest.mark.parametrize("format", FORMATS)
def test_documents_and_checksums_travel_along(format, exported) -> None:
    out = exported(format)
    for name in ("README.md", "LICENCES.md", "references.bib"):
        assert (out / name).stat().st_size > 200
    assert "CAMUS" in (out / "LICENCES.md").read_text()
    assert "ultrasam" in (out / "references.bib").read_text()
    listed = dict(reversed(line.split("  ", 1)) for line in (out / "checksums.txt").read_text().splitlines())
    found = contents(out)
    linked = {name for name in found if name.startswith("data/") and format == "coco"}
    assert set(found) - linked - {"export.json", "checksums.txt"} == set(listed)
    assert all(found[name] == digest for name, digest in listed.items())
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("format", FORMATS)
def test_same_bytes_whatever_the_jobs(format, planted, exported, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(running, "BLOCK", 128)
    again = export.write(format, planted.corpus, tmp_path / format, Options(), jobs=3)
    first, second = contents(exported(format)), contents(tmp_path / format)
    usage = {"README.md", "export.json", "checksums.txt"}  # these state the folder
    assert {n: d for n, d in first.items() if n not in usage} == {n: d for n, d in second.items() if n not in usage}
    assert not again.reused
    assert export.write(format, planted.corpus, tmp_path / format, Options()).reused


@pytest.mark.parametrize("format", FORMATS)
def test_an_interrupted_export_resumes_to_the_same_bytes(format, planted, exported, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(running, "BLOCK", 8)
    monkeypatch.setattr(frames, "BLOCK", 8)
    whole = tmp_path / "one" / "out"
    export.write(format, planted.corpus, whole, Options())
    record, blocks = running.Block.record, []

    def interrupted(self) -> bytes:
        blocks.append(self.task)
        if len(blocks) == 3:
            raise KeyboardInterrupt
        return record(self)

    monkeypatch.setattr(running.Block, "record", interrupted)
    out = tmp_path / "two" / "out"
    with pytest.raises(KeyboardInterrupt):
        export.write(format, planted.corpus, out, Options())
    assert not out.exists()
    export.write(format, planted.corpus, out, Options())
    assert len(set(blocks)) == len(blocks) - 1, "finished blocks are not written again"
    first, second = contents(out), contents(whole)
    usage = {"README.md", "export.json", "checksums.txt"}
    assert {n: d for n, d in first.items() if n not in usage} == {n: d for n, d in second.items() if n not in usage}
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "format",
    [name if name in ("coco", "webdataset") else pytest.param(name, marks=pytest.mark.slow) for name in export.FORMATS],
)
def test_a_killed_export_resumes_to_the_same_bytes(format, planted, volumes, tmp_path) -> None:
    corpus = volumes if format == "nnunet-3d" else planted.corpus
    script = f"""
import os, sys
from pathlib import Path
from us43d import export
from us43d.export import frames, run
from us43d.export.selection import Options
from us43d.harmonize.corpus import Corpus
run.BLOCK = frames.BLOCK = 8
blocks = 0
record = run.Block.record
def killed(self):
    global blocks
    blocks += 1
    if blocks == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    return record(self)
run.Block.record = killed
corpus = Corpus.open(Path({str(corpus.path)!r}), Path({str(corpus.home)!r}))
export.write({format!r}, corpus, sys.argv[1], Options())
"""
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}

    def go(out: Path, at: int) -> int:
        return subprocess.run(
            [sys.executable, "-c", script, str(out), str(at)], env=environment, check=False
        ).returncode

    out = tmp_path / "one" / "out"
    assert go(out, 3) == -9
    assert not out.exists()
    assert go(out, 0) == 0
    whole = tmp_path / "two" / "out"
    assert go(whole, 0) == 0
    first, second = contents(out), contents(whole)
    usage = {"README.md", "export.json", "checksums.txt"}
    assert {n: d for n, d in first.items() if n not in usage} == {n: d for n, d in second.items() if n not in usage}
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


def test_commercial_refuses(planted, tmp_path) -> None:
    with pytest.raises(LicenceError, match="CAMUS"):
        export.write("coco", planted.corpus, tmp_path / "out", Options(commercial=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["coco", "nnunet"])
def test_missing_and_damaged_images_are_named(format, planted, tmp_path) -> None:
    corpus = planted.corpus
    victim = next(corpus.file(row) for row in corpus.split("val").tolist() if "CAMUS" in str(corpus.file(row)))
    content, out = victim.read_bytes(), tmp_path / "out"
    try:
        victim.unlink()
        with pytest.raises(TrainError, match=f"{victim.name} is missing") as error:
            export.write(format, corpus, out, Options(sources=("CAMUS",)))
        assert (error.value.disk, error.value.next) == (
            "Finished blocks are kept in a hidden folder beside --out; the same command resumes.", "us43d check CAMUS",
        )  # fmt: skip
        victim.write_bytes(content + b"0")  # still an image
        with pytest.raises(TrainError, match="is not the file that was built"):
            export.write(format, corpus, out, Options(sources=("CAMUS",)))
    finally:
        victim.write_bytes(content)
    assert not export.write(format, corpus, out, Options(sources=("CAMUS",))).reused


def test_another_folder_is_never_overwritten(planted, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty") as refused:
        export.write("masks", planted.corpus, f"{tmp_path}/out/", Options())
    assert refused.value.next == f"the same command with --out {tmp_path}/out-2"  # not inside the folder
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    export.write("masks", planted.corpus, tmp_path / "two", Options(sources=("BUSI",)))
    with pytest.raises(UsageError, match="other content or options"):
        export.write("masks", planted.corpus, tmp_path / "two", Options())


@pytest.mark.parametrize("place", ["hf://datasets/me/repository", "hf://me/repository/"])
def test_the_root_of_a_repository_is_refused(place) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'us43d[export]'")
    with pytest.raises(UsageError, match="names a repository, not a folder in it") as refused:
        staged(place, "0" * 64)
    assert refused.value.next == f"the same command with --out {place.rstrip('/')}/us43d"
    assert staged(refused.value.next.split()[-1], "0" * 64).staging.endswith("me/repository/.us43d.0000000000000000")


def test_unknown_names_are_named(planted, tmp_path) -> None:
    with pytest.raises(UnknownName, match="'elbow'"):
        Selection(planted.corpus, Options(structures=("elbow",)))
    with pytest.raises(UnknownName, match="'LUNG'"):
        Selection(planted.corpus, Options(organs=("LUNG",)))


def test_structures_keep_images_of_sources_that_annotate_them(planted) -> None:
    selection = Selection(planted.corpus, Options(structures=("breast_lesion",)))
    assert {source["name"] for source in selection.exported_sources} == {"BUSI", "STU-Hospital"}
    assert [category.name for category in selection.categories] == ["breast_lesion"]
    assert selection.skipped["of a source that annotates no chosen structure"] > 0
    shown = [item for split in selection.rows for item in selection.items(split, 0, 10**6)]
    assert [item.number for item in shown] == list(range(1, len(shown) + 1))
    assert any(not item.shapes for item in shown), "normal images of BUSI are true negatives"
    numbers = [shape.number for item in shown for shape in item.shapes]
    assert numbers == list(range(1, len(numbers) + 1))


def test_size_resizes_images_masks_and_spacing(planted) -> None:
    plain = Selection(planted.corpus, Options(sources=("CAMUS",)))
    small = Selection(planted.corpus, Options(sources=("CAMUS",), size=64))
    for split, rows in plain.rows.items():
        for a, b in zip(plain.items(split, 0, len(rows)), small.items(split, 0, len(rows)), strict=True):
            assert max(b.height, b.width) == 64
            assert b.picture().shape[:2] == (b.height, b.width)
            assert b.suffix == ".png"
            if a.spacing:
                assert np.allclose(b.spacing[0] * b.width, a.spacing[0] * a.width)
            for shape in b.shapes:
                mask = b.mask(shape)
                assert mask.sum() == shape.area
                x, y, w, h = shape.bbox
                assert mask[y : y + h, x : x + w].sum() == shape.area


def test_a_disk_without_links_is_reported(planted, tmp_path, monkeypatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refused)
    report = export.write("coco", planted.corpus, tmp_path / "out", Options(sources=("BUSI",)))
    assert "data_path='images'" in report.usage
    assert not (tmp_path / "out" / "data").exists()
    assert check(str(tmp_path / "out")) == []


def test_an_export_that_was_used_is_sound(planted, tmp_path) -> None:
    out = tmp_path / "out"
    export.write("yolo", planted.corpus, out, Options(sources=("BUSI",)))
    for left in ("labels/train.cache", ".DS_Store", "images/Thumbs.db"):
        (out / left).touch()
    assert check(str(out)) == []
    (out / "images/train/more.png").touch()
    assert [problem.kind for problem in check(str(out))] == ["extra"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_printed_lines_run_as_they_are(format, planted, tmp_path, monkeypatch) -> None:
    if format in ("huggingface", "webdataset", "dicom-seg"):
        reader = {"huggingface": "datasets", "dicom-seg": "highdicom"}.get(format, format)
        pytest.importorskip(reader, reason=f"{reader} is not installed: pip install 'us43d[export]'")
    if format == "huggingface":
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "it's an export"
    usage = export.write(format, planted.corpus, f"{out}/", Options(sources=("BUSI",))).usage
    assert "data_path" not in usage
    if format in ("yolo", "nnunet"):  # lines of a shell
        assert any(Path(word.partition("=")[2] or word).exists() for word in shlex.split(usage) if str(out) in word)
        return
    tools = {name: MagicMock() for name in ("fiftyone", "detectron2", "detectron2.data", "detectron2.data.datasets")}
    for name, tool in tools.items():
        monkeypatch.setitem(sys.modules, name, tool)
    lines: dict[str, Any] = {}
    exec(usage, lines)
    if format == "coco":
        assert tools["fiftyone"].Dataset.from_dir.call_args.args == (str(out),)
        registered = tools["detectron2.data.datasets"].register_coco_instances.call_args_list
        assert [call.args[0] for call in registered] == ["us43d_train", "us43d_val", "us43d_test"]
        assert all(Path(path).exists() for call in registered for path in call.args[2:])
        dataset = lines["val_dataloader"]["dataset"]
        content = json.loads((Path(dataset["data_root"]) / dataset["ann_file"]).read_text())
        assert list(dataset["metainfo"]["classes"]) == [category["name"] for category in content["categories"]]
        assert lines["val_evaluator"] == {"ann_file": str(out / "annotations/instances_val.json")}


def test_a_place_that_cannot_be_written_says_that_nothing_was_changed(planted, tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="a file stands where a folder is needed") as error:
        export.write("masks", planted.corpus, tmp_path / "file/out", Options())
    assert error.value.disk == "Nothing was changed on disk."


def test_a_full_disk_is_reported_with_the_name_of_the_export(planted, small_disk) -> None:
    """The parts of a file, and the folder, have hidden names until they are complete."""
    (small_disk / "ballast").write_bytes(b"0" * 1000 * 1024)
    with pytest.raises(StorageError, match=rf"^{small_disk / 'out'}(/\w+)*[\w./-]* cannot be written") as error:
        export.write("masks", planted.corpus, small_disk / "out", Options())
    assert not any(word in error.value.what for word in ("/.", "!", "tmp cannot"))


def test_a_full_disk_leaves_nothing_final(planted, tmp_path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28), "image of the build", None, "file of the export")

    monkeypatch.setattr(running.documents, "written", full)
    with pytest.raises(StorageError, match=r"^file of the export cannot be written: the disk is full"):
        export.write("masks", planted.corpus, tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    export.write("masks", planted.corpus, tmp_path / "out", Options())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
