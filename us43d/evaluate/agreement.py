"""Agreement of two measurements of the same quantity: bias, limits of agreement, Bland-Altman plot."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d import report
from us43d.evaluate.metrics import Interval, bootstrap

__all__ = ["Agreement", "agreement", "plot"]


class Agreement(NamedTuple):
    """Differences of measured and reference values, in their unit.

    Attributes:
        bias: Mean difference with its 95 % interval by the bootstrap over groups.
        low: Lower 95 % limit of agreement.
        high: Upper 95 % limit of agreement.
        absolute: Mean absolute difference.
        percent: Mean absolute difference in percent of the reference.
        n: Number of pairs.
        missing: Number of pairs with a value that could not be measured.
    """

    bias: Interval
    low: float
    high: float
    absolute: float
    percent: float
    n: int
    missing: int


def agreement(
    measured: NDArray[np.float64], reference: NDArray[np.float64], groups: NDArray[np.int64], *, seed: int = 0
) -> Agreement:
    """Compare measured with reference values, pair by pair.

    Limits of agreement are bias ± 1.96 standard deviations of the differences (Bland, Altman 1986, Lancet 327:307-310).
    They treat pairs as independent: if groups have several pairs, the limits are too narrow, but not the interval of
    the bias.

    Args:
        measured: (N,).
        reference: (N,). Pairs with a non-finite value are counted as missing.
        groups: (N,), the group of each pair.
        seed: Of the bootstrap.
    """
    known = np.isfinite(measured) & np.isfinite(reference)
    gap, truth = (measured - reference)[known], reference[known]
    bias = bootstrap(gap, groups[known], seed=seed)
    spread = 1.96 * float(gap.std(ddof=1)) if len(gap) > 1 else np.nan
    relative = np.abs(gap[truth != 0] / truth[truth != 0])
    return Agreement(
        bias,
        bias.mean - spread,
        bias.mean + spread,
        float(np.abs(gap).mean()) if len(gap) else np.nan,
        100 * float(relative.mean()) if len(relative) else np.nan,
        len(gap),
        int((~known).sum()),
    )


def plot(measured: NDArray[np.float64], reference: NDArray[np.float64], unit: str) -> str:
    """Draw a Bland-Altman plot as SVG: differences over means, with bias and limits of agreement."""
    known = np.isfinite(measured) & np.isfinite(reference)
    measured, reference = measured[known], reference[known]
    result = agreement(measured, reference, np.arange(len(measured)))
    return report.scatter(
        (measured + reference) / 2,
        measured - reference,
        f"mean of measured and reference, {unit}",
        f"measured − reference, {unit}",
        {"bias": result.bias.mean, "bias − 1.96 SD": result.low, "bias + 1.96 SD": result.high},
    )
