import itertools
import os
import socket
from pathlib import Path

import pytest

from us43d.errors import MissingRawFile, RawDataError, UnreadableFile
from us43d.rawtree import RawTree


def plant(root: Path, *keys: str, text: str = "x") -> RawTree:
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_text(text)
    return RawTree(root)


def test_order_does_not_depend_on_the_file_system(tmp_path: Path, reversed_listing: list[Path]) -> None:
    keys = [f"b/{n}.png" for n in range(9)] + ["a.csv"]
    assert list(plant(tmp_path, *keys)) == sorted(keys)
    assert tmp_path / "b" in reversed_listing, "the tree was listed in reverse"


def test_glob_stays_in_its_folder_and_ignores_case(tmp_path: Path) -> None:
    tree = plant(tmp_path, "images/1.JPG", "images/2.jpg", "images/deep/3.jpg", "images [1].jpg", "other/1.jpg")
    assert tree.glob("images/*.jpg") == ["images/1.jpg", "images/2.jpg"]
    assert tree.glob("images/**/*.jpg") == ["images/1.jpg", "images/2.jpg", "images/deep/3.jpg"]
    assert tree.glob("**/[0-1].jpg") == ["images/1.jpg", "other/1.jpg"]
    assert next(iter(tree)) == "images [1].jpg"
    assert "images/1.JPG" in list(tree)


def test_a_key_has_the_case_of_the_pattern_and_finds_the_file_in_any(tmp_path: Path) -> None:
    tree = plant(tmp_path, "Images/Case 1.PNG", "Images/Case 1_MASK.Png", "IMAGES.b/x.TIFF")
    assert tree.glob("images/*.png") == ["images/Case 1.png", "images/Case 1_MASK.png"]
    assert tree.glob("images.b/*.tif*") == ["images.b/x.tiff"]
    assert tree.path("images/case 1_mask.png") == tmp_path / "Images/Case 1_MASK.Png"
    assert tree.has("IMAGES/CASE 1.png")
    assert not tree.has("images/case 2.png")
    seen = tree.at("images")
    seen.use(*(seen.path(key) for key in seen.glob("images/*.png")))
    assert tree.unread({}) == ["IMAGES.b/x.TIFF"]


def test_names_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    plant(tmp_path, "x/a.png", "x/b.png")
    with pytest.raises(RawDataError, match=r"only in upper and lower case: x/A\.PNG and x/a\.png"):
        plant(tmp_path, "x/A.PNG")
    (tmp_path / "x/A.PNG").unlink()
    with pytest.raises(RawDataError, match="only in upper and lower case"):
        plant(tmp_path, "caf\u00e9.png", "cafe\u0301.png")


def test_letters_that_are_others_in_the_other_case_stay(tmp_path: Path) -> None:
    """One of two files took the name of the other, and was lost."""
    for name in ("d\u0131s.png", "dis.png"):
        (tmp_path / name).touch()
    assert sorted(RawTree(tmp_path).spelled(("png",), "upper")) == ["DIS.png", "d\u0131s.png"]


def test_at_finds_a_folder_at_any_depth(tmp_path: Path) -> None:
    tree = plant(tmp_path, "repo-1/Data/a.png", "repo-1/notes.csv")
    seen = tree.at("missing", "data")
    assert list(seen) == ["Data/a.png", "notes.csv"]
    seen.use(seen.path("Data/a.png"))
    assert tree.unread({}) == ["repo-1/notes.csv"]
    assert tree.unread({"*/notes.csv": "prose"}) == []


def test_at_refuses_what_is_ambiguous_or_missing(tmp_path: Path) -> None:
    tree = plant(tmp_path, "a/data/1", "b/data/1", "c/d/data/1")
    with pytest.raises(RawDataError, match=r"Several folders .* called data: a/, b/"):
        tree.at("data")
    with pytest.raises(MissingRawFile, match="called x or y"):
        tree.at("x", "y")


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    with pytest.raises(MissingRawFile, match=r"d/2\.png is missing .* holds d/1\.png"):
        plant(tmp_path, "d/1.png").path("d/2.png")


def test_table(tmp_path: Path) -> None:
    tree = plant(tmp_path, "t.csv", text="\ufeffID; Name\n1; a b \n\n2;c\n")
    assert tree.table("t.csv", ["ID"], sep=";") == [{"ID": "1", "Name": "a b"}, {"ID": "2", "Name": "c"}]
    with pytest.raises(UnreadableFile, match="no column Age; it has ID, Name"):
        tree.table("t.csv", ["Age"], sep=";")


def test_a_ragged_table_names_its_line(tmp_path: Path) -> None:
    tree = plant(tmp_path, "t.csv", text="a,b\n1,2\n1,2,3\n")
    with pytest.raises(UnreadableFile, match="line 3, has 3 cells under 2 headings"):
        tree.table("t.csv", ["a"])


def test_text_tries_encodings(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("神经".encode("gbk"))
    tree = RawTree(tmp_path)
    assert tree.text("t.txt", ("utf-8", "gbk")) == "神经"
    with pytest.raises(UnreadableFile, match="not UTF-8 text"):
        tree.text("t.txt", ("utf-8",))


def test_names_and_links_that_cannot_be_used(tmp_path: Path) -> None:
    inside = tmp_path / "raw"
    inside.mkdir()
    (inside / "link").symlink_to("/etc/hostname")
    with pytest.raises(RawDataError, match="is a link out of the raw tree"):
        RawTree(inside)
    for target in ("link", "nothing"):
        (inside / "link").unlink()
        (inside / "link").symlink_to(target)
        with pytest.raises(RawDataError, match="is a broken link to"):
            RawTree(inside)
    (inside / "link").unlink()
    Path(os.fsdecode(os.fsencode(inside) + b"/bad\xff.png")).touch()
    with pytest.raises(RawDataError, match="not UTF-8"):
        RawTree(inside)
    Path(os.fsdecode(os.fsencode(inside) + b"/bad\xff.png")).rename(inside / "a\nb.png")
    with pytest.raises(RawDataError, match=r"raw/a\\nb\.png' has control characters") as caught:
        RawTree(inside)
    assert caught.value.next.startswith(f"ls -b {inside} ")
    with pytest.raises(MissingRawFile, match="is not a folder"):
        RawTree(tmp_path / "nothing")


def test_desktop_litter_is_in_no_listing_and_matches_no_pattern(tmp_path: Path) -> None:
    litter = (
        "__MACOSX/._a",
        "__MACOSX/x/1.png",
        "x/.DS_Store",
        "Thumbs.db",
        "x/._1.png",
        "x/@eaDir/1.png",
        ".git/a.png",
        "x/Icon\r",
        "x/~$table.xlsx",
        "x/.~lock.table.csv#",
        ".Trash-1000/files/1.png",
        "$RECYCLE.BIN/1.png",
        "System Volume Information/1.png",
        "lost+found/1.png",
    )
    tree = plant(tmp_path, *litter, "x/1.png")
    assert list(tree) == tree.glob("**/*.png") == tree.unread({}) == ["x/1.png"]


def test_what_is_neither_file_nor_folder_is_refused_and_not_opened(tmp_path: Path) -> None:
    plant(tmp_path, "x/1.png")
    os.mkfifo(tmp_path / "x/2.png")
    with pytest.raises(RawDataError, match=r"2\.png is neither a file nor a folder"):
        RawTree(tmp_path)
    (tmp_path / "x/2.png").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "s"))
        with pytest.raises(RawDataError, match=r"/s is neither a file nor a folder"):
            RawTree(tmp_path)
        (tmp_path / "link").symlink_to("s")
        (tmp_path / "s").rename(tmp_path / "x/s")
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("x/s")
        with pytest.raises(RawDataError, match="is neither a file nor a folder"):
            RawTree(tmp_path)


def test_a_folder_behind_a_link_is_listed(tmp_path: Path) -> None:
    tree = plant(tmp_path, "x/1.png")
    (tmp_path / "y").symlink_to("x")
    assert list(RawTree(tmp_path)) == ["x/1.png", "y"]
    assert RawTree(tmp_path).unread({}) == ["x/1.png", "y"]
    (tmp_path / "y").unlink()
    (tmp_path / "z").mkdir()
    (tmp_path / "y").symlink_to(tmp_path.parent)
    with pytest.raises(RawDataError, match=r"/y is a link out of the raw tree"):
        RawTree(tmp_path)
    assert len(tree) == 1


def test_json_and_xml_that_mislead_their_parsers(tmp_path: Path) -> None:
    plant(tmp_path, "deep.json", text="[" * 100_000 + "]" * 100_000)
    plant(tmp_path, "cut.json", text='{"a": [1, ')
    grows = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in itertools.pairwise("abcdefghij"))
    plant(tmp_path, "grows.xml", text=f'<!DOCTYPE x [<!ENTITY a "ha">{grows}]><x>&j;</x>')
    plant(tmp_path, "reads.xml", text='<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><x>&a;</x>')
    plant(tmp_path, "cut.xml", text="<x><y></x>")
    plant(tmp_path, "odd.xml", text="<?xml version='1.0' encoding='nothing'?><x/>")
    tree = plant(tmp_path, "good.xml", text="<x><y>1</y></x>")
    for key in ("deep.json", "cut.json"):
        with pytest.raises(UnreadableFile, match=f"{key} in .* is not readable JSON"):
            tree.json(key)
    for key in ("grows.xml", "reads.xml", "cut.xml", "odd.xml"):
        with pytest.raises(UnreadableFile, match=f"{key} in .* is not readable XML"):
            tree.xml(key)
    assert tree.xml("good.xml").findtext("y") == "1"


def test_texts_about_the_data_are_ignored(tmp_path: Path) -> None:
    texts = ("README.md", "x/readme.txt", "x/LICENSE", "x/Licence.pdf", "x/.gitignore", ".gitattributes")
    tree = plant(tmp_path, *texts, "readme/1.png", "x/license_masks.csv", "x/readme_1.txt")
    assert tree.unread({}) == ["readme/1.png", "x/license_masks.csv", "x/readme_1.txt"]


def test_folders_in_one_of_their_own_name_are_seen_once(tmp_path):
    """As archives unpacked each into a folder make them; a source of two folders was reduced to one of them."""
    names = ["data/A/a/1.png", "data/A/a/2.png", "data/B/B/B/3.png", "data/C/C/4.png", "data/C/5.png", "data/t.csv"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tree = RawTree(tmp_path)
    view = tree.at("A")
    assert sorted(view) == ["B/B/3.png", "C/5.png", "C/C/4.png", "a/1.png", "a/2.png", "t.csv"]
    assert sorted(tree.at("B")) == ["B/3.png", "C/5.png", "C/C/4.png", "a/1.png", "a/2.png", "t.csv"]
    assert "C/C/4.png" in tree.at("C")
    view.use(view.path("A/1.png"), view.path("B/b/3.png"))
    assert sorted(tree.unread({})) == sorted([names[1], *names[3:]])
