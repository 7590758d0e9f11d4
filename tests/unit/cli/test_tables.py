"""Tables of the terminal."""

import importlib


def test_an_empty_column_takes_no_place() -> None:
    tables = importlib.import_module("us43d.cli.tables")
    assert tables.draw(tables.Table((("", "left"), ("", "fold")), [("BUSI", "")]), 80) == "BUSI"
    assert tables.draw(tables.Table((("a", "left"),), []), 80) == "a\n─"
