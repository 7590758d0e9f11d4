"""Results of predict in a folder: one run at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from us43d import atomic
from us43d.errors import Busy, StorageError
from us43d.pictures.outputs import JOURNAL, Outputs


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    first, second = Outputs(tmp_path / "out"), Outputs(tmp_path / "out")  # both before the folder is there
    first.write("masks/a_1.png", b"first")
    for run in (lambda: second.write("masks/b_1.png", b"second"), lambda: Outputs(tmp_path / "out")):
        with pytest.raises(Busy, match="Another us43d predict writes into") as caught:
            run()
        assert caught.value.next == f"the same with --out {tmp_path}/out-2"
    first.write("predictions.json", b'{"files": ["masks/a_1.png"]}')
    assert first.close() == 0
    second.write("masks/a_1.png", b"second")  # the results of a run that ended are replaced
    second.write("predictions.json", b'{"files": ["masks/a_1.png"]}')
    second.close()
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == [
        "a_1.png", "predictions.json",
    ]  # fmt: skip
    assert (tmp_path / "out" / "masks" / "a_1.png").read_bytes() == b"second"


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from us43d.pictures.outputs import Outputs\n"
        "outputs = Outputs(Path(sys.argv[1])); outputs.write('masks/a_1.png', b''); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == 9
    outputs = Outputs(tmp_path)
    outputs.write("predictions.json", b"{}")
    assert outputs.close() == 1
    assert not (tmp_path / JOURNAL).exists()


def test_a_file_of_the_user_leaves_no_journal(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a_1.png").write_bytes(b"mine")
    with pytest.raises(StorageError, match="was not written by us43d predict"):
        Outputs(tmp_path).write("masks/a_1.png", b"")
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize(("folder", "free"), [("out", "out-2"), (".", "results-2"), ("my out/", "'my out-2'")])
def test_a_folder_beside_is_free(tmp_path: Path, folder: str, free: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert atomic.free_beside(Path(folder)) == free
    (tmp_path / free.strip("'")).mkdir()
    assert atomic.free_beside(Path(folder)) == free.replace("2", "3")
