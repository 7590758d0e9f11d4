"""`--from` takes what people have: copies under a browser's name, top folders of any name, archives of none."""

import hashlib
import io
import os
import re
import shlex
import shutil
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawFile, RawTree, Recipe, Route
from us43d.errors import (
    ArchiveError,
    DamagedArchive,
    MissingRawFile,
    RawDataError,
    UnreadableFile,
    Us43dError,
    VerifyError,
)
from us43d.fetch import given, ledger
from us43d.fetch.fetch import Fetched, fetch
from us43d.fetch.verify import verify
from us43d.harmonize.build import Skip, build
from us43d.paths import Home

TOP = "Dataset_BUSI_with_GT"


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                made.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
    return buffer.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An unpacked BUSI, with its own top folder."""
    registry.specimen("busi")(tmp_path / "made", np.random.default_rng(0))
    return tmp_path / "made"


def taken(home: Home, sources: ModuleType, *paths: Path, recipe: Recipe | None = None) -> Fetched:
    """Fetched from there, and built: the images are all there under their keys."""
    recipe = recipe or registry.recipe("busi")
    ledger.accept(home, recipe)
    found = fetch(recipe, home, sources.patient(), from_=paths)
    built = build(recipe, home.raw(recipe.name), home, partial=True, fixes=False)
    assert built.dataset["counts"]["images"] > 5
    assert built.dataset["counts"]["annotations"] > 0
    return found


def taken_by_name(home: Home, sources: ModuleType, *paths: Path) -> Fetched:
    """Fetched from there, not built."""
    recipe = registry.recipe("busi")
    ledger.accept(home, recipe)
    return fetch(recipe, home, sources.patient(), from_=paths)


def busi(*files: RawFile, **facts: Any) -> Recipe:
    recipe = registry.recipe("busi")
    route = Route(kind="http", url="https://h.example/", files=files)
    return Recipe(**({name: getattr(recipe, name) for name in Recipe.model_fields} | {"routes": (route,)} | facts))


@pytest.mark.parametrize("part", [1, 2, 3])
def test_the_other_parts_of_an_archive_lie_beside_the_one_that_is_named(
    home: Home, sources: ModuleType, tree: Path, tmp_path: Path, part: int
) -> None:
    """It was called truncated, and the next step was to remove it."""
    data = zipped(tree)
    third = len(data) // 3 + 1
    (tmp_path / "there").mkdir()
    for number in range(3):
        place = tmp_path / "there" / f"archive.zip.{number + 1:03}"
        place.write_bytes(data[number * third : (number + 1) * third])
    (tmp_path / "there" / "archive.pdf").write_text("beside")
    named = tmp_path / "there" / f"archive.zip.{part:03}"
    taken(home, sources, named)
    (tmp_path / "there" / f"archive.zip.{2 if part == 1 else 1:03}").unlink()
    with pytest.raises(ArchiveError, match=r"part \d of archive.zip is missing; 2 others are here") as caught:
        taken_by_name(Home(tmp_path / "second"), sources, named)
    assert "or --from with a good copy" in caught.value.next


@pytest.mark.parametrize(
    "shape",
    [
        "itself", "its top folder", "its top folder under another name", "parent of that", "deep", "beside others",
        "twice", "upper case",
    ],
)  # fmt: skip
def test_an_unpacked_tree_in_any_place(home: Home, sources: ModuleType, tree: Path, tmp_path: Path, shape: str) -> None:
    whole = sum(1 for path in tree.rglob("*") if path.is_file())
    place = tmp_path / "mine"
    if shape == "itself":
        shutil.move(tree, place)
    elif shape == "its top folder":
        place = tree / TOP
    elif shape == "its top folder under another name":
        shutil.move(tree / TOP, place)
    elif shape in ("parent of that", "beside others"):
        shutil.move(tree / TOP, place / "busi data")
    elif shape == "deep":
        shutil.move(tree / TOP, place / "a" / "b" / "c")
    elif shape == "twice":
        shutil.copytree(tree / TOP, place / "copy" / TOP)
        shutil.copytree(tree / TOP, place / "old" / TOP)
    else:
        shutil.move(tree / TOP, place / TOP.upper())
    if shape == "beside others":
        (place / "thesis").mkdir()
        (place / "thesis" / "figure.png").write_bytes(b"no picture of ours")
        (place / ".DS_Store").write_bytes(b"x")
        (place / "busi data" / "._benign (1).png").write_bytes(b"x")
    found = taken(home, sources, place)
    assert "as given" in found.said
    assert sum(1 for path in home.raw("BUSI").rglob("*") if path.is_file()) == whole
    assert (home.raw("BUSI") / (TOP.upper() if shape == "upper case" else TOP)).is_dir()


@pytest.mark.parametrize("top", ["", "datasets"])
def test_a_tree_beside_another_source_with_a_readme(
    home: Home, sources: ModuleType, tree: Path, tmp_path: Path, top: str
) -> None:
    whole = sum(1 for path in tree.rglob("*") if path.is_file())
    place = tmp_path / "data" / top
    registry.specimen("busbra")(place / "other", np.random.default_rng(0))
    (place / "other" / "README.md").write_text("about another source")
    shutil.move(tree / TOP, place / "busi" / TOP)
    taken(home, sources, tmp_path / "data")
    assert sum(1 for path in home.raw("BUSI").rglob("*") if path.is_file()) == whole


def test_a_table_beside_a_renamed_folder_is_taken_along(home: Home, sources: ModuleType, tmp_path: Path) -> None:
    recipe = registry.recipe("breast_lesions_usg")
    folder = tmp_path / "made"
    registry.specimen("breast_lesions_usg")(folder, np.random.default_rng(0))
    before = [sample.tags for sample in recipe.read(RawTree(folder))]
    (folder / "BrEaST-Lesions_USG-images_and_masks").rename(folder / "mine")
    (folder / "thesis.pdf").write_bytes(b"%PDF")
    ledger.accept(home, recipe)
    raw = fetch(recipe, home, sources.patient(), from_=[folder]).raw
    assert [sample.tags for sample in recipe.read(RawTree(raw))] == before
    assert not (raw / "thesis.pdf").exists()


@pytest.mark.parametrize("form", ["folder in itself", "archive in a folder", "archive and table", "both in a folder"])
def test_a_table_beside_the_images_is_taken_along(home: Home, sources: ModuleType, tmp_path: Path, form: str) -> None:
    """The table was silently left behind, or unpacked as an archive."""
    recipe = registry.recipe("breast_lesions_usg")
    folder = tmp_path / "made"
    registry.specimen("breast_lesions_usg")(folder, np.random.default_rng(0))
    before = [(sample.key, sample.tags) for sample in recipe.read(RawTree(folder))]
    images, table = folder / "BrEaST-Lesions_USG-images_and_masks", next(folder.glob("*.xlsx"))
    shutil.move(images, folder / f"images/{images.name}/{images.name}")
    given_paths = [folder]
    if form != "folder in itself":
        (folder / "images.zip").write_bytes(zipped(folder) if form.startswith("both") else zipped(folder / "images"))
        shutil.rmtree(folder / "images")
        given_paths = [folder / "images.zip", table] if form == "archive and table" else [folder]
    ledger.accept(home, recipe)
    raw = fetch(recipe, home, sources.patient(), from_=given_paths).raw
    assert [(sample.key, sample.tags) for sample in recipe.read(RawTree(raw))] == before
    build(recipe, raw, home, partial=True)


@pytest.mark.parametrize("slug", ["us105", "echocp", "hc18", "stmus_nda", "fallmud"])
@pytest.mark.parametrize("form", ["folders as archives", "without the top folder"])
def test_what_a_source_has_in_several_pieces(
    home: Home, sources: ModuleType, tmp_path: Path, slug: str, form: str
) -> None:
    """Refused, without its table, or without its official split, which the names of other files tell."""
    recipe, folder = registry.recipe(slug), tmp_path / "made"
    folder.mkdir()
    registry.specimen(slug)(folder, np.random.default_rng(0))
    shutil.rmtree(folder / "__MACOSX", ignore_errors=True)
    if slug == "fallmud":  # two centres, of which either would do for the reader
        shutil.copytree(folder / "FALLMUD", folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "FALLMUD")
    facts = ("key", "group", "split", "tags", "remarks")
    before = [[getattr(sample, fact) for fact in facts] for sample in recipe.read(RawTree(folder))]
    for piece in sorted(path for path in folder.iterdir() if path.is_dir()):
        if form == "folders as archives":
            shutil.move(piece, folder / "in" / piece.name)
            (folder / f"my {piece.name}.zip").write_bytes(zipped(folder / "in"))
            shutil.rmtree(folder / "in")
        elif slug not in ("us105", "fallmud"):
            shutil.copytree(piece, folder, dirs_exist_ok=True)
            shutil.rmtree(piece)
    ledger.accept(home, recipe)
    raw = fetch(recipe, home, sources.patient(), from_=[folder]).raw
    assert [[getattr(sample, fact) for fact in facts] for sample in recipe.read(RawTree(raw))] == before
    build(recipe, raw, home, partial=True)


@pytest.mark.parametrize(
    ("slug", "table", "folder"),
    [
        ("breast_lesions_usg", "*.xlsx", "BrEaST-Lesions_USG-images_and_masks"),  # beside a folder of another name
        ("ddti", "*/category.csv", ""),
        ("tn3k", "*/label4*.csv", ""),
        ("camus", "*/subgroup_*.txt", ""),  # beside the folder of the images
    ],
)
def test_a_damaged_table_that_is_optional_is_taken_along_and_named(
    home: Home, sources: ModuleType, tmp_path: Path, slug: str, table: str, folder: str
) -> None:
    """The tree was refused, though it builds without the table."""
    recipe, made = registry.recipe(slug), tmp_path / "made"
    made.mkdir()
    registry.specimen(slug)(made, np.random.default_rng(0))
    if folder:
        (made / folder).rename(made / "mine")
    for path in (tables := list(made.rglob(table))):
        path.write_bytes(b"")
    ledger.accept(home, recipe)
    fetched = fetch(recipe, home, sources.patient(), from_=[made])
    assert len(list(fetched.raw.rglob(table))) == len(tables)
    (command,) = re.findall(r"built without .*? by: (.*?)\)", fetched.said)
    patterns = shlex.split(command.replace("--ignore ", ""))[3:]
    assert len(patterns) == len(tables)
    with pytest.raises(RawDataError) as caught:
        build(recipe, fetched.raw, home, partial=True)
    assert all(pattern in caught.value.next for pattern in patterns)
    build(recipe, fetched.raw, home, partial=True, skip=Skip(ignore=tuple(patterns)))


def test_a_damaged_file_does_not_reduce_a_tree_to_a_part_of_it(home: Home, sources: ModuleType, tmp_path: Path) -> None:
    """The folder of one patient was taken for all of the source."""
    recipe = registry.recipe("ted")
    registry.specimen("ted")(tmp_path, np.random.default_rng(0))
    files = len(list(tmp_path.rglob("*.*")))
    min(tmp_path.rglob("*.cfg")).write_bytes(b"")
    ledger.accept(home, recipe)
    fetched = fetch(recipe, home, sources.patient(), from_=[tmp_path])
    assert re.search(r"1 sample cannot be read: patient.*\.cfg is empty", fetched.said)
    assert len(list(fetched.raw.rglob("*.*"))) == files


def test_of_two_copies_the_fuller_one_is_taken(home: Home, sources: ModuleType, tmp_path: Path) -> None:
    recipe = registry.recipe("busi_whu")  # read at any depth
    for copy in ("a", "b"):
        registry.specimen("busi_whu")(tmp_path / f"made/{copy}", np.random.default_rng(0))
    whole = len(list(recipe.read(RawTree(tmp_path / "made/b"))))
    next((tmp_path / "made/a").rglob("test/img/**/*.bmp")).unlink()
    ledger.accept(home, recipe)
    raw = fetch(recipe, home, sources.patient(), from_=[tmp_path / "made"]).raw
    assert len(list(recipe.read(RawTree(raw)))) == whole


def test_a_damaged_file_of_a_tree_is_named_and_is_no_bug(home: Home, sources: ModuleType, tmp_path: Path) -> None:
    recipe = registry.recipe("aul")  # whose reader trips over the names in a folder below the top
    registry.specimen("aul")(tmp_path / "made", np.random.default_rng(0))
    outline = next((tmp_path / "made").rglob("liver/*.json"))
    outline.write_text("[[1, 2], [")
    ledger.accept(home, recipe)
    said = fetch(recipe, home, sources.patient(), from_=[tmp_path / "made"]).said
    assert re.search(rf"1 sample cannot be read: .*liver/{outline.name} is not readable JSON", said)


def test_an_archive_beside_a_tree_that_lacks_files_comes_first(
    home: Home, sources: ModuleType, tree: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "dl"
    shutil.copytree(tree, folder / "unpacked")
    sorted((folder / "unpacked" / TOP / "benign").glob("*_mask.png"))[0].unlink()
    assert "of an unpacked tree as given" in taken_by_name(home, sources, folder).said  # nothing better is there
    (folder / "archive.zip").write_bytes(zipped(tree))
    assert taken(home, sources, folder).said.startswith("from archive.zip as given")
    (folder / "archive.zip").write_bytes(zipped(tree)[:-2000] + b"PK")
    assert "of an unpacked tree as given" in taken_by_name(home, sources, folder).said


def test_links_in_a_folder_of_the_user(home: Home, sources: ModuleType, tree: Path, tmp_path: Path) -> None:
    """A link to a file becomes the file, one to a folder beside it is ignored, one out of it refused."""
    image = next(path for path in sorted((tree / TOP / "benign").iterdir()) if "_mask" not in path.name)
    (tree / TOP / "store").mkdir()
    image.rename(tree / TOP / "store" / "x.dat")
    image.symlink_to(tree / TOP / "store" / "x.dat")
    assert taken_by_name(home, sources, tree).state == "done"
    (made,) = home.raw("BUSI").rglob(image.name)
    assert made.is_file()
    assert not made.is_symlink()
    place = tmp_path / "linked"
    place.mkdir()
    (place / TOP).symlink_to(tree / TOP)
    with pytest.raises(MissingRawFile, match="is a link out of the raw tree") as caught:
        taken(home, sources, place)
    assert caught.value.next.startswith(f"cp -rL {place} COPY ")
    (place / TOP).unlink()
    shutil.move(tree / TOP, place / TOP)
    image = place / image.relative_to(tree)
    (place / TOP / "store" / "x.dat").replace(image)
    (place / "again").symlink_to(place / TOP)
    assert taken_by_name(home, sources, place).state == "done"
    assert not (home.raw("BUSI") / "again").exists()


def test_what_cannot_be_used_matters_in_the_folder_of_the_source_alone(
    home: Home, sources: ModuleType, tree: Path
) -> None:
    """A link out of ~/Downloads, such as that of a virtual environment, had every tree in it refused."""
    cases = {
        "link out of the raw tree": ["python"],
        "has control characters": ["a\nb.txt"],
        "is not UTF-8": [os.fsdecode(b"caf\xe9.txt")],
        "only in upper and lower case": ["Notes.txt", "notes.txt"],
    }

    def plant(folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        if name == "python":
            (folder / name).symlink_to("/usr/bin/python3")
        else:
            (folder / name).write_text("x")

    for names in cases.values():
        for name in names:
            plant(tree / "venv", name)
    assert taken(home, sources, tree).state == "done"
    assert not (home.raw("BUSI") / "venv").exists()
    for why, names in cases.items():
        for name in names:
            plant(tree / TOP, name)
        with pytest.raises(UnreadableFile, match=f"^BUSI: .*{why}"):
            taken(home, sources, tree)
        for name in names:
            (tree / TOP / name).unlink()


def test_a_link_to_a_folder_beside_the_tree_is_refused(home: Home, sources: ModuleType, tree: Path) -> None:
    """Its files were silently missing."""
    (tree / TOP / "benign").rename(tree / "moved")
    (tree / TOP / "benign").symlink_to("../moved")
    with pytest.raises(UnreadableFile, match=r"benign is a link to the folder .*, whose files would be") as caught:
        taken(home, sources, tree)
    assert caught.value.next.startswith(f"cp -rL {tree} COPY ")


def test_a_file_without_permission_is_named_where_the_user_has_it(
    home: Home, sources: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = next((tree / TOP / "benign").glob("*_mask.png"))
    monkeypatch.setattr("us43d.fetch.fetch.os.access", lambda path, mode: Path(path) != secret)
    with pytest.raises(RawDataError) as caught:
        taken(home, sources, tree)
    assert caught.value.what == f"{secret} cannot be read: permission is denied."
    assert caught.value.next == f"ls -l '{secret}'"


def test_a_folder_that_does_not_exist_leads_to_the_nearest_that_does(tmp_path: Path) -> None:
    with pytest.raises(MissingRawFile) as caught:
        given.look(registry.recipe("busi"), [tmp_path / "a" / "b"])
    assert caught.value.next == f"ls {tmp_path}"


def test_a_workbook_is_not_offered_as_an_archive(tree: Path) -> None:
    for mask in (tree / TOP).rglob("*_mask.png"):
        mask.unlink()
    with zipfile.ZipFile(tree / "table.xlsx", "w") as made:
        made.writestr("[Content_Types].xml", "<x/>")
    with pytest.raises(MissingRawFile) as caught:
        given.look(registry.recipe("busi"), [tree])
    assert "Archives there" not in caught.value.what
    assert caught.value.next.startswith("us43d info BUSI")


def test_an_archive_of_the_user_that_is_refused_leads_to_unpacking_it(
    home: Home, sources: ModuleType, tree: Path, tmp_path: Path
) -> None:
    (archive := tmp_path / "mine.zip").write_bytes(zipped(tree))
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr(f"{TOP}/benign/BENIGN (1).png", b"another")
    with pytest.raises(ArchiveError, match="only in upper and lower case") as caught:
        taken(home, sources, archive)
    assert caught.value.next == "us43d fetch BUSI --from FOLDER   (after unpacking it with another program)"


def test_zips_of_one_folder_each_are_proposed_together(
    home: Home, sources: ModuleType, tree: Path, tmp_path: Path
) -> None:
    """The first was proposed alone, and a third of the source fetched."""
    (folder := tmp_path / "given").mkdir()
    with zipfile.ZipFile(folder / "another.zip", "w") as other:
        other.writestr("scan/a.dcm", "")
    for name in ("benign", "malignant", "normal"):
        shutil.make_archive(str(folder / name), "zip", tree / TOP, name)
    with pytest.raises(MissingRawFile) as caught:
        given.look(registry.recipe("busi"), [folder])
    named = [folder / f"{name}.zip" for name in ("benign", "malignant", "normal")]
    assert caught.value.next == "us43d fetch BUSI " + " ".join(f"--from {path}" for path in named)
    whole = sum(1 for path in tree.rglob("*") if path.is_file())
    assert taken_by_name(home, sources, *named).state == "done"
    assert sum(1 for path in home.raw("BUSI").rglob("*") if path.is_file()) == whole


def test_an_archive_of_the_user_that_is_truncated(home: Home, sources: ModuleType, tree: Path, tmp_path: Path) -> None:
    """The next step was to remove it, which is not a command."""
    archive = Path(shutil.make_archive(str(tmp_path / "mine"), "tar", tree))
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DamagedArchive, match=r"^BUSI: mine\.tar.* truncated") as caught:
        taken(home, sources, archive)
    assert caught.value.next == "us43d fetch BUSI   (or --from with a good copy)"
    assert archive.exists()


@pytest.mark.parametrize("kind", ["tar", "gztar", "bztar", "xztar"])
def test_a_tar_in_a_folder_is_offered(home: Home, sources: ModuleType, tree: Path, tmp_path: Path, kind: str) -> None:
    """A tar without compression, and one of bzip2, was not seen."""
    (tmp_path / "given").mkdir()
    archive = shutil.make_archive(str(tmp_path / "given" / "busi"), kind, tree)
    with pytest.raises(MissingRawFile) as caught:
        given.look(registry.recipe("busi"), [tmp_path / "given"])
    assert caught.value.next == f"us43d fetch BUSI --from {archive}"
    assert taken(home, sources, Path(archive)).state == "done"


def test_a_tree_that_lacks_a_file_is_taken_and_another_is_not(
    home: Home, sources: ModuleType, tree: Path, tmp_path: Path
) -> None:
    sorted((tree / TOP / "benign").glob("*_mask.png"))[0].unlink()
    recipe = registry.recipe("busi")
    ledger.accept(home, recipe)
    assert fetch(recipe, home, sources.patient(), from_=[tree]).state == "done"
    for mask in (tree / TOP).rglob("*_mask.png"):
        mask.unlink()
    with pytest.raises(MissingRawFile, match="lack a file"):
        fetch(recipe, home, sources.patient(), from_=[tree])


@pytest.mark.parametrize(
    "name",
    ["Dataset_BUSI.zip", "Dataset_BUSI (1).zip", "Dataset_BUSI(2).zip", "Dataset_BUSI 2.zip", "Dataset_BUSI-1.zip",
     "Dataset_BUSI - Copy.zip", "Dataset_BUSI - Copy (2).zip", "Dataset_BUSI copy.zip", "DATASET_BUSI.ZIP",
     "Dataset_BUSI.zip.1"],
)  # fmt: skip
def test_an_archive_under_the_name_a_browser_gave_it(
    home: Home, sources: ModuleType, tree: Path, tmp_path: Path, name: str
) -> None:
    data = zipped(tree)
    folder = tmp_path / "Downloads"
    folder.mkdir()
    (folder / name).write_bytes(data)
    recipe = busi(RawFile(name="Dataset_BUSI.zip", sha256=hashlib.sha256(data).hexdigest()))
    assert taken(home, sources, folder, recipe=recipe).said.endswith("digest as published")


def test_a_branch_stands_for_the_commit(home: Home, sources: ModuleType, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "BUSI-master.zip").write_bytes(zipped(tree))
    recipe = busi(RawFile(name=f"BUSI-{'0' * 40}.zip", generated=True))
    taken(home, sources, tmp_path / "BUSI-master.zip", recipe=recipe)


def test_a_numbered_part_is_not_taken_for_another(tmp_path: Path, tree: Path) -> None:
    folder = tmp_path / "dl"
    folder.mkdir()
    (folder / "Test-2.zip").write_bytes(zipped(tree))
    recipe = busi(RawFile(name="Test-1.zip"), RawFile(name="Test-2.zip"))
    with pytest.raises(MissingRawFile, match=r"Test-1\.zip, Test-2\.zip"):
        given.look(recipe.model_copy(update={"slug": "none"}), [folder])


def test_another_digest_is_unverified_and_said(home: Home, sources: ModuleType, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "Dataset_BUSI.zip").write_bytes(zipped(tree))
    for wanted in (RawFile(name="Dataset_BUSI.zip", sha256="0" * 64), RawFile(name="Dataset_BUSI.zip", size=7)):
        found = taken(home, sources, tmp_path / "Dataset_BUSI.zip", recipe=busi(wanted))
        assert "UNVERIFIED: Dataset_BUSI.zip has " in found.said
    (tmp_path / "Dataset_BUSI.zip").write_bytes(sources.archive(0, 1000))
    before = sorted(path.name for path in home.raw("BUSI").rglob("*"))
    with pytest.raises(RawDataError, match="the unpacked files are not this source's data"):
        taken(home, sources, tmp_path / "Dataset_BUSI.zip", recipe=busi(wanted))
    assert sorted(path.name for path in home.raw("BUSI").rglob("*")) == before


def test_an_archive_of_no_name_is_found_by_what_it_holds(
    home: Home, sources: ModuleType, tree: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "dl"
    folder.mkdir()
    (tree / TOP).rename(tree / "renamed by Kaggle")
    (folder / "archive.zip").write_bytes(zipped(tree))
    (folder / "other.zip").write_bytes(sources.archive(0, 1000))
    (folder / "cut.zip").write_bytes(zipped(tree)[:-50])
    (folder / "notes.txt").write_text("x")
    found = taken(home, sources, folder)
    assert found.said.startswith("from archive.zip as given, UNVERIFIED")
    assert (home.raw("BUSI") / TOP / "benign").is_dir()
    (folder / "archive.zip").unlink()
    with pytest.raises(MissingRawFile, match=r"to take one of them, name it") as caught:
        given.look(registry.recipe("busi"), [folder])
    assert caught.value.next.startswith(f"us43d fetch BUSI --from {folder}/")


def test_a_pipe_is_refused_by_name_and_not_opened(home: Home, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Dataset_BUSI.zip")
    for path in (tmp_path, tmp_path / "Dataset_BUSI.zip"):
        with pytest.raises(RawDataError, match=r"Dataset_BUSI\.zip is neither a file nor a folder"):
            given.look(registry.recipe("busi"), [path])


def test_verify_after_an_attempt_without_a_file(home: Home, sources: ModuleType, tmp_path: Path) -> None:
    """The receipt has the accepted licence alone; "ok" would say that the source is there."""
    recipe = registry.recipe("busi")
    ledger.accept(home, recipe)
    with zipfile.ZipFile(tmp_path / "Dataset_BUSI.zip", "w") as made:
        made.writestr("../a.png", b"x")
    with pytest.raises(Us43dError, match="leads out of the folder"):
        fetch(recipe, home, sources.patient(), from_=[tmp_path / "Dataset_BUSI.zip"])
    with pytest.raises(MissingRawFile, match="BUSI has no file yet") as caught:
        list(verify(home, recipe))
    assert caught.value.next == "us43d fetch BUSI"


def test_files_of_a_tree_are_compared_with_published_digests(home: Home, sources: ModuleType, tree: Path) -> None:
    image = next(path for path in sorted((tree / TOP / "benign").iterdir()) if "_mask" not in path.name)
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    for wanted, said in ((digest, "1 of them with digests as published"), ("0" * 64, "UNVERIFIED: 1 file has")):
        file = RawFile(name=image.name, into=f"{TOP}/benign", unpack=False, sha256=wanted)
        assert said in taken(home, sources, tree, recipe=busi(file, RawFile(name="more.zip"))).said


def test_a_damaged_archive_is_named(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "Dataset_BUSI (1).zip").write_bytes(zipped(tree)[:-100])
    with pytest.raises(VerifyError, match="truncated zip"):
        given.look(registry.recipe("busi"), [tmp_path / "Dataset_BUSI (1).zip"])


def test_an_archive_in_an_archive_is_named(home: Home, sources: ModuleType, tree: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.writestr("mine/inner.zip", zipped(tree))
    ledger.accept(home, registry.recipe("busi"))
    with pytest.raises(RawDataError, match=r"It holds archives: mine/inner\.zip\.") as caught:
        fetch(registry.recipe("busi"), home, sources.patient(), from_=[tmp_path / "outer.zip"])
    assert caught.value.next.startswith("us43d fetch BUSI --from FOLDER ")
    with zipfile.ZipFile(tmp_path / "outer.zip") as outer:
        outer.extractall(tmp_path / "by hand")
    assert fetch(registry.recipe("busi"), home, sources.patient(), from_=[tmp_path / "by hand"]).state == "done"
