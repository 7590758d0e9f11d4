"""Classification metrics against scikit-learn's and torchmetrics'."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torchmetrics.functional import classification as functional

from us43d.evaluate import classification


def case(seed: int, classes: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes)) + 1.2 * np.eye(classes)[truth]
    return truth, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_agree(classes: int) -> None:
    truth, chances = case(classes, classes)
    found, called = classification.scored(truth, chances), chances.argmax(1)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, called, average="macro", zero_division=0)
    assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, f1))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, called))
    area = np.mean([metrics.roc_auc_score(truth == n, chances[:, n]) for n in range(classes)])
    assert found.auroc == pytest.approx(area)


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_and_calibration_agree_with_torchmetrics(classes: int) -> None:
    truth, chances = case(classes + 10, classes, 500)
    found = classification.scored(truth, chances)
    given = torch.from_numpy(chances), torch.from_numpy(truth), classes
    assert found.accuracy == pytest.approx(float(functional.multiclass_accuracy(*given, average="micro")))
    for name, own in (("precision", found.precision), ("recall", found.recall), ("f1_score", found.f1)):
        assert own == pytest.approx(float(getattr(functional, f"multiclass_{name}")(*given, average="macro"))), name
    assert found.auroc == pytest.approx(float(functional.multiclass_auroc(*given, average="macro")), abs=1e-6)
    error = functional.multiclass_calibration_error(*given, n_bins=classification.BINS, norm="l1")
    assert found.ece == pytest.approx(float(error), abs=1e-6)


def test_ties_of_auroc_count_half() -> None:
    positive, score = np.array([True, False, True, False]), np.array([0.5, 0.5, 0.9, 0.1])
    assert classification.auroc(positive, score) == pytest.approx(metrics.roc_auc_score(positive, score))
    assert np.isnan(classification.auroc(np.array([True, True]), np.array([0.1, 0.2])))


def test_calibration() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 50_000)
    chances = np.stack([sure, 1 - sure], 1)
    honest = (rng.random(50_000) > sure).astype(np.int64)
    assert classification.calibration(honest, chances).ece < 0.01
    boastful = (rng.random(50_000) > 0.5).astype(np.int64)
    found = classification.calibration(boastful, chances)
    assert found.ece == pytest.approx(0.25, abs=0.01)
    assert "<svg" in classification.reliability(found)


def test_intervals_draw_groups() -> None:
    truth, chances = case(1, 2, 60)
    alone = classification.with_intervals(truth, chances, np.arange(60), rounds=300)["accuracy"]
    groups = np.arange(60) // 20
    few = classification.with_intervals(truth, chances, groups, rounds=300)["accuracy"]
    assert alone["low"] < alone["mean"] < alone["high"]
    assert few["mean"] == alone["mean"]
    one = classification.with_intervals(truth, chances, np.zeros(60), rounds=300)["accuracy"]
    assert np.isnan(one["low"])


def test_nothing_to_score() -> None:
    assert np.isnan(classification.scored(np.zeros(0, np.int64), np.zeros((0, 2))).f1)
