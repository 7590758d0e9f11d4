"""TED's groups are CAMUS's patients, in every place where the two can meet."""

import re

from us43d.recipes import ted

from us43d import registry


def test_the_table_of_patients() -> None:
    assert len(ted.PATIENTS) == len(set(ted.PATIENTS.values())) == 94
    assert [ted.PATIENTS[n] for n in (1, 18, 20, 31, 33, 35, 97)] == [2, 25, 27, 45, 47, 49, 152]
    assert not {19, 32, 34} & set(ted.PATIENTS)


def test_both_sources_name_a_patient_alike() -> None:
    for source, other in (("ted", "camus"), ("camus", "ted")):
        (shared,) = (entry for entry in registry.recipe(source).shares_with if entry.source == other)
        assert re.fullmatch(shared.group or "", "patient0152")
        assert re.sub(shared.group or "", shared.to or "", "patient0152") == "patient0152"
        assert not re.fullmatch(shared.group or "", "TED patient019")
