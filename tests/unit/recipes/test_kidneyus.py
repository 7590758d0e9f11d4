"""kidneyUS: copies go with their original, whatever number they carry; both sonographers are kept; spacing; tables."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from us43d import registry
from us43d.contract import RawTree, Sample
from us43d.errors import RawDataError, UnreadableFile
from us43d.harmonize.build import build
from us43d.paths import Home
from us43d.splits import known_duplicates, pinned

BOOK = "OpenKidneyUltrasoundDataSet_TransducerInfo.xlsx"
TABLE = "labels/reviewed_labels_1.csv"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    registry.specimen("kidneyus")(tmp_path, np.random.default_rng(0))
    return tmp_path


def workbook(path: Path, *rows: list[object]) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    book.save(path)


def read(root: Path) -> dict[str, Sample]:
    return {sample.key: sample for sample in registry.recipe("kidneyus").read(RawTree(root))}


def test_groups_are_the_pinned_ones(tmp_path: Path) -> None:
    """Over the names of the complete source."""
    rows = pinned.rows("kidneyus")
    for row in rows:
        for folder in (
            "images",
            *(f"labels/reviewed_masks_{n}/{kind}" for n in (1, 2) for kind in ("capsule", "regions")),
        ):
            path = tmp_path / folder / row.member.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / TABLE).write_text("filename,file_attributes\n" + "".join(f"{row.member.key},{{}}\n" for row in rows))
    workbook(tmp_path / BOOK, ["Filename", "Physical Delta X", "Physical Delta Y"])
    found = {key: sample.group for key, sample in read(tmp_path).items()}
    assert found == {row.member.key: row.member.group for row in rows}
    assert len(set(found.values())) == 501
    for family in known_duplicates.known("kidneyus"):
        assert len({found[key] for key in family}) == 1


def test_both_sonographers_stay_apart(tree: Path) -> None:
    sample = read(tree)["100_IM-0246-0030_anon.png"]
    structures = registry.recipe("kidneyus").labels
    assert set(sample.masks) == set(structures)
    assert structures["capsule"] == structures["sonographer_2_capsule"] == "kidney"


def test_spacing_is_in_mm_and_shared_by_copies(tree: Path) -> None:
    found = read(tree)
    assert found["102_IM-0262-0009_anon.png"].spacing_mm == pytest.approx((0.2, 0.3))
    assert found["400_IM-0262-0009_anon.png"].spacing_mm == pytest.approx((0.2, 0.3))
    assert found["100_IM-0246-0082_anon.png"].spacing_mm is None  # 1 stands for unknown


def test_rows_that_contradict_each_other(tree: Path) -> None:
    """The last row was taken; a row of every region of one image is none."""
    before, name = read(tree), "100_IM-0246-0030_anon.png"
    edited(tree, lambda text: text + text.splitlines(keepends=True)[1].replace("Fair", "Good"))
    workbook(
        next(tree.glob(f"*/{BOOK}")),
        ["Filename", "Physical Delta X", "Physical Delta Y"],
        *(["100_IM-0246-0030", x, 0.1] for x in (0.1, 0.2)),
        ["102_IM-0262-0009", 0.02, 0.03],
        ["102_IM-0262-0009", 0.02, 0.03],
    )
    after = read(tree)
    assert [key for key, sample in after.items() if sample.remarks != before[key].remarks] == [name]
    assert (after[name].tags, after[name].spacing_mm) == ({}, None)
    assert after["102_IM-0262-0009_anon.png"].spacing_mm == pytest.approx((0.2, 0.3))
    assert after[name].remarks == (
        "attributes unknown: rows of the table contradict each other",
        "spacing unknown: rows of the table contradict each other",
    )


def edited(root: Path, edit: Callable[[str], str]) -> None:
    (path,) = root.glob(f"*/{TABLE}")
    path.write_text(edit(path.read_text()))


def test_damaged_tables(tree: Path) -> None:
    edited(tree, lambda text: text.replace('{""Quality"": ""Fair""', "{Quality: Fair"))
    with pytest.raises(UnreadableFile, match=r"reviewed_labels_1\.csv .*line \d+: file_attributes is"):
        read(tree)
    edited(
        tree,
        lambda text: text.replace("{Quality: Fair", '{""Quality"": ""Fair""').replace(
            "100_IM-0246-0082", "100_IM-0246-0083"
        ),
    )
    with pytest.raises(UnreadableFile, match=r"no row of 100_IM-0246-0082_anon\.png"):
        read(tree)
    edited(tree, lambda text: text.replace("file_attributes", "attributes", 1))
    with pytest.raises(UnreadableFile, match="no column file_attributes"):
        read(tree)


@pytest.mark.parametrize(("heading", "value"), [("Delta X", 0.1), ("Physical Delta X", "nan")])
def test_damaged_workbooks(tree: Path, heading: str, value: object) -> None:
    (path,) = tree.glob(f"*/{BOOK}")
    workbook(path, ["Filename", heading, "Physical Delta Y"], ["100_IM-0246-0030", value, 0.1])
    with pytest.raises(RawDataError, match="Physical Delta X"):
        read(tree)


def test_a_stray_capsule_is_left_out_by_a_fix(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    for fixes in (False, True):
        found = build(registry.recipe("kidneyus"), tree, home, partial=True, fixes=fixes).dataset
        assert found["counts"]["dropped"] == int(fixes)
