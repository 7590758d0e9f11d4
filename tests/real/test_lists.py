"""Readers over trees with the names of the complete sources: they yield the keys the pinned splits are made of."""

import csv
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel
import numpy as np
import openpyxl
import pytest

from us43d import registry
from us43d.contract import RawTree, Sample, paths_in
from us43d.splits import pinned

pytestmark = pytest.mark.shared

Listed = dict[str, dict[str, str]]
"""Key → its row: group, official_split, annotated."""

HALVES = {"AC": "", "HC": "_Annotation"}
PARTS = {"train": "training", "val": "validation", "test": "testing"}


def listed(shared: Path, name: str) -> Listed:
    with (shared / "lists" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def touch(root: Path, *names: str) -> None:
    """Empty files: a reader decodes nothing until its samples are built."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def text(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")


# ------------------------------------------------------------------- trees as published, images and masks left empty


def breast_lesions_usg(root: Path, rows: Listed) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    masks = ["Mask_tumor_filename", "Mask_other_filename"]
    book.active.append(["Image_filename", *masks, "Classification", "BIRADS", "Pixel_size"])
    for key, row in rows.items():
        touch(root, key, *[key.replace(".png", "_tumor.png")] * int(row["annotated"]))
        mask = [Path(key).name.replace(".png", "_tumor.png")] if row["annotated"] == "1" else [None]
        label = "benign" if row["annotated"] == "1" else "normal"
        book.active.append([Path(key).name, *mask, None, label, "3", 0.007])
    book.save(root / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx")


def bus_uclm(root: Path, rows: Listed) -> None:
    top = root / "BUS-UCLM Breast ultrasound lesion segmentation dataset"
    touch(top, *rows, *(key.replace("/images/", "/masks/") for key in rows))
    head = "Image;Resolution;Label;Doppler;Marks;Combined"
    text(top / "BUS-UCLM/INFO.csv", [head, *(f"{Path(key).name};856x606;Normal;No;No;No" for key in rows)])


def busbra(root: Path, rows: Listed) -> None:
    touch(root, *rows, *(key.replace("Images/bus_", "Masks/mask_") for key in rows))
    touch(root, "BUSBRA/10-fold-cv.csv", "BUSBRA/LICENSE.txt")
    names = {Path(key).stem: row for key, row in rows.items()}
    head = "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"
    text(root / "BUSBRA/bus_data.csv", [head, *(f"{n},{r['group']},x,benign,2,x,9,9,left,x" for n, r in names.items())])
    folds = (f"{n},benign,{1 if r['official_split'] == 'test' else 2}" for n, r in names.items())
    text(root / "BUSBRA/5-fold-cv.csv", ["ID,Pathology,kFold", *folds])


def busi(root: Path, rows: Listed) -> None:
    touch(root, *rows, *(key.replace(".png", "_mask.png") for key in rows))
    touch(root, "Dataset_BUSI_with_GT/benign/benign (195)_mask_1.png")
    touch(root, "Dataset_BUSI_with_GT/benign/benign (195)_mask_2.png")


def camus(root: Path, rows: Listed) -> None:
    """One volume for all patients, as the reader asks for its size, and one view of each."""
    top, volume = root / "CAMUS_public", root / "volume.nii.gz"
    nibabel.save(nibabel.nifti1.Nifti1Image(np.zeros((2, 2, 1), np.uint8), np.eye(4)), volume)
    for patient in rows:
        folder = top / "database_nifti" / patient
        folder.mkdir(parents=True)
        text(folder / "Info_4CH.cfg", ["ED: 1", "ES: 1", "NbFrame: 1", "Sex: F"])
        for name in ("ED", "ES", "half_sequence"):
            for ending in ("", "_gt"):
                os.link(volume, folder / f"{patient}_4CH_{name}{ending}.nii.gz")
    volume.unlink()
    for part, name in PARTS.items():
        patients = (patient for patient, row in rows.items() if row["official_split"] == part)
        text(top / f"database_split/subgroup_{name}.txt", patients)
    touch(top, "database_split/LICENSE_TERMS.md", "database_split/information.txt")


def fast_u_net(root: Path, rows: Listed) -> None:
    top = root / "Fast-U-Net-5123c8e12fb9d847cc04eae2c69d6e9508731205"
    for key in rows:
        half, name = key.removesuffix(".png").split("/")
        touch(top / "Dataset" / half, f"image1/{name}.png", f"mask/{name}{HALVES[half]}.png")
    for half in HALVES:
        touch(top / "Dataset" / half, "data")
        for part in ("train", "val"):
            names = (Path(k).name for k, r in rows.items() if k.startswith(half) and r["official_split"] == part)
            text(top / f"Dataset/{half}/{part}.txt", (f"resized_data/image/{n} resized_data/mask/{n}" for n in names))
    touch(top, "test_data/image/1576.jpg", "Fast_unet.h5", "test.py", "test.txt", "Fast_unet/000.jpg", "README.md")


def hc18(root: Path, rows: Listed) -> None:
    touch(root, *rows, *(key.replace(".png", "_Annotation.png") for key in rows))
    touch(root, "test_set/000_HC.png", "test_set_pixel_size.csv")
    head = "filename,pixel size(mm),head circumference (mm)"
    text(
        root / "training_set_pixel_size_and_HC.csv",
        [head, *(f"{key.removeprefix('training_set/')},1,1" for key in rows)],
    )


def kidneyus(root: Path, rows: Listed) -> None:
    repository = root / "kidneyUS-becfa9a897df8a4735105a9969432608a206402e"
    touch(root / "kidneyUS_images_14_june_2022", *rows)
    for reader in (1, 2):
        for kind in ("capsule", "regions"):
            touch(repository / f"labels/reviewed_masks_{reader}/{kind}", *rows)
        table = ["filename,file_attributes", *(f"{key},{{}}" for key in rows)]
        text(repository / f"labels/reviewed_labels_{reader}.csv", table)
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["Filename", "Physical Delta X", "Physical Delta Y"])
    book.save(repository / "OpenKidneyUltrasoundDataSet_TransducerInfo.xlsx")
    # What the repository holds beside.
    touch(repository, "README.md", "index.md", "requirements.txt", "kidneyUSlogo.png", "annotation_guidelines.docx")
    touch(repository, "Datasheet for Data Set.pdf", "labels/README_labels", "src/tools/image_utils.py")


def mmotu_2d(root: Path, rows: Listed) -> None:
    for key in rows:
        number = Path(key).stem
        touch(root / "OTU_2d", f"images/{number}.JPG")
        touch(root / "OTU_2d/annotations", *(f"{number}{copy}.PNG" for copy in ("", "_binary", "_binary_binary")))
    for name, part in (("train", "train"), ("val", "test")):
        numbers = [Path(key).stem for key, row in rows.items() if row["official_split"] == part]
        text(root / f"OTU_2d/{name}.txt", numbers)
        text(root / f"OTU_2d/{name}_cls.txt", (f"{number}.JPG  0" for number in numbers))
    touch(root, "OTU_3d/images/1.JPG", "OTU_3d/annotations/1.PNG", "OTU_3d/train.txt")


def stu_hospital(root: Path, rows: Listed) -> None:
    top = root / "STU-Hospital-ba4a898d6c42fdfb5aa2b122742fd4cf6195349b"
    touch(top, *rows, *(key.replace("Test_Image_", "mask_") for key in rows))


def tn3k(root: Path, rows: Listed) -> None:
    top = root / "Thyroid Dataset"
    touch(top, *rows, *(key.replace("-image/", "-mask/") for key in rows))
    numbers = {int(Path(key).stem): row["official_split"] for key, row in rows.items() if "trainval" in key}
    for fold in range(5):
        folds = {part: [n for n in numbers if (n % 5 == fold) == (part == "val")] for part in ("train", "val")}
        text(top / f"tn3k/tn3k-trainval-fold{fold}.json", [json.dumps(folds)])
    for part in ("trainval", "test"):
        text(top / f"tn3k/label4{part}.csv", ["0000.jpg,1"])
    touch(top, "tn3k/tn3k-trainval.json", "tg3k/thyroid-image/0000.jpg", "DDTI dataset/DDTI.zip")


def ubpd(root: Path, rows: Listed) -> None:
    top = root / "UBPD-2a3ec1ca9a545865c17c27ca8e5ba2f3de03b5f6"
    for key in rows:
        touch(top / "data/dataset", key)
        shape = {"label": "shenjing", "points": [[1, 1], [3, 1], [3, 3]]}
        content = {"imageHeight": 4, "imageWidth": 4, "shapes": [shape]}
        text(top / f"data/dataset/labels/json_train/{Path(key).stem}.json", [json.dumps(content)])
    touch(top, ".gitignore", ".placeholder", "README.md", "main.py", "src/train.py", "src/notebooks/main.ipynb")
    touch(top, "tests/test_helper.py", "output.png", "wandb/debug.log")


def us_nerve(root: Path, rows: Listed) -> None:
    touch(root, *rows, *(key.replace(".tif", "_mask.tif") for key in rows))
    touch(root, "test/1.tif", "train_masks.csv", "sample_submission.csv")


#: List → the tree it stands for.
TREES: dict[str, Callable[[Path, Listed], None]] = {
    "breast_lesions_usg": breast_lesions_usg, "bus_uclm": bus_uclm, "busbra": busbra, "busi": busi,
    "camus_patients": camus, "fast_u_net": fast_u_net, "hc18": hc18, "kidneyus": kidneyus, "mmotu_2d": mmotu_2d,
    "stu_hospital": stu_hospital, "tn3k": tn3k, "ubpd": ubpd, "us_nerve": us_nerve,
}  # fmt: skip


def test_every_list_is_read(shared: Path) -> None:
    assert set(TREES) == {path.stem for path in (shared / "lists").glob("*.csv")}
    assert {name.removesuffix("_patients") for name in TREES} == set(pinned.slugs())


@pytest.mark.parametrize("name", TREES)
def test_reader_yields_the_list(name: str, shared: Path, tmp_path: Path) -> None:
    slug, rows = name.removesuffix("_patients"), listed(shared, name)
    recipe = registry.recipe(slug)
    TREES[name](tmp_path, rows)
    tree = RawTree(tmp_path)
    samples = list(recipe.read(tree))
    for sample in samples:
        tree.use(*paths_in(sample))
    assert tree.unread(recipe.ignore) == []
    by_patient = slug in pinned.GROUPS_ONLY
    found: dict[str, Sample] = {sample.group if by_patient else sample.key: sample for sample in samples}
    assert set(found) == set(rows)
    assert len(found) == len(samples) or by_patient
    manifest = {row.member.key: row.member for row in pinned.rows(slug)}
    assert set(manifest) == set(rows)
    assert {key: sample.group or key for key, sample in found.items()} == {k: m.group for k, m in manifest.items()}
    assert {key: sample.split for key, sample in found.items()} == {k: m.official for k, m in manifest.items()}
    for key, row in rows.items():
        if slug != "kidneyus":  # whose groups a rule gives
            assert (found[key].group or key) == (row["group"] or key)
        assert found[key].split == (row["official_split"] or None)


@pytest.mark.parametrize("name", TREES)
def test_counts_enforced_are_those_of_the_list(name: str, shared: Path) -> None:
    """As a build counts: images with those dropped, annotated without them, groups with those of the dropped."""
    slug, rows = name.removesuffix("_patients"), listed(shared, name)
    expect = registry.recipe(slug).expect
    dropped = {fix.key for fix in registry.recipe(slug).fixes if fix.drop}
    assert dropped <= set(rows)
    groups = {row.member.group for row in pinned.rows(slug)}
    assert expect.groups in (None, len(groups))
    if slug not in pinned.GROUPS_ONLY:
        assert expect.images == len(rows)
    if expect.annotated is not None and all(row["annotated"] for row in rows.values()):
        assert expect.annotated == sum(row["annotated"] == "1" and key not in dropped for key, row in rows.items())
