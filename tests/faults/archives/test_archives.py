"""Unpacking good archives of every kind, hostile ones, and each of them cut at every kilobyte."""

import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from us43d.errors import ArchiveError
from us43d.fetch import foreign
from us43d.fetch.unpack import Limits, unpack

from . import hostile

#: Small ones, so that a bomb of three megabytes is one.
LIMITS = Limits(ratio=100, free=1 << 20, members=300)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder `into` to unpack to, beside one of archives and a file that links may want."""
    (tmp_path / "into").mkdir()
    (tmp_path / "archives").mkdir()
    (tmp_path / "secret.txt").write_bytes(hostile.SECRET)
    return tmp_path


def contents(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes | str]:
    """Every file and link below a folder."""
    found: dict[str, bytes | str] = {}
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in but]
        for name in [*folders, *names]:
            path = Path(top, name)
            if path.is_symlink():
                found[path.relative_to(folder).as_posix()] = f"link to {path.readlink()}"
            elif path.is_file():
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def outside(place: Path) -> dict[str, object]:
    return dict(contents(place, but=("into", "archives")))


def stays_inside(place: Path) -> bool:
    into = (place / "into").resolve()
    return all(path.resolve().is_relative_to(into) for path in into.rglob("*"))


@pytest.mark.parametrize("kind", hostile.GOOD)
def test_good(kind: str, place: Path) -> None:
    files = hostile.GOOD[kind](place / "archives")
    moved: list[tuple[int, int]] = []
    random.Random(1).shuffle(files)
    unpack(files, place / "into", progress=lambda done, total: moved.append((done, total)))
    assert contents(place / "into") == hostile.TRUTH
    assert moved == sorted(moved)
    assert moved[-1][1] == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("key", hostile.HOSTILE, ids=" ".join)
def test_hostile(key: tuple[str, str], place: Path) -> None:
    build, reason = hostile.HOSTILE[key]
    files = build(place / "archives")
    before = outside(place)
    with pytest.raises(ArchiveError, match=reason) as error:
        unpack(files, place / "into", limits=LIMITS, nested=("*.zip",))
    assert any(file.name in error.value.what or "in.zip" in error.value.what for file in files)
    assert "Nothing was put under its final name." in str(error.value)
    assert outside(place) == before
    assert stays_inside(place)
    assert sorted(path.name for path in place.iterdir()) == ["archives", "into", "secret.txt"]


@pytest.mark.parametrize("kind", hostile.GOOD)
def test_cut_at_every_kilobyte(kind: str, place: Path) -> None:
    files = hostile.GOOD[kind](place / "archives")
    whole = files[-1].read_bytes()
    cuts = [*range(0, len(whole), 1024 if len(files) == 1 else 256), len(whole) - 1]
    refused = 0
    for cut in cuts:
        files[-1].write_bytes(whole[:cut])
        into = place / "into" / str(cut)
        into.mkdir()
        try:
            unpack(files, into)
        except ArchiveError:
            refused += 1
        else:  # only where the padding at the end of a tar was cut
            assert contents(into) == hostile.TRUTH, cut
            assert kind.startswith("tar"), cut
    assert refused >= (len(cuts) - 11 if kind.startswith("tar") else len(cuts))
    assert sorted(path.name for path in place.iterdir()) == ["archives", "into", "secret.txt"]


@pytest.mark.parametrize("kind", ["zip deflated", "zip stored", "tar gzip", "tar xz", "rar4", "rar5", "7z"])
def test_a_flipped_byte_is_found_or_harmless(kind: str, place: Path) -> None:
    (file,) = hostile.GOOD[kind](place / "archives")
    whole = file.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        into = place / "into" / str(at)
        into.mkdir()
        try:
            unpack([file], into)
        except ArchiveError:
            continue
        found = contents(into)  # a byte of a name or a date: every file's bytes are still right
        assert sorted(found.values(), key=repr) == sorted(hostile.TRUTH.values(), key=repr), at


def around(file: Path, front: bytes, behind: bytes) -> Path:
    file.write_bytes(front + file.read_bytes() + behind)
    return file


@pytest.mark.parametrize("kind", ["zip deflated", "zip stored", "tar gzip", "tar xz", "tar bzip2", "tar"])
@pytest.mark.parametrize("behind", [bytes(5000), b"\r\n", b"\n<!-- page generated in 0.3 s -->", b"P", b"\x1f"])
def test_bytes_behind_the_end_are_passed_over_with_a_remark(kind: str, behind: bytes, place: Path) -> None:
    (file,) = hostile.GOOD[kind](place / "archives")
    remarks = unpack([around(file, b"", behind)], place / "into")
    assert contents(place / "into") == hostile.TRUTH
    if kind != "tar":
        assert remarks == (f"{file.name}: {len(behind):,} bytes after its end were ignored",)


@pytest.mark.parametrize("front", [b"#!/bin/sh\nexit 0\n" + bytes(27), b"\n"])
def test_bytes_in_front_of_a_zip_are_passed_over_with_a_remark(front: bytes, place: Path) -> None:
    (file,) = hostile.GOOD["zip deflated"](place / "archives")
    assert unpack([around(file, front, b"")], place / "into") == (
        f"{file.name}: {len(front)} bytes before the archive were ignored",
    )
    assert contents(place / "into") == hostile.TRUTH


def test_a_truncated_archive_is_not_taken_for_the_one_inside_it(place: Path) -> None:
    (inner,) = hostile.GOOD["zip deflated"](place / "archives")
    outer = place / "archives" / "outer.zip"
    with zipfile.ZipFile(outer, "w") as file:
        file.writestr("first.txt", b"lost if the inner one were taken for the whole")
        file.write(inner, "inner.zip")
    whole = outer.read_bytes()
    end = whole.index(b"inner.zip") + len("inner.zip") + inner.stat().st_size
    for cut in (end, end + 20):
        outer.write_bytes(whole[:cut])
        into = place / "into" / str(cut)
        into.mkdir()
        with pytest.raises(ArchiveError, match=r"outer\.zip"):
            unpack([outer], into)


def link_to(target: str, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        member = zipfile.ZipInfo("l")
        member.create_system, member.external_attr = 3, 0o120777 << 16
        file.writestr(member, target)
    return path


@pytest.mark.parametrize("target", ["", "a\0b", "d/" * 2000, "\x9b31m"])
def test_a_link_to_what_is_no_path_is_refused(target: str, place: Path) -> None:
    with pytest.raises(ArchiveError, match="which is not a valid path"):
        unpack([link_to(target, place / "archives" / "a.zip")], place / "into")


def test_a_member_in_a_thousand_folders_is_refused(place: Path) -> None:
    deep = place / "archives" / "deep.zip"
    with zipfile.ZipFile(deep, "w") as file:
        file.writestr("/".join(["d"] * 1000), b"x")
    with pytest.raises(ArchiveError, match="it lies in more than 100 folders"):
        unpack([deep], place / "into")


def test_ten_million_members_are_refused_at_once(place: Path) -> None:
    build, _ = hostile.HOSTILE["ten million members", "zip"]
    files = build(place / "archives")
    code = (
        "import sys, time; from pathlib import Path; from us43d.errors import ArchiveError\n"
        "from us43d.fetch.unpack import unpack\n"
        # Not ru_maxrss, which begins with the memory of the process that started this one.
        "peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "before, start = peak(), time.monotonic()\n"
        "try: unpack([Path(sys.argv[1])], Path(sys.argv[2]))\n"
        "except ArchiveError as error: print(error.what)\n"
        "print(peak() - before, time.monotonic() - start)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, files[0], place / "into"], capture_output=True, text=True, check=True
    )
    what, numbers = done.stdout.splitlines()
    assert "it lists 10,000,000 members, more than the 2,000,000 that are unpacked" in what
    grown, seconds = map(float, numbers.split())
    assert grown < 20_000  # kB
    assert seconds < 1


def test_names_in_the_encodings_people_use(place: Path) -> None:
    unicode = "Größe.txt".encode()
    field = b"\x01" + hostile.zlib.crc32(b"Gr__e.txt").to_bytes(4, "little") + unicode
    found = [
        hostile.Member("超声/标注.txt".encode("gbk"), b"1", flags=0),
        hostile.Member("naïve/Ångström.txt".encode("cp437"), b"2", flags=0),
        hostile.Member("utf8/é.txt".encode(), b"3", flags=0),
        hostile.Member(b"Gr__e.txt", b"4", flags=0, extra=b"\x75\x70" + len(field).to_bytes(2, "little") + field),
        hostile.Member(b"windows\\made\\this.txt", b"5"),
        hostile.Member(b"macOS/Icon\r", b""),
    ]
    path = hostile.written(place / "archives", "x.zip", hostile.zip_bytes(found))
    unpack([path], place / "into")
    assert contents(place / "into") == {
        "超声/标注.txt": b"1",
        "naïve/Ångström.txt": b"2",
        "utf8/é.txt": b"3",
        "Größe.txt": b"4",
        "windows/made/this.txt": b"5",
        "macOS/._Icon": b"",
    }


def test_links_inside_are_kept(place: Path) -> None:
    tar = [
        hostile.entry("d/file.txt", b"text"),
        hostile.entry("d/second.txt", kind=b"1", link="d/file.txt"),
        hostile.entry("l", kind=b"2", link="d/file.txt"),
    ]
    unpack([hostile.written(place / "archives", "x.tar", hostile.tar_bytes(tar))], place / "into")
    assert contents(place / "into") == {"d/file.txt": b"text", "d/second.txt": b"text", "l": "link to d/file.txt"}
    zipped = [hostile.Member(b"m", b"d/file.txt", 0, mode=0o120777)]
    unpack([hostile.written(place / "archives", "x.zip", hostile.zip_bytes(zipped))], place / "into")
    assert (place / "into" / "m").read_bytes() == b"text"


def test_two_archives_may_hold_the_same_file_but_not_two_of_one_name(place: Path) -> None:
    def made(name: str, files: dict[str, bytes]) -> Path:
        return Path(hostile.written(place / "archives", name, hostile.zip_bytes(hostile.members(files))))

    a, b = made("a.zip", {"licence.txt": b"terms", "a": b"1"}), made("b.zip", {"licence.txt": b"terms", "b": b"2"})
    unpack([a, b], place / "into")
    assert contents(place / "into") == {"licence.txt": b"terms", "a": b"1", "b": b"2"}
    unpack([a], place / "into")
    for other in (b"other", b"term", b"terms of use"):
        with pytest.raises(ArchiveError, match=r"c\.zip, member 'licence\.txt': it differs from the file of that name"):
            unpack([made("c.zip", {"licence.txt": other})], place / "into")
    with pytest.raises(ArchiveError, match="upper and lower case"):
        unpack([a, made("c.zip", {"LICENCE.txt": b"terms"})], place / "into")


def test_inner_archives_are_unpacked_where_they_lie(place: Path) -> None:
    inner = hostile.zip_bytes(hostile.members({"x.txt": b"x", "data.zip": b"not an archive, and not asked for"}))
    files = {
        "top/data.zip": inner,
        "top/MORE.ZIP": hostile.zip_bytes(
            hostile.members({"deep.zip": hostile.zip_bytes(hostile.members({"y": b"y"}))})
        ),
        "top/notes.txt": b"n",
        "kept.tar": hostile.good_tar(),
    }
    path = hostile.written(place / "archives", "all.zip", hostile.zip_bytes(hostile.members(files)))
    with pytest.raises(ArchiveError, match=r"^top/data\.zip: it is not a zip"):  # the inner one of that name
        unpack([path], place / "into", nested=("*.zip",))
    shutil.rmtree(place / "into")
    (place / "into").mkdir()
    files["top/data.zip"] = hostile.zip_bytes(hostile.members({"x.txt": b"x"}))
    path = hostile.written(place / "archives", "all.zip", hostile.zip_bytes(hostile.members(files)))
    unpack([path], place / "into", nested=("*.zip",))
    assert contents(place / "into") == {
        "top/x.txt": b"x", "top/y": b"y", "top/notes.txt": b"n", "kept.tar": files["kept.tar"],
    }  # fmt: skip


def test_inner_archives_of_the_same_names_are_unpacked_apart(place: Path) -> None:
    """A pattern with "/" at its end: a folder for each archive, at any depth, also below a folder with a dot."""

    def zipped(files: dict[str, bytes]) -> bytes:
        return bytes(hostile.zip_bytes(hostile.members(files)))

    files = {f".data/Case_{n}.ZIP": zipped({"us.nii": b"%d" % n, "seg.nii": b"s"}) for n in range(3)}
    files["case_9.zip"] = zipped({"us.nii": b"9", "deep.zip": zipped({"us.nii": b"deep"})})
    path = hostile.written(place / "archives", "all.zip", zipped(files))
    with pytest.raises(ArchiveError, match="differs from the file of that name"):
        unpack([path], place / "into", nested=("*case_*.zip",))
    shutil.rmtree(place / "into")
    (place / "into").mkdir()
    unpack([path], place / "into", nested=("*case_*.zip/", "*deep.zip/"))
    volumes = {f".data/Case_{n}/us.nii": b"%d" % n for n in range(3)} | {"case_9/us.nii": b"9"}
    seen = contents(place / "into")
    assert volumes.items() <= seen.items()
    assert seen["case_9/deep/us.nii"] == b"deep"
    assert len(seen) == 8


@pytest.mark.parametrize("wrapped", ["", "each", "each, in one", "the last", "the last, in one"])
def test_spanned_archives_inside_others(wrapped: str, place: Path) -> None:
    """As Kaggle gives CardiacUDC: a zip of the renamed parts; or parts that are in zips of their own."""
    parts = {path.name: path.read_bytes() for path in hostile.spanned(place / "archives", last="data.change2zip")}
    for path in list((place / "archives").iterdir()):
        path.unlink()

    def zipped(files: dict[str, bytes]) -> bytes:
        return bytes(hostile.zip_bytes(hostile.members(files)))

    alone = {
        (name if wrapped.startswith("the last") and "z0" in name else f"{name}.zip"): (
            data if wrapped.startswith("the last") and "z0" in name else zipped({name: data})
        )
        for name, data in parts.items()
    }
    if wrapped in ("each", "the last"):
        archives = [hostile.written(place / "archives", name, data) for name, data in alone.items()]
    else:
        archives = [hostile.written(place / "archives", "set.zip", zipped(alone if wrapped else parts))]
    mac = hostile.written(place / "archives", "mac.zip", zipped({"__MACOSX/._data.change2zip": b"\0\5\x16\7"}))
    unpack([*archives, mac], place / "into", nested=("*data.change2zip", "*data.change2zip.zip"))
    assert (place / "into" / "__MACOSX" / "._data.change2zip").exists()
    shutil.rmtree(place / "into" / "__MACOSX")
    assert contents(place / "into") == hostile.TRUTH


def test_info_zip_makes_the_spanned_zips_that_are_read(place: Path) -> None:
    if shutil.which("zip") is None:
        pytest.skip("Info-ZIP's zip is not installed (apt install zip); the parts made byte by byte are tested above")
    source = place / "archives" / "source"
    for name, data in {**hostile.TRUTH, "large.bin": random.Random(3).randbytes(200_000)}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    subprocess.run(["zip", "-q", "-r", "-s", "64k", "../data.zip", "."], cwd=source, check=True)
    files = sorted((place / "archives").glob("data.z*"))
    assert len(files) > 3
    unpack(files, place / "into")
    assert contents(place / "into") == contents(source)


def test_python_reads_the_zips_made_here(place: Path) -> None:
    for kind in ("zip deflated", "zip stored", "zip64"):
        with zipfile.ZipFile(hostile.GOOD[kind](place / "archives")[0]) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == hostile.TRUTH


@pytest.mark.parametrize("kind", ["rar4", "rar5"])
def test_compressed_rar_goes_through_a_program(kind: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can make a compressed RAR freely, so stored files stand in for compressed ones here."""
    if not any(map(shutil.which, ("unrar", "unar"))):
        pytest.skip("neither unar nor unrar is installed (apt install unar)")
    monkeypatch.setattr(foreign, "_stored", lambda member: False)
    files = hostile.GOOD[kind](place / "archives")
    unpack(files, place / "into")
    assert contents(place / "into") == hostile.TRUTH


@pytest.mark.parametrize("kind", ["rar4", "rar5"])
def test_without_a_program_the_install_line_is_given(kind: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_stored", lambda member: False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ArchiveError, match=r"compressed RAR(.|\n)*sudo apt install unar"):
        unpack(hostile.GOOD[kind](place / "archives"), place / "into")


@pytest.mark.parametrize(("kind", "module"), [("rar5", "rarfile"), ("7z", "py7zr")])
def test_without_the_library_the_extra_is_named(
    kind: str, module: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = hostile.GOOD[kind](place / "archives")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ArchiveError, match=r"pip install 'us43d\[archives\]'"):
        unpack(files, place / "into")


def test_a_failing_disk_is_no_fault_of_the_archive(place: Path) -> None:
    files = hostile.GOOD["tar bzip2"](place / "archives")
    with pytest.raises(FileNotFoundError):
        unpack(files, place / "into" / "missing")
