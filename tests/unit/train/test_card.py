"""The card beside a run's weights names exactly the sources trained on, and what they allow."""

from collections.abc import Callable
from pathlib import Path

from us43d import registry
from us43d.harmonize.merge import merge
from us43d.train import card, journal
from us43d.train.config import PRESETS


def test_card_and_references(tmp_path: Path, built: Callable) -> None:
    home, builds = built(tmp_path, "stu_hospital", "camus", receipt={"kind": "specimen"})
    corpus = merge(builds, home.root, "two")
    config = PRESETS["tiny"].model_copy(update={"sources": ("CAMUS",)})
    meta = {
        "run": "r", "preset": "tiny", "step": 3, "corpus": corpus.digest, "us43d": "0", "validation": None,
        "init": None, "licences": journal.by_licence(corpus, config.sources, config.commercial),
    }  # fmt: skip
    card.write(tmp_path, meta, corpus, config, str)
    page, entries = (tmp_path / "README.md").read_text(), (tmp_path / "references.bib").read_text()
    assert "CAMUS" in page
    assert "STU-Hospital" not in page
    assert "Commercial use: forbidden by some" in page
    assert "Simulated specimens, no real data: CAMUS" in page
    assert {c.bibtex.strip() in entries for c in registry.recipe("camus").citations} == {True}
    assert registry.recipe("stu_hospital").citations[0].bibtex.strip() not in entries
