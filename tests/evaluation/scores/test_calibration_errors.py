import numpy as np
import pytest
from sklearn import metrics as sk

from simclr_rhd.evaluation.scores.calibration_errors import (
    class_frequencies,
    classwise_calibration_error,
    expected_calibration_error,
    reliability,
    squared_errors,
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bins", [1, 10])
def test_the_class_wise_error_follows_its_definition(seed, bins):
    true, probabilities = samples(seed)
    error = 0.0
    for k in range(4):
        for number in range(1, bins + 1):
            rows = [i for i, p in enumerate(probabilities[:, k]) if np.ceil(round(p * bins, 9)) == number]
            rows += [i for i, p in enumerate(probabilities[:, k]) if p == 0 and number == 1]
            if rows:
                gap = (true[rows] == k).mean() - probabilities[rows, k].mean()
                error += len(rows) / len(true) * abs(gap) / 4
    assert classwise_calibration_error(true, probabilities, bins) == pytest.approx(error)


def test_the_shares_stand_beside_each_other():
    found = class_frequencies(np.array([0, 0, 1]), np.array([[0.5, 0.5], [1, 0], [0.3, 0.7]]), ["a", "b"])
    assert found["a"] == {"n": 2, "frequency": pytest.approx(2 / 3), "mean_probability": pytest.approx(0.6)}
    assert found["b"]["n"] == 1 and found["b"]["mean_probability"] == pytest.approx(0.4)


def samples(seed, n=97):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, n), np.round(rng.dirichlet(np.ones(4) / 2, n), 2)


def in_bins(true, probabilities, bins):
    """(confidence, right) of the samples of each bin, by its definition."""
    rows = zip(probabilities.tolist(), true, strict=True)
    top = [(max(row), row.index(max(row)) == number) for row, number in rows]
    return [
        [(p, right) for p, right in top if np.ceil(round(p * bins, 9)) == number]
        for number in range(1, bins + 1)
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bins", [1, 5, 10])
def test_the_calibration_error_and_its_diagram_follow_their_definition(seed, bins):
    true, probabilities = samples(seed)
    members, found = in_bins(true, probabilities, bins), reliability(true, probabilities, bins)
    assert found["count"] == [len(rows) for rows in members]
    error = 0.0
    for number, rows in enumerate(members):
        if not rows:
            assert found["confidence"][number] is None and found["accuracy"][number] is None
            continue
        confidence, accuracy = np.mean(rows, axis=0)
        assert found["confidence"][number] == pytest.approx(confidence)
        assert found["accuracy"][number] == pytest.approx(accuracy)
        error += len(rows) / len(true) * abs(accuracy - confidence)
    assert expected_calibration_error(true, probabilities, bins) == pytest.approx(error, rel=0, abs=1e-12)


def test_calibration_at_the_ends():
    assert expected_calibration_error(np.array([0, 1]), np.eye(2)) == 0
    assert expected_calibration_error(np.array([1, 0]), np.eye(2)) == 1
    nothing = reliability(np.zeros(0, dtype=int), np.zeros((0, 2)))
    assert nothing == {"confidence": [None] * 10, "accuracy": [None] * 10, "count": [0] * 10}


def test_squared_errors_add_up_to_the_brier_scores_of_the_classes():
    true, probabilities = samples(0)
    of_classes = [sk.brier_score_loss(true == k, probabilities[:, k]) for k in range(4)]
    assert squared_errors(true, probabilities).mean() == pytest.approx(sum(of_classes), abs=1e-12)
