"""FOCUS: the example of docs/adding-a-source.md stays what the recipe is."""

import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_shows_the_recipe_as_it_is() -> None:
    page = (ROOT / "docs/adding-a-source.md").read_text("utf-8")
    recipe = (ROOT / "recipes/focus.py").read_text("utf-8")
    start = page.index("    PARTS: dict")
    reader = textwrap.dedent(page[start : page.index("\n\n-", start)])
    assert "yield Sample(" in reader
    assert reader in recipe
    facts = (ROOT / "recipes/facts/focus.toml").read_text("utf-8")
    for first, last in (("group_kind", "[labels]"), ("[labels]", "- `labels`")):
        lines = page[page.index(f"    {first}") : page.index(last, page.index(f"    {first}") + 8)]
        assert textwrap.dedent(lines).strip() in facts
