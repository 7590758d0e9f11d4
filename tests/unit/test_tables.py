"""Tables of a raw tree: streaming, looking up, numbers."""

from pathlib import Path

import pytest

from us43d.errors import MissingRawFile, RawDataError, UnreadableFile
from us43d.rawtree import RawTree


def tree(root: Path, text: str) -> RawTree:
    (root / "t.csv").write_bytes(text.encode())
    return RawTree(root)


def test_rows_come_in_file_order_stripped_whatever_the_line_ends(tmp_path):
    raw = tree(tmp_path, "\ufeffID;N\r a ; 1 \r\rb;2\r")
    assert list(raw.rows("t.csv", ["ID"], sep=";")) == [{"ID": "a", "N": "1"}, {"ID": "b", "N": "2"}]


def test_a_row_is_found_by_a_column(tmp_path):
    raw = tree(tmp_path, "ID,N\na,1\nb,2\n")
    rows = raw.index("t.csv", "ID", ["N"])
    assert rows["b"].whole("N") == 2
    with pytest.raises(MissingRawFile, match=r"t\.csv in .* has no row with ID 'c'"):
        rows["c"]


def test_a_value_that_comes_twice_is_an_error(tmp_path):
    with pytest.raises(UnreadableFile, match="two rows with ID 'a'"):
        tree(tmp_path, "ID,N\na,1\na,2\n").index("t.csv", "ID")


@pytest.mark.parametrize("cell", ["NaN", "", "inf", "x"])
def test_a_cell_that_is_no_number_names_its_line(tmp_path, cell):
    (row,) = tree(tmp_path, f"ID,N\na,{cell}\n").table("t.csv", ["N"])
    with pytest.raises(UnreadableFile, match=r"line 2: N is .*, not a number"):
        row.number("N")


def test_a_fraction_is_no_whole_number(tmp_path):
    (row,) = tree(tmp_path, "N\n2.5\n").table("t.csv", ["N"])
    assert row.number("N") == 2.5
    with pytest.raises(UnreadableFile, match="not a whole number"):
        row.whole("N")


def test_a_table_that_is_no_table_is_an_error(tmp_path):
    with pytest.raises(UnreadableFile, match="is no readable table"):
        tree(tmp_path, "ID\n" + "x" * 200_000 + "\n").table("t.csv", ["ID"])


def test_the_only_match_is_found_and_none_or_several_are_errors(tmp_path):
    raw = tree(tmp_path, "N\n")
    assert raw.one("**/t.csv") == "t.csv"
    with pytest.raises(MissingRawFile, match=r"No file in .* matches"):
        raw.one("*.txt")
    (tmp_path / "u.csv").touch()
    with pytest.raises(RawDataError, match=r"t\.csv, u\.csv"):
        RawTree(tmp_path).one("*.csv")
