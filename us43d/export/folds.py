"""Cross-validation folds from the corpus's own splits and groups."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["FOLDS", "folds"]

#: Number of folds, as nnU-Net and MONAI's Auto3DSeg expect.
FOLDS = 5


def folds(cases: Iterable[tuple[str, str]]) -> Mapping[str, int]:
    """Assign a fold to every unit of training and validation cases.

    Fold 0 validates on the corpus's validation split, so that fold 0 alone is the corpus's own split. The training
    cases are divided into folds 1 to 4, whole units only, the largest unit first into the smallest fold.

    Args:
        cases: (split "train" or "val", unit) of every case.

    Returns:
        unit → number of the fold that its cases validate.
    """
    size_of: Counter[str] = Counter()
    held_out: set[str] = set()
    for split, unit in cases:
        size_of[unit] += 1
        if split == "val":
            held_out.add(unit)
    sizes: Counter[int] = Counter()
    assigned: dict[str, int] = {}
    for unit in sorted(size_of, key=lambda unit: (-size_of[unit], hashlib.sha256(unit.encode()).digest())):
        fold = 0 if unit in held_out else min(range(1, FOLDS), key=lambda n: (sizes[n], n))
        sizes[fold] += size_of[unit]
        assigned[unit] = fold
    return assigned
