import io
import re
import zipfile
from pathlib import Path

import openpyxl
import pytest

from us43d.errors import UnreadableFile
from us43d.rawtree import RawTree


def workbook(path: Path, *rows: list[object]) -> RawTree:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return RawTree(path.parent)


def test_empty_cells_at_the_end_of_a_line_may_be_missing(tmp_path: Path) -> None:
    """Google's workbooks do not state their size; the reader stopped with a KeyError."""
    tree = workbook(tmp_path / "t.xlsx", ["Image", "Type"], ["a", "x"], ["b"])
    with zipfile.ZipFile(tmp_path / "t.xlsx") as book:
        members = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as book:
        for name, data in members.items():
            book.writestr(name, re.sub(rb"<dimension [^>]*>", b"", data))
    assert tree.sheet("t.xlsx", ["Type"]) == [{"Image": "a", "Type": "x"}, {"Image": "b", "Type": ""}]


def test_cells_are_text(tmp_path: Path) -> None:
    tree = workbook(tmp_path / "t.xlsx", ["Image", "Type", "mm"], [1.0, " Benign ", 0.25], [None] * 3, [2, None, 3])
    assert tree.sheet("t.xlsx", ["Image"]) == [
        {"Image": "1", "Type": "Benign", "mm": "0.25"},
        {"Image": "2", "Type": "", "mm": "3"},
    ]
    assert tree.unread({}) == []


def test_a_missing_column_and_a_broken_workbook(tmp_path: Path) -> None:
    tree = workbook(tmp_path / "t.xlsx", ["Image"], [1])
    with pytest.raises(UnreadableFile, match="no column Type; it has Image"):
        tree.sheet("t.xlsx", ["Type"])
    whole = (tmp_path / "t.xlsx").read_bytes()
    for cut in (0, 30, len(whole) // 2):
        (tmp_path / "t.xlsx").write_bytes(whole[:cut])
        with pytest.raises(UnreadableFile, match="not a readable Excel workbook"):
            tree.sheet("t.xlsx", ["Image"])


def again(whole: bytes, name: str, content: bytes) -> bytes:
    """A workbook with one of its members replaced."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, content if member == name else old.read(member))
    return made.getvalue()


SHEET = "xl/worksheets/sheet1.xml"
NAMESPACE = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'


@pytest.mark.parametrize(
    ("member", "content", "reason"),
    [
        (SHEET, b"no XML", "not a readable Excel workbook"),
        (SHEET, b"<!DOCTYPE x [<!ENTITY a 'x'>]><x>&a;</x>", "not a readable Excel workbook|no column"),
        (SHEET, b"x" * (300 << 20), "unpacks to .* more than"),
        (
            SHEET,
            NAMESPACE
            + b"<sheetData>"
            + b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (n, n) for n in range(1, 400))
            + b"</sheetData></worksheet>",
            "more than the 5,000,000 cells",
        ),
        ("xl/workbook.xml", b"<x/>", "not a readable Excel workbook"),
        ("[Content_Types].xml", b"", "not a readable Excel workbook"),
    ],
    ids=["no xml", "entity", "bomb", "cells", "workbook", "types"],
)
def test_a_hostile_workbook_is_one_error(tmp_path: Path, member: str, content: bytes, reason: str) -> None:
    workbook(tmp_path / "t.xlsx", ["Image"], [1])
    (tmp_path / "t.xlsx").write_bytes(again((tmp_path / "t.xlsx").read_bytes(), member, content))
    with pytest.raises(UnreadableFile, match=reason):
        RawTree(tmp_path).sheet("t.xlsx", ["Image"])


def test_a_flipped_bit_in_a_workbook_is_an_error_or_harmless(tmp_path: Path) -> None:
    tree = workbook(tmp_path / "t.xlsx", ["Image", "Type"], [1, "benign"], [2, "malignant"])
    right = tree.sheet("t.xlsx", ["Image"])
    whole = (tmp_path / "t.xlsx").read_bytes()
    for bit in range(0, len(whole) * 8, len(whole) * 8 // 200):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << (bit % 8)
        (tmp_path / "t.xlsx").write_bytes(spoilt)
        try:
            assert tree.sheet("t.xlsx", ["Image"]) == right, bit
        except UnreadableFile:
            continue


def test_titles_above_the_header_and_other_sheets_are_passed_over(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["Notes"], ["Image", "Reader"], [1, "A"]):
        book.active.append(row)
    book.create_sheet("empty")
    distances = book.create_sheet("distances")
    for row in (["Distances, May 2025"], [], ["Image", "mm"], [1, "0,25"], [2, 0.5]):
        distances.append(row)
    book.save(tmp_path / "t.xlsx")
    tree = RawTree(tmp_path)
    first, second = tree.sheet("t.xlsx", ["Image", "mm"])
    assert first == {"Image": "1", "mm": "0,25"}
    assert "line 4" in first.where
    assert second.number("mm") == 0.5
    assert tree.sheet("t.xlsx", ["Image", "Reader"]) == [{"Image": "1", "Reader": "A"}]
    assert [row["Notes"] for row in tree.sheet("t.xlsx", [])] == ["Image", "1"]
    with pytest.raises(UnreadableFile, match="no column side; it has Image, mm"):
        tree.sheet("t.xlsx", ["image", "mm", "side"])


def test_a_decimal_comma_in_a_workbook_is_for_the_reader_to_say(tmp_path: Path) -> None:
    (row,) = workbook(tmp_path / "t.xlsx", ["mm", "n"], ["1,234", "3,0"]).sheet("t.xlsx", ["mm"])
    with pytest.raises(UnreadableFile, match="mm is '1,234', not a number"):
        row.number("mm")
    assert row.number("mm", decimal_comma=True) == 1.234
    assert row.whole("n", decimal_comma=True) == 3
