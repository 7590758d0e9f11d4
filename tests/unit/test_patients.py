"""Patterns of patients in paths."""

import itertools
from unicodedata import normalize

from us43d.patients import patient_in


def test_accents_match_however_they_are_composed() -> None:
    """Names of files from macOS did not match a pattern that was typed."""
    for path, pattern in itertools.product(("NFC", "NFD"), repeat=2):
        patient = patient_in(
            normalize(path, "a/Müller 1_2.png"), normalize(pattern, "(Müller [0-9]+)_"), "--group", next=""
        )
        assert patient == "Müller 1"
