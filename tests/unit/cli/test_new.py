"""`us43d new`: what it writes is a source that works, begins empty of facts, and never replaces a file."""

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

from us43d import facts
from us43d.harmonize.build import build
from us43d.loading import Samples
from us43d.paths import Home

ROOT = Path(__file__).resolve().parents[3]
FILES = ("recipes/facts/wrist_set.toml", "recipes/wrist_set.py", "recipes/specimens/wrist_set.py")
REFERENCES = "recipes/facts/references.bib"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "us43d").symlink_to(ROOT / "us43d")  # so that the linter knows its modules from other people's
    for file in ("pyproject.toml", REFERENCES):
        (tmp_path / file).write_text((ROOT / file).read_text())
    return tmp_path


def new(checkout: Path, *args: str) -> tuple[int, str, str]:
    app = importlib.import_module("us43d.cli.app").app
    result = CliRunner().invoke(app, ["new", *args, "--checkout", str(checkout)])
    return result.exit_code, result.stdout, result.stderr


def loaded(path: Path) -> ModuleType:
    """A module of the scratch checkout, under the name it would have in us43d."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scratch_facts(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From the call on, facts are read from the scratch checkout."""
    caches = (facts.facts, facts._cached, facts._json, facts._values, facts._references)

    def read_there() -> None:
        monkeypatch.setattr(facts, "folder", lambda: checkout / "recipes" / "facts")
        for function in caches:
            function.cache_clear()

    yield read_there
    for function in caches:
        function.cache_clear()


def test_what_is_written_builds_to_the_truth_it_draws(checkout: Path, scratch_facts: Callable[[], None]) -> None:
    code, out, _ = new(checkout, "Wrist-Set", "--structure", "needle", "--json")
    assert code == 0
    assert json.loads(out)["written"] == [str(checkout / file) for file in FILES]
    scratch_facts()
    recipe = loaded(checkout / FILES[1]).RECIPE
    assert (recipe.name, recipe.slug, recipe.row, recipe.organ) == ("Wrist-Set", "wrist_set", None, "device")
    raw = checkout / "raw"
    raw.mkdir()
    truth = loaded(checkout / FILES[2]).make(raw, np.random.default_rng(0))
    samples = Samples.of_build(build(recipe, raw, Home(checkout / "home")).path)
    assert {sample.meta["us43d"]["key"] for sample in samples} == set(truth.samples)
    for sample in samples:
        drawn = truth.samples[sample.meta["us43d"]["key"]]
        (mask,) = sample.masks["needle"]
        assert np.array_equal(mask, drawn.masks["needle"][0])
        assert sample.meta["us43d"]["group"] == drawn.group


def test_several_structures_are_values_of_label_maps(checkout: Path, scratch_facts: Callable[[], None]) -> None:
    structures = ("needle", "brachial_plexus", "artery")
    code, _, err = new(
        checkout, "Wrist-Set", *(word for one in (*structures, "needle") for word in ("--structure", one))
    )
    assert code == 0, err
    ruff = [sys.executable, "-m", "ruff"]
    files = [str(checkout / file) for file in FILES[1:]]
    subprocess.run([*ruff, "format", "--check", *files], cwd=checkout, check=True)
    subprocess.run([*ruff, "check", *files], cwd=checkout, check=True)
    scratch_facts()
    recipe = loaded(checkout / FILES[1]).RECIPE
    assert dict(recipe.labels) == {one: one for one in structures}
    raw = checkout / "raw"
    raw.mkdir()
    truth = loaded(checkout / FILES[2]).make(raw, np.random.default_rng(0))
    samples = Samples.of_build(build(recipe, raw, Home(checkout / "home")).path)
    assert len(samples) == len(truth.samples)
    for sample in samples:
        drawn = truth.samples[sample.meta["us43d"]["key"]]
        for one in structures:
            (mask,) = sample.masks[one]
            assert np.array_equal(mask, drawn.masks[one][0])


def test_the_entry_given_is_cited(checkout: Path, tmp_path: Path, scratch_facts: Callable[[], None]) -> None:
    entry = "@article{wrist2031,\n  title={The {W}rist Set},\n  year={2031},\n  doi={10.1/w}\n}"
    (tmp_path / "wrist.bib").write_text(f"exported by a tool\n{entry}\n")
    before = facts.parse_bibtex((checkout / REFERENCES).read_text())
    code, _, err = new(checkout, "Wrist-Set", "--structure", "needle", "--bibtex", str(tmp_path / "wrist.bib"))
    assert code == 0, err
    scratch_facts()
    (citation,) = facts.facts("wrist_set").citations
    assert (citation.title, citation.year, citation.doi, citation.bibtex) == ("The Wrist Set", 2031, "10.1/w", entry)
    after = facts.parse_bibtex((checkout / REFERENCES).read_text())
    assert after == before | {"wrist2031": citation}
    assert list(after) == sorted(after, key=str.lower)
    assert "The entry wrist2031 was added to" in err
    written = (checkout / REFERENCES).read_bytes()
    code, _, err = new(checkout, "Wrist-Set-2", "--structure", "needle", "--bibtex", str(tmp_path / "wrist.bib"))
    assert code == 0
    assert "The entry wrist2031 was found in" in err
    assert (checkout / REFERENCES).read_bytes() == written


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("@misc{aldhabyani2020dataset,\n title={Another}\n}", "key 'aldhabyani2020dataset' is already used"),
        ("@misc{wrist,\n title={Open}\n", "Invalid BibTeX: a brace is not closed"),
        ("@misc{wrist,\n year={2031}\n}", "entry 'wrist' has no title"),
        ("no entry", "Expected one BibTeX entry, found 0"),
    ],
)
def test_an_entry_that_cannot_be_cited_is_refused(checkout: Path, tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "wrist.bib").write_text(text)
    before = (checkout / REFERENCES).read_bytes()
    code, _, err = new(checkout, "Wrist-Set", "--structure", "needle", "--bibtex", str(tmp_path / "wrist.bib"))
    assert code == 2
    assert why in err
    assert (checkout / REFERENCES).read_bytes() == before
    assert not any((checkout / file).exists() for file in FILES)


def test_what_is_written_passes_the_linter(checkout: Path) -> None:
    assert new(checkout, "Wrist-Set", "--structure", "heart_structure_unspecified")[0] == 0
    for command in ("check", "format --check"):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command.split(), *FILES[1:]],
            cwd=checkout, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("taken", FILES)
def test_a_file_that_is_there_stays_and_nothing_else_is_written(checkout: Path, taken: str) -> None:
    (checkout / taken).write_text("mine")
    code, _, err = new(checkout, "Wrist-Set", "--structure", "needle")
    assert code == 2
    assert f"{taken} already exists" in err
    assert (checkout / taken).read_text() == "mine"
    assert [file for file in FILES if (checkout / file).exists()] == [taken]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("Wrist-Set", "--structure", "thyroid_nodul"), "Did you mean thyroid_nodule"),
        (("Wrist Set", "--structure", "needle"), "us43d new Wrist-Set --structure needle"),
        (("bus-bra", "--structure", "needle"), "is a name of BUS-BRA, which already exists"),
        (("Wrist-Set", "--slug", "busbra", "--structure", "needle"), "is a name of BUS-BRA"),
        (("4CH", "--structure", "needle"), "us43d new 4CH --slug SLUG --structure needle"),
        (("Wrist-Set", "--slug", "../wrist", "--structure", "needle"), "Invalid module name"),
    ],
)
def test_what_cannot_be_meant_is_refused(checkout: Path, args: tuple[str, ...], said: str) -> None:
    code, _, err = new(checkout, *args)
    assert code == 2
    assert said in err
    assert not any((checkout / file).exists() for file in FILES)


def test_another_folder_is_no_checkout(tmp_path: Path) -> None:
    code, _, err = new(tmp_path, "Wrist-Set", "--structure", "needle")
    assert code == 2
    assert "is not a checkout of us43d" in err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_leaves_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refuse(self: Path, *args: object, **kwargs: object) -> object:
        if self.name == "wrist_set.py" and self.parent.name == "specimens":
            raise OSError(28, "No space left on device", str(self))
        return opened(self, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    code, _, err = new(checkout, "Wrist-Set", "--structure", "needle")
    assert code == 1
    assert "wrist_set.py cannot be written: No space left on device" in err
    assert not any((checkout / file).exists() for file in FILES)
