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
    with pytest.raises(UnreadableFile, match=r"t\.csv in .* has no row with ID 'c'"):
        rows["c"]


def test_a_row_is_found_in_any_case(tmp_path):
    rows = tree(tmp_path, "ID,N\nImg_1.PNG,1\nb,2\n").index("t.csv", "ID")
    assert rows["IMG_1.png"]["N"] == "1"
    assert "img_1.PNG" in rows
    assert "img_2.png" not in rows


def test_equal_rows_are_one(tmp_path):
    assert tree(tmp_path, "ID,N\na,1\na,1\n").index("t.csv", "ID")["a"]["N"] == "1"


@pytest.mark.parametrize("cells", ["b", "b,2", "b,2,3,4"])
def test_a_row_of_too_few_or_too_many_cells_is_an_error_where_it_is_read(tmp_path, cells):
    raw = tree(tmp_path, f"ID,N,M\na,1,x\n{cells}\nc,3,z\n")
    rows = raw.index("t.csv", "id", ["N"])
    assert [rows["a"]["N"], rows["B"]["ID"], rows["c"]["N"]] == ["1", "b", "3"]
    for read in (rows["b"].optional, rows["b"].identifier, rows["b"].number):
        with pytest.raises(UnreadableFile, match=rf"line 3, has {cells.count(',') + 1} cells under 3 headings"):
            read("N")
    with pytest.raises(UnreadableFile, match="line 3, has"):
        raw.table("t.csv", ["ID"])
    with pytest.raises(UnreadableFile, match="line 3, has" if cells != "b,2,3,4" else "no row with M 'q'"):
        raw.index("t.csv", "M")["q"]


def test_empty_cells_that_a_spreadsheet_left_out_at_the_end_of_a_row(tmp_path: Path) -> None:
    """The row was refused. A column that is never empty is not among them."""
    text = "ID,N,Sex,Age\na,1,F,\nb,2,,30\nc,3,M\nd,4\ne\nf,6,,,,\n"
    raw = tree(tmp_path, text)
    rows = raw.index("t.csv", "ID", ["N"])
    assert [(rows[name]["N"], rows[name]["Sex"], rows[name]["Age"]) for name in "acdf"] == [
        ("1", "F", ""), ("3", "M", ""), ("4", "", ""), ("6", "", ""),
    ]  # fmt: skip
    with pytest.raises(UnreadableFile, match="line 6, has 1 cells under 4 headings"):
        rows["e"].number("N")
    with pytest.raises(UnreadableFile, match="line 6, has 1 cells under 4 headings"):
        raw.table("t.csv", ["ID"])
    assert len(tree(tmp_path, text.replace("\ne\n", "\n")).table("t.csv", ["ID"])) == 5
    assert tree(tmp_path, "ID,N,\na,1\n").table("t.csv", ["N"]) == [{"ID": "a", "N": "1", "": ""}]


def test_a_value_that_comes_twice_is_an_error(tmp_path):
    with pytest.raises(UnreadableFile, match="two different rows with ID 'a'"):
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
    with pytest.raises(UnreadableFile, match="is not a readable table"):
        tree(tmp_path, "ID\n" + "x" * 200_000 + "\n").table("t.csv", ["ID"])


def test_the_only_match_is_found_and_none_or_several_are_errors(tmp_path):
    raw = tree(tmp_path, "N\n")
    assert raw.one("**/t.csv") == "t.csv"
    with pytest.raises(MissingRawFile, match=r"No file in .* matches"):
        raw.one("*.txt")
    (tmp_path / "u.csv").touch()
    with pytest.raises(RawDataError, match=r"t\.csv, u\.csv"):
        RawTree(tmp_path).one("*.csv")


TABLE = "Name,Size,Note\na,0.5,x\nb,1.25,y\n"


@pytest.mark.parametrize("sep", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("head", ["", "sep={}\r\n"])
def test_a_table_that_a_spreadsheet_saved_again(tmp_path: Path, sep: str, encoding: str, head: str) -> None:
    text = TABLE.upper() if sep == ";" else TABLE
    text = text.replace(",", sep) if sep == "," else text.replace(",", sep).replace(".", ",")
    (tmp_path / "t.csv").write_bytes((head.format(sep) + text.replace("\n", "\r\n")).encode(encoding))
    rows = RawTree(tmp_path).index("t.csv", "Name", ("Size",))
    assert [row.number("Size") for row in rows.values()] == [0.5, 1.25]


def test_names_that_were_saved_as_numbers_are_found(tmp_path: Path) -> None:
    rows = tree(tmp_path, "Name,Patient\n1.0,7.0\n02.0,a.0\n10.5,1.0.0\nx,8\n").index("t.csv", "Name", ["Patient"])
    assert [(name, row.identifier("Patient")) for name, row in rows.items()] == [
        ("1", "7"), ("02", "a.0"), ("10.5", "1.0.0"), ("x", "8"),
    ]  # fmt: skip
    assert rows["1"] == rows["1.0"]
    assert "1.0" in rows
    assert "2" not in rows
    with pytest.raises(UnreadableFile, match=r"two different rows with Name '1'"):
        tree(tmp_path, "Name,Patient\n1.0,7\n1,8\n").index("t.csv", "Name")


def test_a_comma_is_no_point_where_it_separates_cells(tmp_path: Path) -> None:
    (row,) = tree(tmp_path, 'Name,Size\na,"1,234"\n').table("t.csv", ["Size"])
    with pytest.raises(UnreadableFile, match="Size is '1,234', not a number"):
        row.number("Size")


def test_a_table_of_other_columns_names_its_separator(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"no column Name, Size.* separated by ';' where the published"):
        tree(tmp_path, "Name;Length\na;1\n").table("t.csv", ["Name", "Size"])


def test_blank_lines_above_the_header_are_passed_over(tmp_path: Path) -> None:
    (row,) = tree(tmp_path, "\n\nName,Size\na,2\n").table("t.csv", ["Size"])
    assert (row["Size"], row.where.rpartition(", ")[2]) == ("2", "line 4")
