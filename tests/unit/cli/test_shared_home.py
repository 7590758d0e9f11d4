"""A home of several people: what one of them may not read stops nobody from the rest, and the permission is named."""

import importlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from us43d.cli import builds

from us43d import registry
from us43d.atomic import denied, storage_errors
from us43d.errors import BuildError, StorageError, Us43dError, UsageError

app = importlib.import_module("us43d.cli.app").app


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_all_goes_on_past_a_source_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        home = Path(folder)
        home.chmod(0o777)
        for name, slug in (("STU-Hospital", "stu_hospital"), ("BUSI", "busi")):
            registry.specimen(slug)(home / "raw" / name, np.random.default_rng(0))
        (home / "raw" / "FASS").mkdir()
        for path in (home, *home.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o644)
        (home / "raw" / "BUSI").chmod(0o700)
        (home / "downloads" / "STU-Hospital").mkdir(parents=True)

        def run(*words: str) -> tuple[int, str]:
            done = CliRunner().invoke(app, [*words, "--home", str(home), "--quiet"])
            return done.exit_code, " ".join(done.output.split())

        command = ("build", "--all", "--partial", "--jobs", "1")
        assert run(*command)[0] == 3  # as root, who reads all but the source without images: everything is imported now
        run("verify", "--all")
        shutil.rmtree(home / "build")
        shutil.rmtree(home / "corpora", ignore_errors=True)
        receipt = home / "downloads" / "STU-Hospital" / "receipt.json"
        try:
            os.seteuid(65534)
            code, said = run(*command)
            assert code == 3, said
            assert (home / "build" / "STU-Hospital").is_dir()
            assert "BUSI" in said
            assert "cannot be listed: Permission denied" in said
            os.seteuid(0)
            receipt.write_text("{}")
            receipt.chmod(0o600)
            os.seteuid(65534)
            code, said = run("verify", "--all")
            assert code in (1, 3), said
            assert "cannot be read" in said
        finally:
            os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_build_that_may_not_be_read_is_not_left_out_unseen() -> None:
    """Of a folder that may not be listed, glob yields nothing."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, slug in (("STU-Hospital", "stu_hospital"), ("BUSI", "busi")):
            registry.specimen(slug)(home / "raw" / name, np.random.default_rng(0))

        def run(*words: str) -> tuple[int, str]:
            done = CliRunner().invoke(app, [*words, "--home", str(home), "--quiet"])
            return done.exit_code, " ".join(done.output.split())

        verbs = (("check", "--all"), ("audit", "--all"), ("stats", "--all"), ("card", "BUSI"))
        run("build", "--all", "--partial", "--jobs", "1")
        assert [run(*words)[0] for words in verbs] == [0, 0, 0, 0]  # as root: everything is imported now
        assert run("info", "BUSI")[1].count("r1s1-us43d-partial") == 1
        for path in (home, *home.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o644)
        closed = home / "build" / "BUSI"
        try:
            for place in (closed, *closed.glob("r*")):
                place.chmod(0o700)
                os.seteuid(65534)
                for words in verbs:
                    code, said = run(*words)
                    assert code == (1 if words[0] == "card" else 3), (words, said)
                    assert f"{place}" in said.replace("/ ", "/"), (words, said)
                    assert "Permission denied" in said, (words, said)
                assert "STU-Hospital sound" in run("check", "--all")[1]
                assert "(unreadable)" in run("info", "BUSI")[1]
                os.seteuid(0)
                place.chmod(0o777)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("damaged", ["dataset.json", "manifest.parquet", "annotations/train-*.json", "images/**/*.png"])
def test_all_includes_the_sound_builds_and_a_corpus_is_refused(tmp_path: Path, damaged: str) -> None:
    """Verbs of --all stopped at the first damaged build; `check` and `build` did not."""

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*words, "--home", str(tmp_path), "--quiet"])
        return done.exit_code, " ".join(done.output.split())

    run("fetch", "BUSI", "STU-Hospital", "--specimen")
    assert run("build", "--all")[0] == 0
    file = next((tmp_path / "build" / "BUSI").glob(f"r*/{damaged}"))
    file.write_bytes(file.read_bytes()[:50])
    readers = {"audit --all", "stats --all", "splits", "corpus --all"}
    readers -= {"splits"} if "*" in damaged else set()  # which reads manifests alone
    readers -= {"stats --all", "corpus --all"} if "png" in damaged else set()  # which read no images
    for words in sorted(readers):
        code, output = run(*words.split())
        assert "BUSI" in output, words
        if words == "corpus --all":
            assert (code, run("corpus", "STU-Hospital")[0]) == (1, 0), output
            assert "1 of 2 sources cannot be merged" in output
            assert "Next: us43d corpus STU-Hospital" in output
        else:
            assert code == 3, (words, output)
            assert "1 of 2 sources not included: BUSI" in output
            assert "STU-Hospital" in output
    assert run("build", "STU-Hospital")[0] == 0
    assert run("export", "STU-Hospital", "--to", "coco", "--out", str(tmp_path / "out"))[0] == 0
    for words in ("audit BUSI", "stats BUSI", "corpus BUSI"):  # named, it is an error
        assert run(*words.split())[0] == (1 if words.split()[0] + " --all" in readers else 0), words


@pytest.mark.parametrize(("error", "checked"), [(UsageError, 0), (BuildError, 1)])
def test_errors_that_no_build_causes_check_no_build(
    error: type[Us43dError], checked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All builds were checked, which takes long on a large home."""
    asked: list[object] = []
    monkeypatch.setattr(builds, "unsound", lambda *known: asked.append(known) or [])

    def work(paths: list[Path]) -> None:
        raise error("as it is")

    with pytest.raises(error, match="as it is"):
        builds.of_newest(None, [], work, [])
    assert len(asked) == checked


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_folders_that_systems_leave_on_drives_are_passed_over() -> None:
    """Users may not list them: `fetch --from` of a drive stopped there."""
    with tempfile.TemporaryDirectory() as folder:
        drive, home = Path(folder) / "drive", Path(folder) / "home"
        for name in ("lost+found", "System Volume Information"):
            (drive / name).mkdir(parents=True)
        registry.specimen("busi")(drive, np.random.default_rng(0))
        home.mkdir()
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o644)
        for name in ("lost+found", "System Volume Information"):
            (drive / name).chmod(0o700)
        words = ["fetch", "BUSI", "--from", str(drive), "--accept-licence", "BUSI"]
        CliRunner().invoke(app, [*words, "--home", f"{folder}/root"])  # as root: everything is imported now
        os.seteuid(65534)
        try:
            done = CliRunner().invoke(app, [*words, "--home", str(home)])
        finally:
            os.seteuid(0)
        assert done.exit_code == 0, done.output


def test_the_missing_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "closed" / "a.txt"
    file.parent.mkdir()
    file.touch()
    refused: dict[Path, int] = {}
    monkeypatch.setattr(os, "access", lambda path, mode, **_: not refused.get(Path(path), 0) & mode)
    for path, mode, said in (
        (file.parent, os.X_OK, "cannot be entered"), (file, os.R_OK, "cannot be read"),
        (file, os.W_OK, "is not writable"),
    ):  # fmt: skip
        refused.clear()
        refused[path] = mode
        assert denied(file).endswith(said)
        with pytest.raises(StorageError, match=said), storage_errors(tmp_path, "Nothing was changed on disk."):
            raise PermissionError(13, "Permission denied", str(file))


@pytest.mark.parametrize("number", [36, 40, 21])
def test_names_too_long_and_links_in_circles_are_known_failures(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageError, match="cannot be written: "), storage_errors(tmp_path, ""):
        raise OSError(number, os.strerror(number), str(tmp_path / "a"))
