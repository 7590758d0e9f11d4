"""The sets that benchmarks draw are read by the recipes and the audit as they are today."""

from pathlib import Path

import pytest

from us43d import registry
from us43d.harmonize.build import build
from us43d.paths import Home

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("what", ["busi", "busbra", "video", "volume", "polygon"])
def test_sets_are_built(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # processes that draw import the module by its name
    import sets

    count = sets.make(what, tmp_path / "raw", 4)
    built = build(registry.recipe(sets.SOURCES[what]), tmp_path / "raw", Home(tmp_path / "home"), partial=True, jobs=1)
    assert count >= 4
    assert built.dataset["counts"]["images"] > 0


def test_the_audited_set_has_the_pairs_it_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import audit

    true = audit.made(tmp_path / "made", 20)
    assert true == {(4, 9), (14, 19)}
    assert audit.ours(tmp_path / "made", 1)[2] == true
