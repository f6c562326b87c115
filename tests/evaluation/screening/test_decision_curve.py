import numpy as np
import pandas
import pytest
from dcurves import dca

from simclr_rhd.evaluation.screening.decision_curve import THRESHOLDS, decision_curve
from simclr_rhd.evaluation.screening.rates import ScreeningScores


def simulated(rng, n, share):
    ill = rng.random(n) < share
    probability = np.clip(rng.beta(1, 8, n) + 0.2 * ill * rng.random(n), 0, 1)
    return ScreeningScores(ill, probability, np.arange(n))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(50))
def test_net_benefit_is_that_of_dcurves(seed):
    rng = np.random.default_rng(seed)
    scores = simulated(rng, int(rng.integers(4, 200)), rng.choice([0.05, 0.3, 0.9]))
    if not scores.n_positive or not scores.n_negative:
        assert decision_curve(scores, seed=0) == []
        return
    table = pandas.DataFrame({"ill": scores.positive.astype(int), "p": scores.score})
    theirs = dca(data=table, outcome="ill", modelnames=["p"], thresholds=np.array(THRESHOLDS))
    of = {name: rows.set_index("threshold")["net_benefit"] for name, rows in theirs.groupby("model")}
    for point in decision_curve(scores, seed=0):
        for mine, name in ((point.model.value, "p"), (point.everyone, "all")):
            assert mine == pytest.approx(of[name][point.threshold], abs=1e-12)
        best = max(of["all"][point.threshold], 0)
        assert point.advantage.value == pytest.approx(of["p"][point.threshold] - best, abs=1e-12)
        assert point.model.low <= point.model.value <= point.model.high


def test_a_perfect_model_finds_all_and_alarms_no_one():
    ill = np.repeat([True, False], [30, 70])
    for point in decision_curve(ScreeningScores(ill, ill.astype(float), np.arange(100)), seed=0):
        assert point.model.value == pytest.approx(0.3) and point.advantage.low > 0
