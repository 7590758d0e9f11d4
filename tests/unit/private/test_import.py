"""`us43d import`: folders of one's own become private sources that every verb knows."""

import csv
import importlib
import json
import shlex
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

import us43d
from us43d import registry
from us43d.harmonize import shards
from us43d.loading import latest
from us43d.masks import rle
from us43d.paths import Home

app = importlib.import_module("us43d.cli.app").app
MEAN = ["--label", "probe=-"]


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("US43D_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


def coco(root: Path, patients: int = 8, **more: Any) -> Path:
    """Three 8-bit images of each patient in images/, with one polygon of a nodule each."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations = []
    for patient in range(patients):
        for number in range(3):
            name = f"P{patient:02}_{number}.png"
            cv2.imwrite(str(root / "images" / name), rng.integers(0, 255, (60, 80), np.uint8))
            at = len(images) + 1
            images.append({"id": at, "file_name": name, "width": 80, "height": 60, **more})
            outline = [10 + patient, 10, 40, 10, 40, 30, 10 + patient, 30]
            annotations.append({"id": at, "image_id": at, "category_id": 7, "segmentation": [outline]})
    annotations.append({"id": 99, "image_id": 1, "category_id": 7, "segmentation": []})
    categories = [{"id": 7, "name": "Thyroid nodule"}, {"id": 8, "name": "probe"}]
    save(root, {"images": images, "annotations": annotations, "categories": categories})
    (root / "notes.txt").write_text("not data")
    return root


def save(root: Path, content: dict[str, Any]) -> None:
    (root / "anno.json").write_text(json.dumps(content))


def content(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "anno.json").read_text()))


def nnunet(root: Path, ending: str = ".png") -> Path:
    """Two cases of each of six patients: kidney (1) and tumour (2); with .png one test image without a mask."""
    rng = np.random.default_rng(1)
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    for patient in range(6):
        for number in range(2):
            case = f"pat{patient}_{number}"
            shape = (40, 30, 5) if ending == ".nii.gz" else (30, 40)
            image, labels = rng.integers(0, 255, shape).astype(np.uint8), np.zeros(shape, np.uint8)
            if ending == ".nii.gz":
                labels[5:20, 5:15, 1:4], labels[20:30, 5:15, 1:4] = 1, 2
                affine = np.diag([0.5, 0.25, 2, 1])
                nibabel.save(nibabel.Nifti1Image(image, affine), root / "imagesTr" / f"{case}_0000{ending}")
                nibabel.save(nibabel.Nifti1Image(labels, affine), root / "labelsTr" / f"{case}{ending}")
            else:
                labels[5:15, 5:20], labels[15:25, 5:20] = 1, 2
                cv2.imwrite(str(root / "imagesTr" / f"{case}_0000{ending}"), image)
                cv2.imwrite(str(root / "labelsTr" / f"{case}{ending}"), labels)
    if ending == ".png":
        cv2.imwrite(str(root / "imagesTs" / "pat9_0_0000.png"), np.full((30, 40), 9, np.uint8))
    text = {"channel_names": {"0": "US"}, "labels": {"background": 0, "kidney": 1, "tumour": 2}, "file_ending": ending}
    (root / "dataset.json").write_text(json.dumps(text))
    return root


def rows(home: Home, name: str) -> list[dict[str, Any]]:
    build = latest(home, name)
    assert build is not None
    return shards.read_manifest(build / shards.MANIFEST)


def test_a_box_that_is_not_that_of_its_outline_is_remarked(home: Home, tmp_path: Path) -> None:
    folder = coco(tmp_path / "Lab")
    data = content(folder)
    data["annotations"] = data["annotations"][:1]
    data["annotations"][0] |= {"segmentation": [[2, 2, 12, 2, 12, 9, 2, 9]], "bbox": [4, 4, 20, 14]}
    save(folder, data)
    assert run("import", folder, *MEAN)[0] == run("build", "Lab")[0] == 0
    remarks = [remark for row in rows(home, "Lab") for remark in json.loads(row["remarks"])]
    assert remarks == ["the bbox of an annotation is not that of its segmentation"]


def test_a_coco_folder_becomes_a_source_like_any_other(home: Home, tmp_path: Path) -> None:
    folder = coco(tmp_path / "Thyroid Lab")
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    code, out, said = run("import", folder, "--group", r"(P\d+)_", *MEAN, "--json")
    assert code == 0, said
    told = json.loads(out)
    assert (told["name"], told["images"], told["groups"], told["group_kind"]) == ("Thyroid-Lab", 24, 8, "patient")
    assert told["other_files"] == ["notes.txt"]
    assert "No patients are stated" not in said
    assert run("build", "thyroid lab")[0] == run("check", "Thyroid-Lab")[0] == run("splits", "Thyroid-Lab")[0] == 0
    assert run("audit", "Thyroid-Lab")[0] == run("verify", "Thyroid-Lab")[0] == 0
    assert "Private source of this home" in run("card", "Thyroid-Lab")[1]
    assert json.loads(rows(home, "Thyroid-Lab")[0]["remarks"]) == ["annotations skipped: 1 without segmentation"]
    split_of: dict[str, set[str]] = {}
    for row in rows(home, "Thyroid-Lab"):
        split_of.setdefault(row["group"], set()).add(row["split"])
    assert set(split_of) == {f"P{n:02}" for n in range(8)}
    assert all(len(splits) == 1 for splits in split_of.values())
    assert {part for splits in split_of.values() for part in splits} == {"train", "val", "test"}
    frame = us43d.load("Thyroid-Lab", home=home.root).to_pandas()
    assert len(frame) == 24
    assert run("export", "Thyroid-Lab", "--to", "coco", "--out", tmp_path / "out")[0] == 0
    assert run("check", tmp_path / "out")[0] == 0
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_files_are_linked_and_masks_come_back_equal(home: Home, tmp_path: Path) -> None:
    from pycocotools import mask as oracle

    folder = coco(tmp_path / "lab")
    assert run("import", folder, *MEAN)[0] == run("build", "lab")[0] == 0
    image = home.raw("lab") / "images" / "P03_1.png"
    assert image.samefile(folder / "images" / "P03_1.png")
    assert (folder / "images" / "P03_1.png").stat().st_mode & 0o200  # the user's own file stays writable
    build = latest(home, "lab")
    assert build is not None
    for file in (build / "annotations").glob("*.json"):
        made = json.loads(file.read_text())
        keys = {one["id"]: one["us43d"]["key"] for one in made["images"]}
        for one in made["annotations"]:
            patient = int(keys[one["image_id"]].split("/P")[1][:2])
            outline = [10 + patient, 10, 40, 10, 40, 30, 10 + patient, 30]
            wanted = oracle.decode(oracle.merge(oracle.frPyObjects([outline], 60, 80))).astype(bool)
            assert (rle.decode(one["segmentation"]["counts"].encode(), 60, 80) == wanted).all()


@pytest.mark.parametrize("ending", [".png", ".nii.gz"])
def test_an_nnunet_dataset_becomes_a_source(home: Home, tmp_path: Path, ending: str) -> None:
    folder = nnunet(tmp_path / "Dataset007_K", ending)
    code, _, said = run("import", folder, "--group", r"pat\d+", "--label", "tumour=liver_lesion")
    assert code == 0, said
    assert run("build", "Dataset007_K")[0] == run("check", "Dataset007_K")[0] == 0
    made = rows(home, "Dataset007_K")
    kept = [row for row in made if row["drop"] is None]
    assert {row["group"] for row in kept} == {f"pat{n}" for n in range(6)}
    if ending == ".png":
        assert [row["drop"] for row in made if row["drop"]] == ["test image without a mask (imagesTs without labelsTs)"]
        assert [row["annotations"] for row in kept] == [2] * 12
    else:
        assert len(kept) == 60
        assert sorted({row["annotations"] for row in kept}) == [0, 2]
        assert (kept[0]["width"], kept[0]["height"]) == (40, 30)
        build = latest(home, "Dataset007_K")
        assert build is not None
        entries = json.loads(next((build / "annotations").glob("train-*.json")).read_text())["images"]
        assert entries[0]["us43d"]["spacing_mm"] == [0.5, 0.25]


def test_a_private_source_is_never_counted_as_published(home: Home, tmp_path: Path) -> None:
    before = run("list", "--json")[1]
    assert run("import", coco(tmp_path / "lab"), *MEAN)[0] == run("build", "lab")[0] == 0
    after = {entry["name"]: entry for entry in json.loads(run("list", "--json")[1])}
    own = after.pop("lab")
    assert own["private"] is True
    assert own["collections"] == ["private"]
    assert own["licence"] == "PRIVATE"
    assert sorted(after) == sorted(entry["name"] for entry in json.loads(before))
    assert "Private sources of this home" in run("list")[1]
    assert "lab" not in [source.name for source in registry.sources()]
    assert "lab" in [source.name for source in registry.sources(home)]
    code, _, said = run("corpus", "--all")
    assert code == 2
    assert "Not in the corpus: lab (private)" in said
    assert run("corpus", "lab", "--release", "mine")[0] == 0
    code, _, said = run("export", "mine", "--to", "masks", "--out", tmp_path / "out", "--commercial")
    assert code == 4
    assert "lab" in said


def test_without_patients_a_warning_is_printed_and_nothing_is_guessed(home: Home, tmp_path: Path) -> None:
    code, out, said = run("import", coco(tmp_path / "lab"), *MEAN)
    assert code == 0
    assert "No patients are stated" in said
    assert "24 groups (image)" in out


def test_patients_that_the_file_states_apply(home: Home, tmp_path: Path) -> None:
    _, out, said = run("import", coco(tmp_path / "lab", patient_id="one"), *MEAN)
    assert "1 group (patient)" in out
    assert "No patients" not in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--group", "(Q[0-9]+)_", *MEAN], "finds no patient in 24 of 24"),
        (["--group", "(", *MEAN], "Invalid --group"),
        ([], "no structure for 'probe'"),
        ([*MEAN, "--label", "absent=liver"], "which the folder does not have"),
        (["--label", "x"], "use NAME=STRUCTURE"),
        (["--label", "probe=-", "--label", "Thyroid nodule=-"], "All labels are excluded"),
        ([*MEAN, "--name", "../up"], "Invalid name"),
        ([*MEAN, "--name", "BUSI"], "taken by the published source BUSI"),
        ([*MEAN, "--name", "bus i"], "Invalid name"),
        ([*MEAN, "--licence", "mine"], "Unknown licence"),
    ],
)
def test_usage_errors_change_nothing(home: Home, tmp_path: Path, more: list[str], said: str) -> None:
    code, _, told = run("import", coco(tmp_path / "lab"), *more)
    assert code == 2
    assert said in told
    assert told.count("\n") <= 3
    assert not home.root.exists()


def test_a_second_import_is_unchanged_refused_or_forced(home: Home, tmp_path: Path) -> None:
    folder = coco(tmp_path / "lab")
    assert run("import", folder, *MEAN)[0] == 0
    code, out, _ = run("import", folder, *MEAN)
    assert code == 0
    assert "unchanged" in out
    other = ("import", folder, *MEAN, "--group", r"(P\d+)_")
    code, _, said = run(*other)
    assert code == 2
    assert "private source already" in said
    assert "--force" in said
    assert run(*other, "--force")[0] == 0
    cv2.imwrite(str(folder / "images" / "P00_0.png"), np.zeros((60, 80), np.uint8))
    assert run(*other, "--force")[0] == 0
    assert run("verify", "lab")[0] == 0


def test_a_source_is_removed_unless_a_corpus_needs_it(home: Home, tmp_path: Path) -> None:
    folder = coco(tmp_path / "lab")
    assert run("import", folder, *MEAN)[0] == run("build", "lab")[0] == 0
    assert run("corpus", "lab", "--release", "mine")[0] == 0
    code, _, said = run("import", "--remove", "lab")
    assert code == 2
    assert "corpus mine is made of lab" in said
    (home.corpus("mine") / "corpus.json").unlink()
    assert run("import", "--remove", "LAB")[0] == 0
    assert not any(place.exists() for place in (home.raw("lab"), home.builds("lab"), home.private("lab")))
    assert (folder / "images" / "P00_0.png").is_file()
    code, _, said = run("import", "--remove", "lab")
    assert code == 2
    assert "No private source is called 'lab'" in said


def _missing(root: Path) -> None:
    (root / "images" / "P00_0.png").unlink()


def _escapes(root: Path) -> None:
    cv2.imwrite(str(root.parent / "secret.png"), np.zeros((60, 80), np.uint8))
    made = content(root)
    made["images"][0]["file_name"] = "../../secret.png"
    save(root, made)


def _listed_twice(root: Path) -> None:
    made = content(root)
    made["images"].append(made["images"][0] | {"id": 1000})
    save(root, made)


def _spelled_twice(root: Path) -> None:
    made = content(root)
    name = made["images"][0]["file_name"]
    made["images"].append(made["images"][0] | {"id": 1000, "file_name": name.replace("/", "/./")})
    save(root, made)


def _of_another_size(root: Path) -> None:
    cv2.imwrite(str(root / "images" / "P00_0.png"), np.zeros((61, 80), np.uint8))


def _linked_out(root: Path) -> None:
    (root / "images" / "link.png").symlink_to("/etc/hostname")


def _without_lists(root: Path) -> None:
    (root / "anno.json").write_text("{}")


def _without_images(root: Path) -> None:
    save(root, content(root) | {"images": []})


def test_a_coco_export_comes_back_with_its_splits_and_groups(home: Home, tmp_path: Path) -> None:
    archive = coco(tmp_path / "archive")
    whole = content(archive)
    (archive / "anno.json").unlink()
    for n, split in enumerate(("train", "val")):  # of two sources that number their patients
        images = [i | {"us43d": {"source": f"S{n}", "group": "1"}} for i in whole["images"][n::2]]
        ids = {image["id"] for image in images}
        kept = [a for a in whole["annotations"] if a["image_id"] in ids]
        (archive / f"instances_{split}.json").write_text(json.dumps(whole | {"images": images, "annotations": kept}))
    (archive / "labels.json").write_text(json.dumps(whole))
    code, out, said = run("import", archive, "--name", "V", "--label", "probe=-")
    assert code == 0, said
    assert "labels.json: not read, as the files of splits list all of its images" in said
    assert f"{len(whole['images'])} images, 2 groups (patient)" in out
    (archive / "instances_val.json").unlink()
    code, _, said = run("import", archive, "--name", "W", "--label", "probe=-")
    assert code != 0
    assert "is listed before" in said, "labels.json has images that the file of the split lacks"


def _cut(root: Path) -> None:
    (root / "anno.json").write_bytes((root / "anno.json").read_bytes()[:-9])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_missing, "P00_0.png"),
        (_escapes, "secret.png"),
        (_listed_twice, "is listed before"),
        (_spelled_twice, "is listed before"),
        (_of_another_size, "80 × 61"),
        (_linked_out, "is a link out of the raw tree"),
        (_without_lists, "neither a COCO file"),
        (_without_images, "lists no image"),
        (_cut, "not readable JSON"),
    ],
)
def test_harmed_coco_folders_are_refused(home: Home, tmp_path: Path, harm: Any, said: str) -> None:
    folder = coco(tmp_path / "lab")
    harm(folder)
    code, _, told = run("import", folder, *MEAN)
    assert code == 1, told
    assert said in told
    assert not home.root.exists()


def _unlabelled(root: Path) -> None:
    (root / "labelsTr" / "pat0_0.png").unlink()


def _strange_ending(root: Path) -> None:
    (root / "dataset.json").write_text(json.dumps({"labels": {"kidney": 1}, "file_ending": ".exe"}))


def _strange_labels(root: Path) -> None:
    (root / "dataset.json").write_text(json.dumps({"labels": {"kidney": "one"}, "file_ending": ".png"}))


@pytest.mark.parametrize(
    ("harm", "said"),
    [(_unlabelled, "labelsTr/pat0_0.png"), (_strange_ending, "file_ending '.exe'"), (_strange_labels, "'kidney'")],
)
def test_harmed_nnunet_datasets_are_refused(home: Home, tmp_path: Path, harm: Any, said: str) -> None:
    folder = nnunet(tmp_path / "Dataset007_K")
    harm(folder)
    code, _, told = run("import", folder, "--label", "tumour=-")
    assert code == 1, told
    assert said in told
    assert not home.root.exists()


def test_label_values_that_are_not_declared_fail_the_build(home: Home, tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "Dataset007_K")
    cv2.imwrite(str(folder / "labelsTr" / "pat0_0.png"), np.full((30, 40), 9, np.uint8))
    assert run("import", folder, "--label", "tumour=-")[0] == 0
    code, _, said = run("build", "Dataset007_K")
    assert code == 1
    assert "The label map holds 9" in said


def test_a_damaged_volume_is_skipped_on_request(home: Home, tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "Dataset007_K", ".nii.gz")
    assert run("import", folder, "--label", "tumour=-")[0] == 0
    volume = home.raw("Dataset007_K") / "labelsTr/pat0_0.nii.gz"
    data = volume.read_bytes()
    volume.unlink()
    volume.write_bytes(data[:100])
    code, _, said = run("build", "Dataset007_K")
    assert (code, "imagesTr/pat0_0_0000.nii.gz cannot be read: labelsTr/pat0_0.nii.gz" in said) == (1, True)
    code, said, _ = run("build", "Dataset007_K", "--skip-bad")
    assert (code, "1 dropped: unreadable" in said) == (0, True)
    assert sum(row["drop"] is None for row in rows(home, "Dataset007_K")) == 55


def test_a_damaged_record_is_named(home: Home, tmp_path: Path) -> None:
    assert run("import", coco(tmp_path / "lab"), *MEAN)[0] == 0
    home.private("lab").write_text("{")
    code, _, said = run("list")
    assert code == 1
    assert str(home.private("lab")) in said


def test_volumes_leave_as_3d_nnunet_cases(home: Home, tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "Dataset008_V", ".nii.gz")
    assert run("import", folder, "--group", r"pat\d+", "--label", "tumour=liver_lesion", "--name", "V")[0] == 0
    assert run("build", "V")[0] == 0
    code, out, said = run("export", "V", "--to", "nnunet-3d", "--out", tmp_path / "out", "--json")
    assert code == 0, said
    told = json.loads(out)
    assert told["counts"]["volumes"] == 12
    assert run("check", tmp_path / "out")[0] == 0
    dataset = tmp_path / "out" / "Dataset043_V"
    text = json.loads((dataset / "dataset.json").read_text())
    assert text["file_ending"] == ".nii.gz"
    assert "overwrite_image_reader_writer" not in text
    splits = json.loads((dataset / "splits_final.json").read_text())
    published = {path.name: nibabel.load(path) for path in (folder / "imagesTr").iterdir()}
    originals = {np.asarray(image.dataobj).tobytes(): name for name, image in published.items()}
    patients: dict[str, str] = {}
    files = sorted(dataset.glob("images*/*.nii.gz"))
    assert len(files) == 12
    for file in files:
        image = nibabel.load(file)
        assert image.header.get_zooms() == (0.5, 0.25, 2.0)
        name = originals[np.asarray(image.dataobj).tobytes()]
        case = file.name.removesuffix("_0000.nii.gz")
        patients[case] = name[:4]
        labels = np.asarray(nibabel.load(file.parent.parent / file.parent.name.replace("images", "labels") /
                                         f"{case}.nii.gz").dataobj)  # fmt: skip
        wanted = np.asarray(nibabel.load(folder / "labelsTr" / name.replace("_0000", "")).dataobj)
        values = {"kidney": text["labels"]["kidney"], "liver_lesion": text["labels"]["liver_lesion"]}
        assert (labels == values["kidney"]).sum() == (wanted == 1).sum() > 0
        assert ((labels == values["kidney"]) == (wanted == 1)).all()
        assert ((labels == values["liver_lesion"]) == (wanted == 2)).all()
    for fold in splits:
        assert not {patients[case] for case in fold["train"]} & {patients[case] for case in fold["val"]}


def test_images_without_slice_distance_are_no_volumes(home: Home, tmp_path: Path) -> None:
    assert run("import", coco(tmp_path / "lab"), *MEAN)[0] == run("build", "lab")[0] == 0
    code, _, said = run("export", "lab", "--to", "nnunet-3d", "--out", tmp_path / "out")
    assert code == 2
    assert "slice distance is known" in said


def test_a_volume_that_lacks_a_slice_is_counted_and_not_exported(home: Home, tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "Dataset008_V", ".nii.gz")
    assert run("import", folder, "--group", r"pat\d+", "--label", "tumour=liver_lesion", "--name", "V")[0] == 0
    assert run("build", "V")[0] == 0
    build = latest(home, "V")
    assert build is not None
    file = next((build / "annotations").glob("train-*.json"))
    made = json.loads(file.read_text())
    gone = next(one for one in made["images"] if one["us43d"]["frame"] == 2)
    made["images"].remove(gone)
    made["annotations"] = [one for one in made["annotations"] if one["image_id"] != gone["id"]]
    file.write_text(json.dumps(made))
    _, out, _ = run("export", "V", "--to", "nnunet-3d", "--out", tmp_path / "out", "--json")
    facts = json.loads(out)
    counts = facts["counts"]
    assert counts["volumes"] == 11
    with (tmp_path / "out" / "images.csv").open(newline="") as table:
        assert facts["annotations"] == sum(int(row["annotations"]) for row in csv.DictReader(table))
    assert facts["annotations"] < sum(row["annotations"] for row in rows(home, "V")), "of exported images alone"
    assert counts["images not exported: of a volume that lacks slices"] == 4
    _, out, _ = run("export", "V", "--to", "dicom-seg", "--out", tmp_path / "dicom", "--json")
    facts = json.loads(out)
    assert facts["counts"]["volumes"] == 11
    assert sum(facts["images"].values()) == 59, "the slices of the twelfth are single images"
    assert len(list((tmp_path / "dicom").rglob("image.dcm"))) == 11 + 4


@pytest.mark.parametrize("format", ["nnunet-3d", "dicom-seg"])
def test_a_volume_that_another_source_tests_on_is_not_exported(home: Home, tmp_path: Path, format: str) -> None:
    more = ("--group", r"pat\d+", "--label", "tumour=liver_lesion")
    one, other = nnunet(tmp_path / "One", ".nii.gz"), nnunet(tmp_path / "Other", ".nii.gz")
    (one / "labelsTs").mkdir()
    for kind in ("images", "labels"):
        for path in (one / f"{kind}Tr").glob("pat0_*"):
            path.rename(one / f"{kind}Ts" / path.name)
    for path in (other / "imagesTr").iterdir():
        if not path.name.startswith("pat0"):
            image = nibabel.load(path)
            nibabel.save(nibabel.Nifti1Image(255 - np.asarray(image.dataobj), image.affine), path)
    for folder in (one, other):
        assert run("import", folder, *more)[0] == run("build", folder.name)[0] == 0
    assert {row["split"] for row in rows(home, "Other") if row["group"] == "pat0"} == {"train"}
    assert run("corpus", "One", "Other", "--release", "both")[0] == 0
    code, out, said = run("export", "both", "--to", format, "--out", tmp_path / "out", "--json")
    assert code == 0, said
    assert json.loads(out)["skipped"] == {"excluded: near-duplicate of a test or validation image": 10}
    with (tmp_path / "out" / "images.csv").open(newline="") as table:
        groups = {(row["source"], row["group"], row["split"]) for row in csv.DictReader(table)}
    assert [entry for entry in groups if entry[1] == "pat0"] == [("One", "pat0", "test")]
    pixels = {np.asarray(nibabel.load(path).dataobj).tobytes() for path in (one / "imagesTs").iterdir()}
    for path in (tmp_path / "out").rglob("imagesTr/*.nii.gz"):
        assert np.asarray(nibabel.load(path).dataobj).tobytes() not in pixels


def test_a_folder_of_pairs_gets_the_command_that_makes_it_a_source(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "my lab"
    for name, value in (("images", 90), ("masks", 0)):
        (folder / name).mkdir(parents=True)
        for n in range(3):
            pixels = np.full((60, 80), value, np.uint8)
            pixels[10 : 20 + n, 10:40] = 255
            cv2.imwrite(str(folder / name / f"P{n}_0.png"), pixels)
    code, _, said = run("import", folder)
    assert code == 1
    step = said.rstrip().rpartition("Next: us43d ")[2].partition("   #")[0]
    assert run(*shlex.split(step))[0] == 0
    code, _, said = run("import", folder, "--group", r"(P\d+)_", "--label", "structure=breast_lesion")
    assert code == 0, said
    assert run("build", "my-lab")[0] == 0
    assert {row["group"] for row in rows(home, "my-lab")} == {"P0", "P1", "P2"}


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_a_label_map_that_states_other_axes_than_its_image_is_told(home: Home, tmp_path: Path, ending: str) -> None:
    """Pixels are compared as stored, as nnU-Net does; whether the header or the pixels are right nobody here knows."""
    folder = tmp_path / "lab"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case, turn in (("a", 1), ("b", -1)):
        for file, direction in ((f"imagesTr/{case}_0000", 1), (f"labelsTr/{case}", turn)):
            image = sitk.GetImageFromArray(np.ones((3, 8, 9), np.uint8))
            image.SetDirection((direction, 0, 0, 0, 1, 0, 0, 0, 1))
            sitk.WriteImage(image, str(folder / f"{file}{ending}"))
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "kidney": 1}, "file_ending": ending}))
    code, _, said = run("import", folder)
    assert code == 0, said
    assert "3 images: the label map states other directions of its axes than its image" in said  # the slices of b


@pytest.mark.parametrize(
    ("image", "mask", "folders"),
    [("images/{}.png", "labels/{}.png", ("images", "labels")), ("{}/image.png", "{}/mask.png", ("", ""))],
)
def test_images_and_masks_lead_to_a_source(
    home: Home, tmp_path: Path, image: str, mask: str, folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the commands that are printed, from import to a COCO file and back."""
    folder = tmp_path / "my lab"
    drawn = np.zeros((60, 80), np.uint8)
    drawn[10:30, 10:40] = 255
    for n in range(3):
        for form, pixels in ((image, drawn // 2 + n), (mask, drawn)):
            place = folder / form.format(f"P{n}")
            place.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place), pixels)

    def followed(*words: object) -> list[str]:
        monkeypatch.setattr("sys.argv", ["us43d", *map(str, words)])
        code, _, said = run(*words)
        return shlex.split(said.partition("Next: us43d ")[2].partition("   # ")[0]) if code else []

    words = followed("import", folder)
    assert words == ["coco", *(str(folder / name) for name in folders), "--out", str(folder / "coco.json")]
    while words:
        words = followed(*words)
    code, out, _ = run("import", folder, "--name", "Lab", "--label", "structure=breast_lesion")
    assert (code, "3 images" in out) == (0, True)


def test_masks_of_the_same_names_are_not_taken_for_the_images(home: Home, tmp_path: Path) -> None:
    """masks/ comes before scans/ in the alphabet, and was imported."""
    folder = coco(tmp_path / "Lab")
    (folder / "images").rename(folder / "scans")
    (folder / "masks").mkdir()
    for path in (folder / "scans").iterdir():
        cv2.imwrite(str(folder / "masks" / path.name), np.zeros((60, 80), np.uint8))
    assert run("import", folder, *MEAN)[0] == 0
    assert sorted(path.name for path in home.raw("Lab").iterdir()) == ["anno.json", "scans"]

    (folder / "masks").rename(folder / "others")
    code, _, err = run("import", folder, "--name", "Lab2", *MEAN)
    assert code != 0
    assert "may be in others/ or in scans/" in err
    assert not home.raw("Lab2").exists()
