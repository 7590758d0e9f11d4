"""Command lines that are not understood, and sources after --on."""

import ast
import errno
import importlib
import json
import os
import re
import stat
import subprocess
import sys
import types
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from us43d import atomic
from us43d.errors import StorageError

app = importlib.import_module("us43d.cli.app").app


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list", "--nosuch"), "No such option"),
        (("nosuch",), "No such command"),
        (("export", "--size", "two"), "Invalid value for '--size'"),
        (("info",), "Missing argument"),
        (("list", "--collection", "foo"), "Invalid value for '--collection': 'foo' is not one of 'us43d', 'beyond'"),
        (("fetch", "BUSI", "--jobs", "x"), "unable to parse string as an integer: 'x'"),
    ],
)
def test_usage_errors_are_json_under_json(words, message) -> None:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert message in error["what"]
    assert error["code"] == 2
    assert error["next"].endswith("--help")
    plain = CliRunner().invoke(app, [*words])
    assert plain.exit_code == 2
    assert plain.stdout == ""
    what, disk, step = plain.stderr.splitlines()
    assert message in what
    assert (disk, step) == ("Nothing was changed on disk.", f"Next: {error['next']}")


def test_a_group_without_a_verb_shows_its_help() -> None:
    for words in ([], ["weights"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert "Usage:" in result.output
        assert "Next:" not in result.output


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_cuts_no_names(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    command = get_command(app).commands["predict"]  # type: ignore[attr-defined]
    shown = CliRunner().invoke(app, ["predict", "--help"], terminal_width=columns).output
    assert [option for entry in command.params for option in entry.opts[:1] if option not in shown.split()] == ["input"]
    assert "us43d-small, which" in " ".join(shown.replace("│", " ").split())
    assert "[bold]" not in shown
    assert "\n  us43d predict sweep.mp4 --weights ultrasam --everything --frame 12\n" in shown or columns > 60


def test_json_still_ends_with_the_code_of_the_verb(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["taxonomy", "--json"]).exit_code == 0
    assert CliRunner().invoke(app, ["check", "BUSI", "--json", "--home", str(tmp_path)]).exit_code == 1


def test_sources_without_on_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["eval", "BUSI", "--weights", "x", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert "us43d eval --on BUSI" in result.stderr


def test_weights_have_the_mode_the_umask_allows(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from us43d.model.weights import _write_folder

    before = os.umask(0o027)
    try:
        _write_folder(tmp_path, {"a": torch.zeros(2)}, {})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


def test_names_of_options_are_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    root = get_command(app)
    groups = {(): root} | {(name,): verb for name, verb in root.commands.items() if hasattr(verb, "commands")}
    verbs = {(*path, name): verb for path, group in groups.items() for name, verb in group.commands.items()}
    for words, verb in verbs.items():
        said = CliRunner().invoke(app, [*words, "--help"]).stdout
        names = [name for option in verb.params for name in option.opts if name.startswith("--")]
        assert [(words, name) for name in names if not re.search(rf"{name}(?![\w-])", said)] == []


@pytest.mark.parametrize(
    ("words", "what", "step"),
    [
        (("predict", "none.png"), "none.png does not exist", "ls {here}"),
        (("predict", "empty"), "No images, videos or volumes found in empty", "ls empty"),
        (("predict", "b" * 300), "cannot be opened: File name too long", "ls {here}"),
        (
            ("predict", "text.png"),
            "text.png is not a readable image",
            "us43d predict text.png --box 1,1,9,9   # with undamaged files",
        ),
        (("predict", "pipe"), "pipe is not a regular file", "ls {here}"),
        (("weights", "show", "text.png"), "text.png is not a PyTorch checkpoint", "us43d weights show --help"),
        (("weights", "show", "pipe"), "pipe is not a regular file", "us43d weights show"),
        (("review", "import", "empty"), "empty cannot be read: Is a directory", "us43d review import --help"),
    ],
)
def test_a_path_that_cannot_be_used_has_a_next_step(
    words: tuple[str, ...], what: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.png").write_text("text")
    os.mkfifo("pipe")
    words += ("--box", "1,1,9,9") if words[0] == "predict" else ()
    monkeypatch.setattr("sys.argv", ["us43d", *words])
    result = CliRunner().invoke(app, words)
    assert result.exit_code in (1, 2)
    lines = result.stderr.splitlines()[-3:]
    assert what in lines[0]
    assert lines[1:] == ["Nothing was changed on disk.", f"Next: {step.format(here=tmp_path)}"]


def test_output_is_utf_8_where_the_locale_has_no_such_letters(tmp_path: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "us43d", "info", "BUSI", "--home", str(tmp_path)]
    done = subprocess.run(command, env=os.environ | locale, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not done.stdout.decode("utf-8").isascii()


def test_a_file_is_written_into_a_new_folder_but_not_into_a_file(tmp_path: Path) -> None:
    words = ["review", "export", "--home", str(tmp_path)]
    assert CliRunner().invoke(app, [*words, str(tmp_path / "new" / "x.jsonl")]).exit_code == 0
    assert (tmp_path / "new" / "x.jsonl").read_bytes() == b""
    refused = CliRunner().invoke(app, [*words, str(tmp_path / "new" / "x.jsonl" / "y.jsonl")])
    assert refused.exit_code == 1
    assert f"{tmp_path}/new/x.jsonl cannot be written: a file, or a link" in refused.stderr


def test_a_folder_that_may_not_be_entered_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Path.exists raises there, also in what words the message; os.access of root knows nothing of network drives."""

    def refused(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refused)
    monkeypatch.setattr(Path, "is_file", refused)
    result = CliRunner().invoke(app, ["weights", "show", str(tmp_path / "x" / "y")])
    assert result.exit_code == 1
    assert f"{tmp_path}/x/y" in result.stderr
    assert "ermission is denied" in result.stderr


def test_next_steps_work_as_printed_where_a_path_has_a_space(tmp_path: Path) -> None:
    scan = tmp_path / "my scans"
    scan.mkdir()
    (scan / "a.png").touch()
    result = CliRunner().invoke(app, ["predict", str(scan), "--home", str(tmp_path)])
    assert f"Next: us43d predict '{scan}' --everything" in result.stderr
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("step", "spelled"),
    [
        ("the same with --out 'my run-2'", "us43d export us43d --quiet --out 'my run-2'"),
        ("the same command   (in a minute)", "us43d export us43d --out 'my run' --quiet   # in a minute"),
        ("the same with more", "us43d export us43d --out 'my run' --quiet more"),
        ("the same without --quiet", "us43d export us43d --out 'my run'"),
        ("the same without --out 'my run' with --to a", "us43d export us43d --quiet --to a"),
        ("the same without --none with --to=a --quiet", "us43d export us43d --out 'my run' --to=a --quiet"),
        ("the same with a --out b=c", "us43d export us43d --quiet a --out b=c"),
        ("the same with 'a b' in place of us43d   (so)", "us43d export 'a b' --out 'my run' --quiet   # so"),
        ("us43d list   (or (any) other)", "us43d list   # or (any) other"),
        ("open a page", "open a page"),
    ],
)
def test_the_same_command_is_spelled_out(step: str, spelled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _spelled = importlib.import_module("us43d.cli.errors")._spelled

    monkeypatch.setattr("sys.argv", ["us43d", "export", "us43d", "--out", "my run", "--quiet"])
    assert _spelled(step) == spelled


@pytest.mark.parametrize("given", [("--home", "my home"), ("--home=my home",)])
def test_a_next_step_stays_in_the_home_of_the_run(given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    _spelled = importlib.import_module("us43d.cli.errors")._spelled

    monkeypatch.setattr("sys.argv", ["us43d", "export", "x", *given])
    assert _spelled("us43d stats --all") == "us43d stats --all --home 'my home'"
    assert _spelled("us43d build A   (or B)") == "us43d build A --home 'my home'   # or B"
    assert _spelled("us43d build A   # or B") == "us43d build A --home 'my home'   # or B"
    for step in ("us43d export --help", "us43d fetch A --home OTHER", "open a page   (or two)"):
        assert "my home" not in _spelled(step)
    assert _spelled("the same with --quiet").count("home") == 2


def _next_steps() -> dict[str, str]:
    """Every literal next= of the sources, by its place; what is filled in later is X."""
    steps = {}
    for folder in ("us43d", "cli"):
        for file in sorted(Path(__file__).parents[3].joinpath(folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if (
                    isinstance(node, ast.keyword)
                    and node.arg == "next"
                    and isinstance(node.value, ast.Constant | ast.JoinedStr)
                ):
                    pieces = node.value.values if isinstance(node.value, ast.JoinedStr) else [node.value]
                    text = "".join(str(piece.value) if isinstance(piece, ast.Constant) else "X" for piece in pieces)
                    steps[f"{file.name}:{node.value.lineno}"] = text
    return steps


def test_every_step_that_is_the_same_command_is_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["us43d", "list"])
    spelled = importlib.import_module("us43d.cli.errors")._spelled
    same = {place: step for place, step in _next_steps().items() if step.startswith("the same")}
    assert len(same) > 20
    assert {place: step for place, step in same.items() if spelled(step) == step} == {}


def test_label_says_that_neither_a_file_nor_a_source_is_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["label", "nosuch", "--no-browser", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert "No file or folder is called 'nosuch'. No source is called 'nosuch'." in result.stderr


@pytest.mark.parametrize("verb", ["view", "export", "build"])
def test_a_folder_of_ones_own_in_place_of_a_source_is_imported_first(tmp_path: Path, verb: str) -> None:
    (tmp_path / "my scans").mkdir()
    (tmp_path / "my scans" / "coco.json").touch()
    for place in ("my scans", "my scans/coco.json"):
        words = [verb, str(tmp_path / place), "--home", str(tmp_path / "home")]
        if verb == "export":
            words += ["--to", "yolo", "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert f"Next: us43d import '{tmp_path}/my scans'   # makes a private source of it" in result.stderr


def test_label_refuses_files_of_which_none_can_be_read(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"not an image")
    result = CliRunner().invoke(app, ["label", str(tmp_path), "--no-browser"])
    assert result.exit_code == 1
    assert "None of 2 files can be read" in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file.txt/sub/a.json", r"file\.txt/sub cannot be written: a file stands where a folder is needed\."),
        ("/proc/us43d/a.json", r"/proc/us43d cannot be written: the folder belongs to the system"),
    ],
)
def test_a_place_where_no_file_can_be_is_said_without_blaming_the_disk(
    tmp_path: Path, place: str, message: str
) -> None:
    (tmp_path / "file.txt").touch()
    target = tmp_path / place
    with pytest.raises(StorageError, match=message) as raised, atomic.storage_errors(target, "Nothing was changed."):
        target.parent.mkdir(parents=True)
    assert raised.value.next.startswith("ls -ld /")


def test_ctrl_c_during_the_first_imports_has_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    started = importlib.import_module("us43d.__main__")
    monkeypatch.setattr(started, "importlib", types.SimpleNamespace(import_module=interrupted))
    monkeypatch.setattr(sys, "argv", ["us43d", "predict", "my scan.png"])
    monkeypatch.setattr("gc.disable", lambda: None)
    with pytest.raises(SystemExit) as ended:
        started.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == (
        "Interrupted.\nNothing was changed on disk.\nNext: us43d predict 'my scan.png'\n"
    )


def test_an_option_without_its_argument_leads_to_the_help_of_the_verb() -> None:
    result = CliRunner().invoke(app, ["fetch", "BUSI", "--from"])
    assert result.exit_code == 2
    assert "Next: us43d fetch --help" in result.stderr


@pytest.mark.parametrize(
    ("given", "seen"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_wait_briefly_unless_told_otherwise(given: dict[str, str], seen: str) -> None:
    """GNU OpenMP reads the variable when PyTorch is imported, which the command line has not done yet."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    code = "import sys, os, us43d.cli.app; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", seen]


def test_files_that_a_shell_made_of_a_pattern_are_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my scans/a/1.png", "my scans/a/2.png", "my scans/b/3.png", "c.png", "d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = ["my scans/a/1.png", "my scans/a/2.png", "my scans/b/3.png"]
    done = CliRunner().invoke(app, ["predict", *files, "--structure", "breast lesion"])
    assert done.exit_code != 0
    assert "us43d predict takes a single file or folder, not 3 files: my scans/a/1.png" in done.stderr
    assert "Next: us43d predict 'my scans' --structure 'breast lesion'   # all files of the folder" in done.stderr
    assert "Next: us43d predict .   #" in CliRunner().invoke(app, ["predict", "c.png", "d.png"]).stderr
    mixed = CliRunner().invoke(app, ["predict", str(tmp_path / "c.png"), "d.png"]).stderr
    assert f"Next: us43d predict {tmp_path}   #" in mixed.replace("'", "")
    assert "takes a single file" not in CliRunner().invoke(app, ["coco", "c.png", "d.png", *files]).stderr
    other = CliRunner().invoke(app, ["predict", "c.png", "nothing"]).stderr
    assert "takes a single file" not in other
    assert "Next: us43d predict --help" in other


def test_view_of_a_corpus_by_its_name_says_how_it_is_opened(tmp_path: Path) -> None:
    """`us43d export us43d` takes such a name."""
    (tmp_path / "corpora" / "us43d").mkdir(parents=True)
    (tmp_path / "corpora" / "us43d" / "corpus.json").write_text("{}")
    result = CliRunner().invoke(app, ["view", "us43d", "--no-browser", "--home", str(tmp_path)])
    assert result.exit_code != 0
    assert "us43d is a corpus, not a source." in result.stderr
    assert "us43d view --corpus us43d" in result.stderr
