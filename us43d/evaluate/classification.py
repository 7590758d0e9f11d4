"""Classification metrics: precision, recall, F1, AUROC, calibration, with intervals by the bootstrap over groups.

The definitions are those of scikit-learn; tests compare the results.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d import report

__all__ = ["BINS", "Calibration", "ClassScores", "auroc", "calibration", "reliability", "scored", "with_intervals"]

#: Bins of the expected calibration error (Guo et al. 2017).
BINS = 15


class ClassScores(NamedTuple):
    """Classification metrics; macro means are over the classes that occur in the truth.

    Attributes:
        accuracy: Fraction of correct predictions.
        precision: Macro precision.
        recall: Macro recall.
        f1: Macro F1.
        auroc: Macro area under the ROC curve, one class against the rest.
        ece: Expected calibration error.
        majority: Accuracy of always predicting the most frequent class.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    auroc: float
    ece: float
    majority: float


def scored(truth: NDArray[np.int64], chances: NDArray[np.float64]) -> ClassScores:
    """Compute classification metrics.

    Args:
        truth: (N,) class numbers.
        chances: (N, K) probabilities.

    Returns:
        The metrics. A class that is never predicted has precision 0; AUROC is NaN if all items belong to one class.
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
    """Compute the area under the ROC curve: probability that a positive scores above a negative; ties count half."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place][positive].sum() - n * (n + 1) / 2) / (n * m))


class Calibration(NamedTuple):
    """Calibration by bins of confidence.

    Attributes:
        confidence: (BINS,), mean probability of the predicted class; NaN for an empty bin.
        accuracy: (BINS,), fraction of correct predictions; NaN for an empty bin.
        items: (BINS,), number of items.
        ece: Expected calibration error, the mean |accuracy − confidence| over items.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    items: NDArray[np.int64]
    ece: float


def calibration(truth: NDArray[np.int64], chances: NDArray[np.float64]) -> Calibration:
    """Compare confidence with accuracy (Guo et al. 2017, ICML).

    Args:
        truth: (N,) class numbers.
        chances: (N, K) probabilities.
    """
    sure, right = chances.max(1), chances.argmax(1) == truth
    bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    items = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, sure, BINS) / items
        accuracy = np.bincount(bins, right, BINS) / items
    gaps = np.abs(accuracy - confidence)[items > 0]
    return Calibration(confidence, accuracy, items, float((gaps * items[items > 0]).sum() / max(1, len(truth))))


def reliability(bins: Calibration) -> str:
    """Draw a reliability plot as SVG: accuracy over confidence, with the diagonal."""
    some = bins.items > 0
    series = [
        report.Series("model", bins.confidence[some].tolist(), bins.accuracy[some].tolist()),
        report.Series("calibrated", [0.0, 1.0], [0.0, 1.0]),
    ]
    return report.lines(series, "confidence", "accuracy", floor=0.0)


def with_intervals(
    truth: NDArray[np.int64], chances: NDArray[np.float64], groups: NDArray[Any], *, seed: int = 0, rounds: int = 1000
) -> dict[str, dict[str, float]]:
    """Compute the metrics with 95 % percentile intervals by the bootstrap over groups.

    A round in which a metric is undefined (a single class) does not count for it.

    Args:
        truth: (N,) class numbers.
        chances: (N, K) probabilities.
        groups: (N,), the group of each item.
        seed: Of the bootstrap.
        rounds: Rounds of the bootstrap.

    Returns:
        Metric → mean, low, high.
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
