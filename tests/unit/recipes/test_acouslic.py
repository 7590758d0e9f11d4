"""The circumferences of version 1.0, which are twice too large, are told by their median and not kept."""

from us43d.recipes import acouslic

from us43d.rawtable import Row


def test_circumferences_of_version_one_are_not_kept() -> None:
    def table(factor: float) -> list[Row]:
        cells = {
            "uuid": ("a", "b"),
            "sweep_1_ac_mm": (str(260 * factor), "nan"),
            "sweep_6_ac_mm": ("", str(220 * factor)),
        }
        columns = dict.fromkeys(acouslic.CIRCUMFERENCES, ("", "")) | cells
        return [Row([(name, values[n]) for name, values in columns.items()], "table.csv") for n in range(2)]

    assert acouslic.circumferences(table(1)) == {("a", 1): 260, ("b", 6): 220}
    assert acouslic.circumferences(table(2)) == {}
