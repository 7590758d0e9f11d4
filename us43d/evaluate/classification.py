"""How well classes are predicted: precision, recall, F1, AUROC, calibration; intervals by the bootstrap over groups.

The definitions are scikit-learn's, which the tests compare with.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d import report

__all__ = ["BINS", "Calibration", "ClassScores", "auroc", "calibration", "reliability", "scored", "with_intervals"]

#: Bins of the expected calibration error (Guo et al. 2017).
BINS = 15


class ClassScores(NamedTuple):
    """accuracy, and macro means over the classes that occur in the truth: precision, recall, f1, auroc. majority: the
    accuracy of always predicting the most frequent class. ece: expected calibration error."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    auroc: float
    ece: float
    majority: float


def scored(truth: NDArray[np.int64], chances: NDArray[np.float64]) -> ClassScores:
    """Score predictions.

    Args:
        truth: (N,) class numbers.
        chances: (N, K) probabilities.

    Returns:
        The scores. A class that is never predicted has precision 0; AUROC is NaN where all items are of one class.
    """
    if len(truth) == 0:
        return ClassScores(**dict.fromkeys(ClassScores._fields, float("nan")))
    predicted, classes = chances.argmax(1), np.unique(truth)
    precision, recall, f1, areas = [], [], [], []
    for number in classes:
        hit = int(((predicted == number) & (truth == number)).sum())
        called, actual = int((predicted == number).sum()), int((truth == number).sum())
        precision.append(hit / called if called else 0.0)
        recall.append(hit / actual)
        f1.append(2 * hit / (called + actual))
        areas.append(auroc(truth == number, chances[:, number]))
    return ClassScores(
        accuracy=float((predicted == truth).mean()),
        precision=float(np.mean(precision)),
        recall=float(np.mean(recall)),
        f1=float(np.mean(f1)),
        auroc=float(np.mean(areas)),
        ece=calibration(truth, chances).ece,
        majority=float(np.bincount(truth).max() / len(truth)),
    )


def auroc(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    """Area under the ROC curve: the chance that a positive item scores above a negative one; ties count half."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place][positive].sum() - n * (n + 1) / 2) / (n * m))


class Calibration(NamedTuple):
    """confidence, accuracy, items: of each bin (BINS,), NaN if empty. ece: mean |accuracy − confidence|."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    items: NDArray[np.int64]
    ece: float


def calibration(truth: NDArray[np.int64], chances: NDArray[np.float64]) -> Calibration:
    """Compare the probability of the predicted class with how often it is right (Guo et al. 2017, ICML)."""
    sure, right = chances.max(1), chances.argmax(1) == truth
    bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    items = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, sure, BINS) / items
        accuracy = np.bincount(bins, right, BINS) / items
    gaps = np.abs(accuracy - confidence)[items > 0]
    return Calibration(confidence, accuracy, items, float((gaps * items[items > 0]).sum() / max(1, len(truth))))


def reliability(bins: Calibration) -> str:
    """Draw a reliability plot as SVG: accuracy over confidence, and the diagonal."""
    some = bins.items > 0
    series = [
        report.Series("model", bins.confidence[some].tolist(), bins.accuracy[some].tolist()),
        report.Series("calibrated", [0.0, 1.0], [0.0, 1.0]),
    ]
    return report.lines(series, "confidence", "accuracy", floor=0.0)


def with_intervals(
    truth: NDArray[np.int64], chances: NDArray[np.float64], groups: NDArray[Any], *, seed: int = 0, rounds: int = 1000
) -> dict[str, dict[str, float]]:
    """Scores with 95 % intervals: whole groups are drawn with replacement.

    A round in which a score is not defined (one class alone) does not count for it.
    """
    whole = scored(truth, chances)._asdict()
    _, number = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(number == n) for n in range(int(number.max()) + 1)] if len(number) else []
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(rounds if len(members) > 1 else 0):
        rows = np.concatenate([members[n] for n in rng.integers(0, len(members), len(members))])
        samples.append(scored(truth[rows], chances[rows]))
    table = np.array(samples, float).reshape(-1, len(whole))
    result = {}
    for n, (name, value) in enumerate(whole.items()):
        known = table[np.isfinite(table[:, n]), n]
        low, high = np.percentile(known, (2.5, 97.5)) if len(known) else (np.nan, np.nan)
        result[name] = {"mean": value, "low": float(low), "high": float(high)}
    return result
