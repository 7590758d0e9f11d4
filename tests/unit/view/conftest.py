"""A home with a few built synthetic sample datasets, one of them with near-duplicates."""

import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from us43d.harmonize.corpus import Corpus

app = importlib.import_module("us43d.cli.app").app


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BUSI, CAMUS and DDTI, built, merged and audited. Tests do not write to it."""
    root = tmp_path_factory.mktemp("view") / "home"
    for words in (
        ("fetch", "busi", "camus", "ddti", "--specimen"), ("build", "--all", "--jobs", "1"), ("audit", "--all"),
    ):  # fmt: skip
        result = CliRunner().invoke(app, [*words, "--home", str(root)])
        assert result.exit_code == 0, result.output
    return root


@pytest.fixture(scope="session")
def corpus(home: Path) -> Corpus:
    return Corpus.open(home / "corpora" / "us43d", home)
