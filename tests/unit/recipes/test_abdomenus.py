"""AbdomenUS: colours outside the code, one level of folders or two, and what the paper leaves out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree
from us43d.specimen import write_image


def scan(root: Path, key: str, painted: Any) -> None:
    source, part, stem = key.split("/")
    write_image(root / source / "images" / part / f"{stem}.jpg", np.full(painted.shape, 60, np.uint8))
    write_image(root / source / "annotations" / part / f"{stem}.png", painted)


@pytest.mark.parametrize("top", ["", "abdominal_US", "abdominal_US/abdominal_US"])
def test_colours_are_exact_and_strange_ones_remarked(tmp_path: Path, top: str) -> None:
    painted = np.zeros((40, 50, 3), np.uint8)
    painted[:10], painted[10:20], painted[20:22], painted[30:] = (255, 255, 0), (0, 255, 255), (99, 0, 100), 10
    scan(tmp_path / top, "RUS/test/a", painted)
    (sample,) = registry.recipe("abdomenus").read(RawTree(tmp_path))
    remarks: list[str] = []
    found = {label: int(mask.read({}, remarks).sum()) for label, mask in sample.masks.items()}  # type: ignore[union-attr]
    assert {label: area for label, area in found.items() if area} == {"kidney": 500, "adrenals": 500}
    assert set(remarks) == {"colours outside the code: 100 pixels, of no structure"}


def test_the_paper_leaves_simulations_out_and_keeps_their_rows(tmp_path: Path) -> None:
    for key in ("AUS/train/ct20-29", "AUS/validation/resized_ct20-30", "RUS/test/ct20-29"):
        scan(tmp_path, key, np.zeros((40, 50, 3), np.uint8))
    recipe = registry.recipe("abdomenus")
    samples = {s.key: s for s in recipe.reader("paper")(RawTree(tmp_path))}
    assert [key for key, sample in samples.items() if sample.drop is None] == ["RUS/images/test/ct20-29.jpg"]
    assert len(samples) == 3
    assert [(s.group, s.split) for s in recipe.read(RawTree(tmp_path))] == [
        ("AUS/ct20", "train"),
        ("AUS/ct20", "val"),
        ("RUS", "test"),
    ]
