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
        with pytest.raises(UnreadableFile, match="no readable Excel workbook"):
            tree.sheet("t.xlsx", ["Image"])
