"""Head circumference of real outlines against the table HC18 publishes."""

import csv
from pathlib import Path

import numpy as np
import pytest

from us43d.evaluate import measure
from us43d.masks import read
from us43d.masks.convert import fill_holes

pytestmark = pytest.mark.shared


@pytest.fixture
def heads(shared: Path) -> list[tuple[np.ndarray, tuple[float, float], float]]:
    """(outline, spacing, circumference in the table) of every outline in the cut."""
    folder = shared / "real" / "hc18"
    with (folder / "training_set_pixel_size_and_HC.csv").open() as file:
        table = {row["filename"]: row for row in csv.DictReader(file)}
    found = []
    for path in sorted((folder / "training_set").glob("*_Annotation.png")):
        row = table[path.name.replace("_Annotation", "")]
        size = float(row["pixel size(mm)"])
        found.append((read.grey(path) != 0, (size, size), float(row["head circumference (mm)"])))
    assert len(found) > 30
    return found


def test_outlines_agree_with_the_table(heads: list[tuple[np.ndarray, tuple[float, float], float]]) -> None:
    gaps = [measure.head_of_outline(outline, spacing).hc / hc - 1 for outline, spacing, hc in heads]
    assert max(map(abs, gaps)) < 5e-4


def test_filled_outlines_overstate_by_half_the_stroke(
    heads: list[tuple[np.ndarray, tuple[float, float], float]],
) -> None:
    gaps = []
    for outline, spacing, hc in heads:
        filled = fill_holes(outline)
        if filled.sum() > 2 * outline.sum():
            gaps.append(measure.head(filled, spacing).hc / hc - 1)
    assert np.mean(gaps) == pytest.approx(0.008, abs=0.001)
    assert min(gaps) > 0.003
    assert max(gaps) < 0.015
