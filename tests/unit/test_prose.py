"""The prose linter finds what docs/style.md rules out, where a person reads it, and its baseline only shrinks."""

import importlib.util
import json
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "tools" / "prose.py"
_spec = importlib.util.spec_from_file_location("prose", FILE)
assert _spec is not None
assert _spec.loader is not None
prose = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(prose)


def rules(hits: object) -> list[tuple[str, int]]:
    return [(hit.rule, hit.line) for hit in hits]  # type: ignore[attr-defined]


def test_docstrings_comments_messages_and_names_are_read() -> None:
    source = '''def call(each):
    """Say it.

    The file is no archive.
    """
    found = 1  # the model judges that
    return f"{each} is told of a {found}", "picture"
'''
    assert sorted(rules(prose.python(source, "x.py"))) == [
        ("is-no", 4), ("is-told", 7), ("judged", 6), ("past-participle-name", 6), ("pronoun-name", 1),
    ]  # fmt: skip


def test_code_in_pages_and_backticks_is_not_prose() -> None:
    page = "`us43d.pictures` reads a picture.\n\n    # is no comment\n\n```\nis no code\n```\nThis is no page.\n"
    assert rules(prose.markdown(page, "x.md")) == [("picture", 1), ("is-no", 8)]


@pytest.mark.parametrize("text", ["There is no longer a lock.", "No corpus found.", "It is not a valid device."])
def test_plain_sentences_pass(text: str) -> None:
    assert rules(prose.phrases(text, "x.md", 1)) == []


@pytest.mark.parametrize(("allowed", "code"), [(2, 0), (1, 1)])
def test_more_hits_than_the_baseline_fail(
    allowed: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("It is no file.\nIt is no folder.\n")
    baseline = tmp_path / "prose.json"
    baseline.write_text(json.dumps({"is-no": allowed}))
    monkeypatch.setattr(prose, "BASELINE", baseline)
    monkeypatch.setattr(prose, "hits", lambda walk=prose.hits: walk(tmp_path))
    monkeypatch.setattr("sys.argv", ["prose.py"])
    assert prose.main() == code
    assert ("MORE" in capsys.readouterr().out) == bool(code)
    monkeypatch.setattr("sys.argv", ["prose.py", "--lower"])
    prose.main()
    assert json.loads(baseline.read_text())["is-no"] == allowed, "a baseline is never raised"
