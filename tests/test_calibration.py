import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as sk

from simclr_rhd.calibration import expected_calibration_error, fit_temperature, reliability, squared_errors


def brute_force(loss):
    """The best of 4,500 temperatures, 1 in 1,000 apart."""
    grid = np.exp(np.arange(-2.0, 2.5, 0.001))
    return grid[np.argmin([loss(temperature) for temperature in grid])]


@pytest.mark.parametrize(("sharper", "n"), [(0.3, 41), (1, 300), (4, 300), (6, 300)])
def test_the_temperature_is_the_best_of_a_grid(sharper, n):
    rng = np.random.default_rng(n)
    logits = rng.normal(size=(n, 3)) * 2
    true = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    logits *= sharper

    def loss(temperature):
        return -np.log(softmax(logits / temperature, axis=1)[np.arange(n), true]).mean()

    assert fit_temperature(logits, true) == pytest.approx(brute_force(loss), rel=1e-3)


def test_the_temperature_of_sigmoids_is_the_best_of_a_grid():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(150, 4))
    true = (expit(logits) > rng.random(logits.shape)).astype(int)
    logits *= 3

    def loss(temperature):
        return -np.log(expit(np.where(true == 1, logits, -logits) / temperature)).mean()

    assert fit_temperature(logits, true) == pytest.approx(brute_force(loss), rel=1e-3)


def test_the_temperature_of_nothing_is_one_and_stays_in_its_bounds():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)) == 1.0
    sure = np.array([[900.0, 0], [0, 900]])
    assert fit_temperature(sure / 1e4, np.array([0, 1])) == pytest.approx(1 / 20, rel=1e-4)
    assert fit_temperature(sure, np.array([1, 0])) == pytest.approx(20, rel=1e-4)


@pytest.mark.parametrize("doubt", [0.01, 0.1])
def test_doubt_keeps_probabilities_away_from_certainty_where_all_is_right(doubt):
    """Two classes that are never mistaken: the best probability is that of the label with its doubt."""
    true = np.array([0, 1, 1])
    logits = 3.0 * np.eye(2)[true]
    temperature = fit_temperature(logits, true, doubt=doubt)
    assert softmax(logits / temperature, axis=1).max(axis=1) == pytest.approx(1 - doubt / 2, abs=1e-6)
    of_sigmoids = fit_temperature(logits - 1.5, np.eye(2)[true], doubt=doubt)
    assert expit((logits - 1.5) / of_sigmoids).max() == pytest.approx(1 - doubt / 2, abs=1e-6)
    assert fit_temperature(logits, true) < 0.1, "without doubt, as sure as it gets"


@pytest.mark.parametrize("units", [1, 5, 50, 100_000])
def test_the_fewer_units_the_nearer_to_one(units):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 3))
    true = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((300, 1))).argmax(axis=1)

    def loss(temperature):
        likely = np.log(softmax(4 * logits / temperature, axis=1)[np.arange(300), true]).mean()
        return np.log(temperature) ** 2 / (2 * 0.5**2 * units) - likely

    held, free = fit_temperature(4 * logits, true, units=units), fit_temperature(4 * logits, true)
    assert held == pytest.approx(brute_force(loss), rel=1e-3)
    assert 1 < held < free and (units < 100_000 or held == pytest.approx(free, rel=1e-3))
    assert units > 1 or held < 0.9 * free


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
    assert expected_calibration_error(true, probabilities, bins) == pytest.approx(error)


def test_calibration_at_the_ends():
    assert expected_calibration_error(np.array([0, 1]), np.eye(2)) == 0
    assert expected_calibration_error(np.array([1, 0]), np.eye(2)) == 1
    nothing = reliability(np.zeros(0, dtype=int), np.zeros((0, 2)))
    assert nothing == {"confidence": [None] * 10, "accuracy": [None] * 10, "count": [0] * 10}


def test_squared_errors_add_up_to_the_brier_scores_of_the_classes():
    true, probabilities = samples(0)
    of_classes = [sk.brier_score_loss(true == k, probabilities[:, k]) for k in range(4)]
    assert squared_errors(true, probabilities).mean() == pytest.approx(sum(of_classes), abs=1e-12)
