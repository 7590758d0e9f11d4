"""Writing under a final name: what is on the disk, and in which order."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from us43d import atomic
from us43d.errors import Busy, StorageError


@pytest.mark.parametrize("durable", [True, False])
def test_the_disk_has_the_data_before_the_final_name(
    tmp_path: Path, durable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut the name holds all of the file or is not there."""
    events: list[str] = []
    replace = Path.replace

    def synced(handle: int) -> None:
        assert os.fstat(handle).st_size == 3
        events.append("fsync")

    def renamed(path: Path, target: Path) -> Path:
        events.append(f"rename to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    atomic.write_bytes(tmp_path / "a", b"abc", durable=durable)
    assert events == ["fsync", "rename to a"][not durable :]
    assert (tmp_path / "a").read_bytes() == b"abc"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    first, second = (atomic.alone(tmp_path / ".lock", Busy(name)) for name in ("first", "second"))
    with first, pytest.raises(Busy, match="second"), second:
        pass
    with atomic.alone(tmp_path / ".lock", Busy("third")):
        pass


def test_results_are_replaced_and_files_of_a_user_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    atomic.write_results(folder, {"a.csv": "1", "b.csv": "2"}, "")
    atomic.write_results(folder, {"a.csv": "3"}, "")
    assert (folder / "a.csv").read_text() == "3"
    (folder / "b.csv").write_text("2, corrected")
    (tmp_path / "out-2").mkdir()
    with pytest.raises(StorageError, match=r"b\.csv exists") as raised:
        atomic.write_results(folder, {"a.csv": "4", "b.csv": "5"}, "")
    assert raised.value.next == f"the same with --out {tmp_path / 'out-3'}"
    assert [(folder / name).read_text() for name in ("a.csv", "b.csv")] == ["3", "2, corrected"]


@pytest.mark.parametrize("kind", ["file", "link"])
@pytest.mark.parametrize("write", [atomic.write_files, atomic.write_results])
def test_what_stands_where_a_folder_is_needed(tmp_path: Path, kind: str, write: Callable[..., Path]) -> None:
    """Path.mkdir calls both an existing file."""
    place = tmp_path / "out"
    if kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "nowhere")
    for folder in (place, place / "sub"):
        with pytest.raises(StorageError, match=r"out(/sub)? cannot be written: a file") as raised:
            write(folder, {"a.csv": "1"}, "")
        assert raised.value.next.startswith(f"ls -ld {place} ")
        with pytest.raises(StorageError, match="out cannot be written"):
            atomic.require_free(folder, ["a.csv"])  # before hours of work
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("record", [b"", b"{", b"7", b"[[]]"])
def test_a_damaged_record_of_results_protects_every_file(tmp_path: Path, record: bytes) -> None:
    atomic.write_results(tmp_path, {"a.csv": "1"}, "")
    (tmp_path / atomic.RESULTS).write_bytes(record)
    with pytest.raises(StorageError, match=r"a\.csv exists"):
        atomic.require_free(tmp_path, ["a.csv"])


def test_results_of_an_interrupted_run_are_known_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path, files: dict[str, str], _: str) -> Path:
        (folder / "a.csv").write_text(files["a.csv"])
        raise KeyboardInterrupt

    write = atomic.write_files
    monkeypatch.setattr(atomic, "write_files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_results(tmp_path, {"a.csv": "1", "b.csv": "2"}, "")
    monkeypatch.setattr(atomic, "write_files", write)
    atomic.write_results(tmp_path, {"a.csv": "3", "b.csv": "4"}, "")
    assert (tmp_path / "a.csv").read_text() == "3"


def test_errors_name_the_file_of_the_user_not_its_temporary_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(atomic._temporary(file, None)))

    file = tmp_path / "report.csv"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=rf"^{file} cannot be written: the disk is full") as raised:
            atomic.write_files(tmp_path, {"report.csv": "1", "other.csv": "2"}, "Nothing was written.")
    assert "tmp" not in str(raised.value.what).replace(str(tmp_path), "")
    with pytest.raises(StorageError, match=rf"^{tmp_path / 'out' / 'masks' / 'a'} cannot"), atomic.new_folder(
        tmp_path / "out"
    ) as folder:  # fmt: skip
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "masks" / "a"))


def test_an_error_of_a_copy_names_the_file_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", source, None, target)  # as shutil does

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(shutil, "copy2", full)
    with (
        pytest.raises(StorageError, match=rf"^{tmp_path / 'b.png'} cannot be written: the disk is full"),
        atomic.storage_errors(tmp_path, ""),
    ):
        atomic.link_or_copy(tmp_path / "a.png", tmp_path / "b.png")


def test_a_name_that_the_file_system_takes_is_written(tmp_path: Path) -> None:
    """The temporary name is longer than the final one."""
    name = "n" * 251 + ".csv"
    atomic.write_bytes(tmp_path / name, b"1")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o027, 0o750)])
def test_a_new_folder_can_be_entered(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        with atomic.new_folder(tmp_path / "out") as temporary:
            (temporary / "a").touch(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == mode
    assert (tmp_path / "out" / "a").stat().st_mode & 0o777 == mode & 0o666
