"""Rankings of what is wrong, against scikit-learn, torch-uncertainty and counting by hand."""

import numpy as np
import pytest

from segdiff_jax.evaluation import ranking_scores

INDEX = np.arange(400)
P = np.round(((INDEX * 0.6180339887) % 1) ** 2, 3)
Y = ((INDEX * 0.7548776662) % 1) < 0.8 * P + 0.05
WRONG, DOUBT = (P > 0.5) != Y, P * (1 - P)


def test_detection_is_that_of_scikit_learn_and_torch_uncertainty():
    # sklearn 1.9.1 roc_auc_score, average_precision_score; torch_uncertainty 0.13.0 FPR95
    found = ranking_scores.detection(DOUBT, WRONG, ~WRONG)
    assert found.auroc == pytest.approx(0.715997317899492, rel=1e-12)
    assert found.aupr == pytest.approx(0.42956454459868726, rel=1e-12)
    assert found.fpr95 == pytest.approx(0.7727, abs=5e-5)


def test_weights_stand_for_repeated_cases():
    score, hits, alarms = np.array([3.0, 1.0, 2.0]), np.array([2, 0, 1]), np.array([1, 4, 0])
    one_by_one = np.repeat(score, hits + alarms)
    positive = np.concatenate([[True] * h + [False] * a for h, a in zip(hits, alarms, strict=True)])
    found = ranking_scores.detection(score, hits, alarms)
    assert found == ranking_scores.detection(one_by_one, positive, ~positive)
    assert found.auroc == ranking_scores.auroc(one_by_one, positive)


def test_without_positives_or_negatives_nothing_is_detected():
    assert np.isnan(ranking_scores.auroc(np.arange(3.0), np.zeros(3, bool)))
    assert np.isnan(ranking_scores.auroc(np.arange(3.0), np.ones(3, bool)))


def test_deferral_removes_the_errors_among_the_most_uncertain():
    doubt, wrong = np.array([0.4, 0.3, 0.2, 0.1]), np.array([True, False, True, False])
    assert ranking_scores.removed(doubt, wrong, ~wrong, 0.25) == 0.5
    assert ranking_scores.removed(doubt, wrong, ~wrong, 0.75) == 1.0
    same = np.ones(4)  # equal doubt: a quarter of the cases holds a quarter of the errors
    assert ranking_scores.removed(same, wrong, ~wrong, 0.25) == 0.25


def test_the_area_under_the_risk_coverage_curve_is_that_of_torch_uncertainty():
    # torch_uncertainty 0.13.0 AURC: the trapezoidal rule, divided by 1 - 1 / n
    i = np.arange(50)
    first = (i * 0.41421356) % 1 / 2
    scores, predicted = np.maximum(first, 1 - first), first > 0.5
    risk = (predicted != ((i * 0.7320508) % 1 < 0.3)).astype(float)
    curve = ranking_scores.curve(scores, risk)
    area = np.trapezoid(curve, np.arange(1, 51) / 50) / (1 - 1 / 50)
    assert area == pytest.approx(0.33379160948398906, abs=1e-6)  # float32 there


def test_the_gap_is_closed_by_the_perfect_order_and_not_by_a_constant():
    risk = np.array([0.1, 0.5, 0.2, 0.9])
    perfect = ranking_scores.risk_coverage(-risk, risk)
    assert perfect.closed == 1 and perfect.e_aurc == 0
    assert perfect.aurc == pytest.approx(np.mean([0.1, 0.15, 0.8 / 3, 1.7 / 4]))
    constant = ranking_scores.risk_coverage(np.zeros(4), risk)
    assert constant.closed == pytest.approx(0, abs=1e-12)
    assert constant.aurc == pytest.approx(risk.mean())
    assert np.isnan(ranking_scores.risk_coverage(risk, np.ones(4)).closed)


def test_the_rank_correlation_of_a_constant_is_undefined():
    assert ranking_scores.spearman(np.array([1.0, 2, 3]), np.array([1.0, 8, 27])) == pytest.approx(
        1
    )
    assert np.isnan(ranking_scores.spearman(np.ones(3), np.arange(3)))
