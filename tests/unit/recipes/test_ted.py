"""TED's patients are CAMUS's: a corpus keeps them in one split, whatever each source calls them."""

import pytest

from us43d import registry
from us43d.contract import Shared
from us43d.splits import duplicate_links


def test_the_table_of_patients() -> None:
    (shared,) = registry.recipe("ted").shares_with
    table = shared.groups
    assert len(table) == len(set(table.values())) == 94
    assert [table[f"patient{n:03}"] for n in (1, 18, 20, 31, 33, 35, 97)] == [
        f"patient{n:04}" for n in (2, 25, 27, 45, 47, 49, 152)
    ]
    assert not {"patient019", "patient032", "patient034"} & set(table)


def test_groups_of_the_table_are_united() -> None:
    rules = {slug: [one.model_dump() for one in registry.recipe(slug).shares_with] for slug in ("ted", "camus")}
    rows = {
        "ted": [_row("patient001", "train"), _row("patient002", "train"), _row("patient019", "train")],
        "camus": [_row("patient0002", "test"), _row("patient0001", "test"), _row("patient0019", "test")],
    }
    found = duplicate_links.across(rows, (), rules)
    assert found.excluded == {"ted": ["patient001"]}
    assert found.shared == [(("camus", "patient0002"), ("ted", "patient001"))]


def test_a_rule_and_a_table_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not by both"):
        Shared(source="camus", what="patients", evidence="made up", group="a", to="b", groups={"a": "b"})


def _row(group: str, split: str) -> dict[str, str]:
    return {"key": group, "group": group, "split": split, "pixel_hash": group + split}
