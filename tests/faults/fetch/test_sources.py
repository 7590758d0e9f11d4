"""Whole sources: ways in order, licences, files a user has, what is done by hand, and what is said of it."""

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from us43d import registry
from us43d.atomic import alone
from us43d.contract import Published, RawFile, Route
from us43d.errors import (
    ArchiveError,
    Busy,
    FetchError,
    LicenceError,
    ManualFileError,
    MissingRawFile,
    RawDataError,
    UnreadableFile,
    UsageError,
    VerifyError,
)
from us43d.fetch import clean, ledger, store
from us43d.fetch.fetch import fetch, fetch_specimen, plan
from us43d.fetch.hosts import by_hand
from us43d.fetch.verify import verify
from us43d.harmonize.build import Skip, build
from us43d.paths import Home

SIZE = 50_000


@pytest.fixture
def source(server: Any, loopback: ModuleType, sources: ModuleType, home: Home) -> Any:
    """A source of one archive, served, its licence accepted."""
    server.files["/0.zip"] = loopback.Served(sources.archive(0, SIZE))
    made = sources.recipe(server.base)
    ledger.accept(home, made)
    return made


def forget(home: Home) -> None:
    """As if the raw tree and the downloads had been lost, but not the receipts."""
    store.remove_tree(home.raw("Loopback"))
    for path in home.downloads("Loopback").glob("*.zip"):
        path.unlink()


def findings(home: Home, source: Any) -> dict[str, str]:
    return {found.path: found.state for found in verify(home, source)}


def routed(source: Any, *routes: Route, **facts: Any) -> Any:
    return source.model_copy(update={"routes": routes} | facts)


def way(server: Any, number: int, *, mirror: bool = False, **facts: Any) -> Route:
    file = RawFile(**{"name": f"{number}.zip", "url": f"{server.base}/{number}.zip"} | facts)
    return Route(kind="http", url=f"{server.base}/page{number}", files=(file,), mirror=mirror)


# ------------------------------------------------------------------------------------------------------------ the tree


def test_receipt_and_tree(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    found = fetch(source, home, sources.patient())
    assert found.state == "done"
    assert found.said == f"from http {server.base}/page, digest recorded at this first use"
    receipt = store.receipt(home, "Loopback")
    entry = receipt["files"]["0.zip"]
    assert entry["url"] == f"{server.base}/0.zip"
    assert entry["bytes"] == len(server.files["/0.zip"].data)
    assert entry["etag"] == '"one"'
    assert receipt["licence"]["licence"] == "UNSTATED"
    assert receipt["kind"] == "download"
    assert {path: state for path, state in findings(home, source).items() if state != "ok"} == {}
    for folder, _, names in os.walk(home.raw("Loopback")):
        assert not Path(folder).stat().st_mode & 0o222
        assert not any(Path(folder, name).stat().st_mode & 0o222 for name in names)


def test_listing_is_read_by_sha256sum(source: Any, sources: ModuleType, home: Home) -> None:
    import subprocess

    fetch(source, home, sources.patient())
    listing = home.downloads("Loopback") / "raw.sha256"
    done = subprocess.run(["sha256sum", "-c", listing], cwd=home.raw("Loopback"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_odd_names_in_the_listing(home: Home) -> None:
    names = ["a\nb", "c\\d", "\\e", "plain", " f", "n\\n"]
    with store.making_raw(home, "Odd") as tree:
        for name in names:
            (tree / name).write_text(name)
        store.finish_raw(home, "Odd", tree, store.Receipt(home, "Odd"))
    assert sorted(store.listing(home, "Odd")) == sorted(names)


def test_verify_finds_all(source: Any, sources: ModuleType, home: Home) -> None:
    fetch(source, home, sources.patient())
    raw = home.raw("Loopback") / "data"
    raw.chmod(0o755)
    (raw / "0_0.bin").chmod(0o644)
    (raw / "0_0.bin").write_bytes(b"other")
    (raw / "0_1.bin").unlink()
    (raw / "new.bin").write_bytes(b"")
    (raw / "nowhere.bin").symlink_to("nothing")
    (raw / ".DS_Store").write_bytes(b"litter")
    (home.downloads("Loopback") / "0.zip").unlink()
    assert findings(home, source) == {
        "downloads/Loopback/0.zip": "missing",
        "raw/Loopback/data/0_0.bin": "changed",
        "raw/Loopback/data/0_1.bin": "missing",
        "raw/Loopback/data/new.bin": "extra",
        "raw/Loopback/data/nowhere.bin": "extra",
    }
    assert "raw tree" in {taken.kind for taken in clean.look(home, source)}


def test_verify_without_receipt(source: Any, home: Home) -> None:
    with pytest.raises(MissingRawFile, match="Loopback has no receipt") as caught:
        findings(home, source)
    assert caught.value.next == "us43d fetch Loopback"
    home.downloads("Loopback").mkdir(parents=True)
    (home.downloads("Loopback") / store.RECEIPT).write_text("{")
    with pytest.raises(UnreadableFile, match="is damaged"):
        findings(home, source)


def test_force_mends(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    fetch(source, home, sources.patient())
    archive = home.downloads("Loopback") / "0.zip"
    archive.write_bytes(bytes(len(server.files["/0.zip"].data)))
    assert fetch(source, home, sources.patient()).state == "already there"
    assert fetch(source, home, sources.patient(), force=True).state == "done"
    assert set(findings(home, source).values()) == {"ok"}
    assert len(server.log) == 2


def test_raw_tree_is_made_again_from_downloads(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    fetch(source, home, sources.patient())
    store.remove_tree(home.raw("Loopback"))
    assert "already downloaded" in fetch(source, home, sources.patient()).said
    assert len(server.log) == 1


def test_files_placed_as_they_are(
    server: Any, source: Any, loopback: ModuleType, sources: ModuleType, home: Home
) -> None:
    server.files["/t.csv"] = loopback.Served(b"a,b\n1,2\n")
    table = RawFile(name="t.csv", url=f"{server.base}/t.csv", unpack=False, into="tables")
    other = RawFile(name="0.zip", url=f"{server.base}/0.zip", into="images")
    fetch(routed(source, Route(kind="http", url=None, files=(other, table))), home, sources.patient())
    raw = home.raw("Loopback")
    assert (raw / "tables" / "t.csv").read_bytes() == b"a,b\n1,2\n"
    assert (raw / "images" / "data" / "0_0.bin").is_file()


# ------------------------------------------------------------------------------------------------------- first use


def test_first_use_is_remembered(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    fetch(source, home, sources.patient())
    forget(home)
    assert fetch(source, home, sources.patient()).said.endswith("digest as at the first download")
    forget(home)
    server.files["/0.zip"].data, server.files["/0.zip"].etag = sources.archive(7, SIZE), '"new"'
    with pytest.raises(VerifyError, match="the first download's one is"):
        fetch(source, home, sources.patient())
    assert not home.raw("Loopback").exists()
    assert fetch(source, home, sources.patient(), force=True).state == "done"


def test_made_on_the_fly(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    made = routed(source, way(server, 0, generated=True))
    assert "content recorded file by file" in fetch(made, home, sources.patient()).said
    forget(home)
    buffer = io.BytesIO()  # the same members, packed another way
    with (
        zipfile.ZipFile(io.BytesIO(server.files["/0.zip"].data)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    server.files["/0.zip"].data = buffer.getvalue()
    assert "the same, file by file, as before" in fetch(made, home, sources.patient()).said
    forget(home)
    server.files["/0.zip"].data = sources.archive(7, SIZE)
    assert "CHANGED: 0 files changed, 2 missing, 2 new" in fetch(made, home, sources.patient()).said


def test_unusable_archive_is_not_kept(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    whole = bytearray(server.files["/0.zip"].data)
    whole[SIZE // 2] ^= 1
    server.files["/0.zip"].data = bytes(whole)
    with pytest.raises(ArchiveError, match=r"Loopback: .*0\.zip"):
        fetch(source, home, sources.patient())
    assert not (home.downloads("Loopback") / "0.zip").exists()
    assert not home.raw("Loopback").exists()
    assert list(home.raw("Loopback").parent.iterdir()) == []


# ------------------------------------------------------------------------------------------------------- ways, mirrors


def test_mirror_after_the_origin(
    server: Any, source: Any, loopback: ModuleType, sources: ModuleType, home: Home
) -> None:
    server.files["/1.zip"] = server.files.pop("/0.zip")
    made = routed(source, way(server, 1, mirror=True), way(server, 0))
    said = fetch(made, home, sources.patient()).said
    assert "(mirror)" in said
    assert "UNVERIFIED: not known to be what the origin has" in said
    assert [each.path for each in server.log] == ["/0.zip", "/1.zip"]


def test_mirror_that_agrees(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    data = server.files["/1.zip"] = server.files.pop("/0.zip")
    digest = hashlib.sha256(data.data).hexdigest()
    made = routed(source, way(server, 0, sha256=digest), way(server, 1, sha256=digest, mirror=True))
    assert fetch(made, home, sources.patient()).said.endswith("digest as published, the same as the origin's")


def test_all_ways_fail(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    server.files.clear()
    with pytest.raises(FetchError, match="All 2 download sources for") as caught:
        fetch(routed(source, way(server, 0), way(server, 1, mirror=True)), home, sources.patient())
    assert "answers 404" in caught.value.what
    assert f"from {server.base}/page0" in caught.value.next
    assert str(home.downloads("Loopback")) in caught.value.next


def test_html_page_says_what_to_do(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    server.files["/0.zip"].data = b"<html><title>Sign in</title></html>"
    with pytest.raises(VerifyError, match=r"Loopback: 0.zip is an HTML page") as caught:
        fetch(source, home, sources.patient())
    assert caught.value.next == (
        f"fetch it in a browser from {server.base}/page, put it into {home.downloads('Loopback')}/, "
        "then: us43d fetch Loopback"
    )


def test_one_of_several_files_fails(
    server: Any, source: Any, loopback: ModuleType, sources: ModuleType, home: Home
) -> None:
    """What the others brought stays, and is not fetched again."""
    server.files["/1.zip"] = loopback.Served(sources.archive(1, SIZE), refusals=[(404, {})])
    made = sources.recipe(server.base, [{}, {}])
    with pytest.raises(FetchError, match="answers 404"):
        fetch(made, home, sources.patient(), jobs=1)
    assert fetch(made, home, sources.patient()).state == "done"
    assert [each.path for each in server.log] == ["/0.zip", "/1.zip", "/1.zip"]


# ------------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("access", ["request", "agreement", "unavailable"])
def test_steps_by_hand(source: Any, sources: ModuleType, home: Home, access: str) -> None:
    by_hand = Route(kind="manual", url="https://example.org/form", files=(RawFile(name="0.zip"),), note="Sign it.")
    made = routed(source, by_hand, access=access)
    with pytest.raises(ManualFileError, match=r"by hand|not available") as caught:
        fetch(made, home, sources.patient())
    folder = home.downloads("Loopback")
    numbers = re.findall(r"^  (\d)\. ", caught.value.what, re.MULTILINE)
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    assert "Sign it." in caught.value.what
    assert "https://example.org/form" in caught.value.what
    assert f"Put 0.zip, packed or unpacked, into {folder}/" in caught.value.what
    assert caught.value.exit_code == 4
    assert folder.is_dir()
    (folder / "0.zip").write_bytes(b"<html><title>no</title></html>")
    with pytest.raises(VerifyError, match="HTML page") as wrong:
        fetch(made, home, sources.patient())
    assert "left as it is" in wrong.value.disk
    (folder / "0.zip").write_bytes(sources.archive(0, SIZE))
    assert fetch(made, home, sources.patient()).state == "done"
    assert set(findings(home, made).values()) == {"ok"}


@pytest.mark.parametrize("loose", [False, True])
@pytest.mark.parametrize("kind", sorted(by_hand.KINDS))
def test_unnamed_files_put_there_by_hand_are_found(
    kind: Any, source: Any, sources: ModuleType, home: Home, loose: bool
) -> None:
    """The steps end in "put the files into that folder", also where their names are not published."""
    made = routed(source, Route(kind=kind, record="x1", url="https://example.org/page"))
    with pytest.raises(ManualFileError, match="Put the files, packed or unpacked, into"):
        fetch(made, home, sources.patient())
    folder, archive = home.downloads("Loopback"), zipfile.ZipFile(io.BytesIO(sources.archive(0, SIZE)))
    if loose:  # a folder of files, and an archive in another one
        archive.extractall(folder / "database")
        (folder / "more").mkdir()
    (folder / ("more" if loose else "") / "my download.zip").write_bytes(sources.archive(0, SIZE))
    assert fetch(made, home, sources.patient()).state == "done"
    assert set(findings(home, made).values()) == {"ok"}
    tops = ("database/", "more/") if loose else ("",)
    assert set(store.listing(home, "Loopback")) == {f"{top}{name}" for top in tops for name in archive.namelist()}


# ------------------------------------------------------------------------------------------------------------ licences


def test_licence_comes_first(server: Any, loopback: ModuleType, sources: ModuleType, home: Home) -> None:
    server.files["/0.zip"] = loopback.Served(sources.archive(0, SIZE))
    made = sources.recipe(server.base)
    with pytest.raises(LicenceError, match="licence of Loopback was not accepted") as caught:
        fetch(made, home, sources.patient())
    assert caught.value.exit_code == 4
    assert "--accept-licence Loopback" in caught.value.next
    assert server.log == []
    assert not home.root.exists()


def test_ledger(sources: ModuleType, home: Home) -> None:
    made = sources.recipe("http://127.0.0.1")
    entry = ledger.accept(home, made)
    assert ledger.require(home, made) == entry
    assert entry["sha256"] == hashlib.sha256(ledger.licence_text(made).encode()).hexdigest()
    assert "No licence stated" in entry["text"]
    other = made.model_copy(update={"licence": made.licence.model_copy(update={"evidence": "Another text."})})
    with pytest.raises(LicenceError, match="not accepted"):
        ledger.require(home, other)
    ledger.accept(home, other)
    assert len(json.loads(home.licence_ledger.read_text())["Loopback"]) == 2
    home.licence_ledger.write_text("[]")
    with pytest.raises(UnreadableFile, match=r"ledger .* is damaged"):
        ledger.accepted(home, made)


# ----------------------------------------------------------------------------------------------------------- --from


def test_given_among_others(source: Any, sources: ModuleType, home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "Downloads"
    (folder / "old").mkdir(parents=True)
    (folder / "thesis.pdf").write_bytes(b"%PDF")
    (folder / "0.zip").write_bytes(b"PK\x03\x04 half of it")
    other = folder / "old" / "0 (1).zip"
    other.write_bytes(sources.archive(0, SIZE))
    with pytest.raises(RawDataError, match="are not this source's data"):  # it was taken for the name alone
        fetch(source, home, sources.patient(), from_=[folder])
    registry.specimen("stu_hospital")(tmp_path / "made", np.random.default_rng(0))
    shutil.make_archive(str(other.with_suffix("")), "zip", tmp_path / "made")
    found = fetch(source, home, sources.patient(), from_=[folder])
    assert found.said == "from 0.zip as given, digest recorded at this first use"
    assert found.receipt["kind"] == "given"
    assert set(findings(home, source).values()) == {"ok"}


@pytest.mark.parametrize("damaged", [False, True])
def test_given_beside_an_archive_that_is_of_no_use(
    source: Any, sources: ModuleType, home: Home, tmp_path: Path, damaged: bool
) -> None:
    """The tree beside it was not looked at."""
    registry.specimen("stu_hospital")(tmp_path / "made", np.random.default_rng(0))
    data = bytearray(sources.archive(0, SIZE))
    data[len(data) // 2] ^= 4 * damaged
    (tmp_path / "0.zip").write_bytes(data)
    said = fetch(source, home, sources.patient(), from_=[tmp_path]).said
    assert "of an unpacked tree as given" in said
    why = "0.zip, member .* checksum is wrong" if damaged else "the unpacked files are not this source's data"
    assert re.search(rf"; passed over: (Loopback: )?{why}", said)
    assert list(home.raw("Loopback").rglob("Test_Image_1.png"))


def test_given_by_digest(server: Any, source: Any, sources: ModuleType, home: Home, tmp_path: Path) -> None:
    data = sources.archive(0, SIZE)
    (tmp_path / "renamed").write_bytes(data)
    (tmp_path / "same size").write_bytes(bytes(len(data)))
    made = routed(source, way(server, 0, size=len(data), md5=hashlib.md5(data).hexdigest()))
    assert fetch(made, home, sources.patient(), from_=[tmp_path]).said.endswith("digest as published")


def test_given_archive_of_another_name(source: Any, sources: ModuleType, home: Home, tmp_path: Path) -> None:
    registry.specimen("stu_hospital")(tmp_path / "made", np.random.default_rng(0))
    shutil.make_archive(str(tmp_path / "mine"), "zip", tmp_path / "made")
    assert "UNVERIFIED" in fetch(source, home, sources.patient(), from_=[tmp_path / "mine.zip"]).said
    assert list(home.raw("Loopback").rglob("Test_Image_1.png"))


def test_given_but_damaged(source: Any, sources: ModuleType, home: Home, tmp_path: Path) -> None:
    (tmp_path / "0.zip").write_bytes(sources.archive(0, SIZE)[:-100])
    with pytest.raises(VerifyError, match="truncated zip"):
        fetch(source, home, sources.patient(), from_=[tmp_path])
    with pytest.raises(MissingRawFile, match="does not exist"):
        fetch(source, home, sources.patient(), from_=[tmp_path / "none"])
    (tmp_path / "0.zip").unlink()
    with pytest.raises(MissingRawFile, match=r"holds neither 0\.zip nor the unpacked tree"):
        fetch(source, home, sources.patient(), from_=[tmp_path])


def test_given_tree_with_an_unreadable_table(sources: ModuleType, home: Home, tmp_path: Path) -> None:
    recipe = registry.recipe("busbra")
    ledger.accept(home, recipe)
    registry.specimen("busbra")(tmp_path, np.random.default_rng(0))
    top = (tmp_path / "BUSBRA").rename(tmp_path / "mine")
    table = top / "bus_data.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    said = fetch(recipe, home, sources.patient(), from_=[top]).said
    assert re.search(r"1 sample cannot be read: BUSBRA/Images/bus_.*bus_data\.csv has no row with ID 'bus_", said)
    table.write_bytes(b"")
    with pytest.raises(UnreadableFile, match=r"bus_data\.csv in .* is empty"):
        fetch(recipe, home, sources.patient(), from_=[top], force=True)


def test_given_tree_without_a_volume(sources: ModuleType, home: Home, tmp_path: Path) -> None:
    recipe = registry.recipe("camus")
    ledger.accept(home, recipe)
    registry.specimen("camus")(tmp_path, np.random.default_rng(0))
    truth = next(tmp_path.rglob("*_half_sequence_gt.nii.gz"))
    truth.write_bytes(truth.read_bytes()[:60])
    fetched = fetch(recipe, home, sources.patient(), from_=[tmp_path])
    assert re.search(rf"1 sample cannot be read: .*{truth.name} is not a readable NIfTI file: ", fetched.said)
    listing = (home.downloads("CAMUS") / "raw.sha256").read_text()
    assert f"{hashlib.sha256(truth.read_bytes()).hexdigest()}  " in listing
    command = fetched.said.partition("by: ")[2].removesuffix(")")
    assert command == "us43d build CAMUS --skip-bad"
    assert build(recipe, fetched.raw, home, partial=True, skip=Skip(True)).dataset["skipped"]["samples"] == 1
    truth.unlink()
    said = fetch(recipe, home, sources.patient(), from_=[tmp_path], force=True).said
    assert re.search(rf"1 sample cannot be read: .*{truth.name} is missing\. \(skipped", said)
    truth.with_name(truth.name.replace("_gt", "")).unlink()
    fetched = fetch(recipe, home, sources.patient(), from_=[tmp_path], force=True)
    assert (fetched.receipt["kind"], "cannot be read" in fetched.said) == ("given", False)


def test_given_unpacked_tree(sources: ModuleType, home: Home, tmp_path: Path) -> None:
    made = registry.recipe("stu_hospital")
    ledger.accept(home, made)
    folder = tmp_path / "Downloads"
    folder.mkdir()
    registry.specimen("stu_hospital")(folder, np.random.default_rng(0))
    (folder / "thesis.pdf").write_bytes(b"%PDF")
    before = {path: path.stat().st_mode for path in folder.rglob("*")}
    found = fetch(made, home, sources.patient(), from_=[folder])
    assert found.receipt["kind"] == "given"
    assert "not verified against anything published" in found.said
    assert not (home.raw("STU-Hospital") / "thesis.pdf").exists()
    assert set(findings(home, made).values()) == {"ok"}
    assert {path: path.stat().st_mode for path in folder.rglob("*")} == before


# ----------------------------------------------------------------------------------------------------------- specimens


def test_specimen_then_real_then_specimen(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Any:
        (root / "drawn.bin").write_bytes(rng.bytes(10))

    first = fetch_specimen(source, make, home)
    assert store.receipt(home, "Loopback")["kind"] == "specimen"
    drawn = (first.raw / "drawn.bin").read_bytes()
    assert (fetch_specimen(source, make, home).raw / "drawn.bin").read_bytes() == drawn
    assert fetch(source, home, sources.patient()).state == "done"
    assert not (home.raw("Loopback") / "drawn.bin").exists()
    assert store.receipt(home, "Loopback")["kind"] == "download"
    with pytest.raises(UsageError, match="holds the real data"):
        fetch_specimen(source, make, home)
    fetch_specimen(source, make, home, force=True)
    assert set(findings(home, source).values()) == {"ok"}


# ------------------------------------------------------------------------------------------------------- plans, clean


def test_plan(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    assert dataclasses.asdict(plan(source, home)) == {
        "name": "Loopback",
        "way": f"http {server.base}/page",
        "files": ("0.zip",),
        "size": 560000,  # what its facts say is published, as long as no route states a size
        "least": 560000,
        "estimate": True,
        "here": False,
    }
    assert plan(routed(source, way(server, 0, size=7)), home).size == 7
    both = Route(kind="http", url="https://example.org", files=(RawFile(name="a", size=7), RawFile(name="b")))
    part = plan(routed(source, both, published=Published()), home)
    assert (part.size, part.least) == (None, 7)
    assert plan(routed(source), home).way == "no known download source"
    assert server.log == []


def test_clean(server: Any, source: Any, sources: ModuleType, home: Home) -> None:
    fetch(source, home, sources.patient())
    (home.downloads("Loopback") / "mine.pdf").write_bytes(b"%PDF")
    left = home.raw("Loopback").parent / ".Loopback.00000000-1-1-abcdef.tmp"
    left.mkdir()
    found = {taken.kind: taken for taken in clean.look(home, source)}
    assert set(found) == {"archives", "by hand", "leftovers", "raw tree"}
    clean.remove(home, [found["archives"], found["leftovers"]])
    assert not left.exists()
    assert not (home.downloads("Loopback") / "0.zip").exists()
    assert (home.downloads("Loopback") / "mine.pdf").exists()
    states = findings(home, source)
    assert states["downloads/Loopback/0.zip"] == "removed"
    assert "missing" not in states.values()
    store.remove_tree(home.raw("Loopback"))
    assert fetch(source, home, sources.patient()).said.endswith("digest as at the first download")


def test_a_raw_tree_that_was_moved_and_linked(source: Any, sources: ModuleType, home: Home, tmp_path: Path) -> None:
    """`fetch --force` and `clean --raw` ended with a traceback, and left no raw tree."""
    fetch(source, home, sources.patient())
    raw, moved = home.raw("Loopback"), tmp_path / "other disk"
    files = {path.name for path in raw.rglob("*")}
    for again in (True, False):
        raw.chmod(0o755)
        raw.rename(moved)
        moved.chmod(0o555)
        raw.symlink_to(moved)
        if again:
            assert fetch(source, home, sources.patient(), force=True).state == "done"
            assert (raw.is_symlink(), {path.name for path in raw.rglob("*")}) == (False, files)
        else:
            (item,) = (item for item in clean.look(home, source) if item.kind == "raw tree")
            clean.remove(home, [item])
            assert not raw.is_symlink()
        assert {path.name for path in moved.rglob("*")} == files
        assert moved.stat().st_mode & 0o777 == 0o555
        store.remove_tree(moved)
    assert list(raw.parent.iterdir()) == []


def test_clean_removes_nothing_of_a_source_in_use(source: Any, sources: ModuleType, home: Home) -> None:
    """The build ended with a traceback, or recorded half of the raw tree as missing."""
    fetch(source, home, sources.patient())
    home.builds("Loopback").mkdir(parents=True)
    found = list(clean.look(home, source))
    for folder in (home.downloads("Loopback"), home.builds("Loopback")):
        with alone(folder / ".lock", Busy("")), pytest.raises(Busy, match="Loopback is being fetched or built"):
            clean.remove(home, found)
        assert home.raw("Loopback").is_dir()
    clean.remove(home, found)
    assert not home.raw("Loopback").exists()
    assert not home.builds("Loopback").exists()


# ------------------------------------------------------------------------------------------------------ and also


def test_archive_that_wants_out(server: Any, source: Any, sources: ModuleType, home: Home, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("fine.txt", "fine")
        made.writestr("../../../../escaped.txt", "out")
    server.files["/0.zip"].data = buffer.getvalue()
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ArchiveError, match=r"Loopback: .*escaped\.txt"):
        fetch(source, home, sources.patient())
    assert not home.raw("Loopback").exists()
    assert {path.name for path in set(tmp_path.rglob("*")) - before} == {
        "home", "downloads", "Loopback", ".lock", store.RECEIPT, "raw",
    } - {path.name for path in before}  # fmt: skip


def test_many_small_files(server: Any, source: Any, loopback: ModuleType, sources: ModuleType, home: Home) -> None:
    """The bar only grows and ends full; the receipt knows every file."""
    from contextlib import contextmanager

    files = []
    for n in range(150):
        server.files[f"/{n}.txt"] = loopback.Served(b"%d" % n * (n + 1))
        files.append({"name": f"{n}.txt", "url": f"{server.base}/{n}.txt", "unpack": False})
    seen: list[tuple[int, int | None]] = []

    @contextmanager
    def bar(what: str, unit: str) -> Any:
        yield lambda done, total: seen.append((done, total))

    made = sources.recipe(server.base, files)
    fetch(made, home, sources.patient(), jobs=8, bars=bar)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    total = sum(len(server.files[f"/{n}.txt"].data) for n in range(150))
    assert seen[-1] == (total, total)
    assert len(store.receipt(home, "Loopback")["files"]) == 150
    assert set(findings(home, made).values()) == {"ok"}


@pytest.mark.parametrize("refusal", [NotImplementedError, PermissionError])
def test_no_lock_is_no_obstacle(
    source: Any, sources: ModuleType, home: Home, monkeypatch: pytest.MonkeyPatch, refusal: type[Exception]
) -> None:
    def refuse(self: Any, **_: Any) -> None:
        raise refusal

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert fetch(source, home, sources.patient()).state == "done"


def test_part_that_vanishes(
    server: Any, source: Any, sources: ModuleType, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from us43d.fetch import download

    kept = download._Part.digests

    def vanish(self: Any) -> dict[str, str]:
        self.path.unlink()
        return kept(self)

    monkeypatch.setattr(download._Part, "digests", vanish)
    with pytest.raises(FetchError, match=r"partial download of 0\.zip was removed"):
        fetch(source, home, sources.patient())
    assert not (home.downloads("Loopback") / "0.zip").exists()
