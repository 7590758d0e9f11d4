"""The commands on the README and the pages of the documentation are understood by the command line of today."""

import importlib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

#: What Typer raises for a command line it does not understand; it vendors Click.
NotUnderstood: Any = typer.BadParameter.__mro__[2]
ROOT = Path(__file__).resolve().parents[3]
#: docs/cli.md has the examples of every command's help.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
#: Lines with placeholders describe the options of a command; nobody types them.
SYNOPSIS = re.compile(r"[|…]|\[-|\[[A-Z]|\.\.\.")


def commands(text: str) -> list[str]:
    """The lines of code blocks that call us43d, without comments; a backslash continues a line."""
    lines = re.findall(r"^(?: {4,}|)(?:\$ )?(us43d (?:[^\n]*\\\n)*[^\n]*)", "\n".join(code(text)), re.M)
    whole = (re.split(r"\s#\s|\s{2,}|\s>\s", line.replace("\\\n", " "))[0].strip() for line in lines)
    return [line for line in whole if not SYNOPSIS.search(line)]


def code(text: str) -> list[str]:
    fenced, blocks = False, []
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            blocks.append(line)
    return blocks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_are_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = typer.main.get_command(importlib.import_module("us43d.cli.app").app)
    monkeypatch.chdir(tmp_path)
    failed = []
    for line in commands(page.read_text("utf-8")):
        try:
            _parse(cli, "us43d", shlex.split(line)[1:])
        except NotUnderstood as error:
            failed.append((line, str(error)))
    assert failed == []


def _parse(command: Any, name: str, words: list[str], parent: Any = None) -> None:
    """Parse a command line and run nothing. Raises what Typer raises for one it does not understand."""
    context = command.make_context(name, list(words), parent=parent)
    rest = [*context._protected_args, *context.args]
    if hasattr(command, "commands") and rest:
        name, inner, others = command.resolve_command(context, rest)
        _parse(inner, name, others, context)


def test_an_option_that_does_not_exist_is_noticed(tmp_path: Path) -> None:
    cli = typer.main.get_command(importlib.import_module("us43d.cli.app").app)
    with pytest.raises(NotUnderstood, match="No such option"):
        _parse(cli, "us43d", ["list", "--no-such-option"])
    assert commands("    us43d list  \ntext us43d nothing\n\n    us43d fetch A --all   # why\n") == [
        "us43d list",
        "us43d fetch A --all",
    ]


def test_links_of_the_readme_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text("utf-8")):
            assert (ROOT / target).exists(), f"{name}: {target}"


def test_the_page_on_design_names_every_room() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    rooms = {name for name in packages if name.count(".") == 1}
    page = (ROOT / "docs/design.md").read_text("utf-8")
    assert sorted(room for room in rooms if room not in page and f"`{room.removeprefix('us43d.')}`" not in page) == []
