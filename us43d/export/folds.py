"""Cross-validation folds from the corpus's own splits and groups."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

__all__ = ["FOLDS", "folds"]

#: Number of folds, as nnU-Net and MONAI's Auto3DSeg expect.
FOLDS = 5


def folds(cases: Iterable[tuple[str, str, str]]) -> Mapping[str, int]:
    """Assign a fold to every training and validation case.

    Fold 0 validates on the corpus's validation split, so that fold 0 alone is the corpus's own split. The training
    cases are divided into folds 1 to 4, whole units only, the largest unit first into the smallest fold.

    Args:
        cases: (case, split "train" or "val", unit).

    Returns:
        case → number of the fold it validates.
    """
    of_unit: dict[str, list[str]] = defaultdict(list)
    held_out: set[str] = set()
    for case, split, unit in cases:
        of_unit[unit].append(case)
        if split == "val":
            held_out.add(unit)
    sizes: Counter[int] = Counter()
    assigned: dict[str, int] = {}
    order = sorted(of_unit, key=lambda unit: (-len(of_unit[unit]), hashlib.sha256(unit.encode()).digest()))
    for unit in order:
        fold = 0 if unit in held_out else min(range(1, FOLDS), key=lambda n: (sizes[n], n))
        sizes[fold] += len(of_unit[unit])
        assigned.update(dict.fromkeys(of_unit[unit], fold))
    return assigned
