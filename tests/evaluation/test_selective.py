import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from untrained_run import make_dataset

from simclr_rhd.data.labelled_set import build_labelled_set
from simclr_rhd.evaluation.selective import (
    ABSTAIN_ALWAYS,
    choose_threshold,
    confidence_thresholds,
    coverage_and_risk,
    evaluate_selective,
    risk_coverage,
)

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import selective_risk  # noqa: E402


def test_risk_and_coverage_by_hand():
    confidence = np.array([0.9, 0.6, 0.8, 0.6, 0.5])
    right = np.array([True, False, True, True, False])
    thresholds, coverage, risk = risk_coverage(confidence, right)
    assert thresholds.tolist() == [0.9, 0.8, 0.6, 0.5]  # a tie is taken whole
    assert coverage.tolist() == pytest.approx([0.2, 0.4, 0.8, 1.0])
    assert risk.tolist() == pytest.approx([0, 0, 0.25, 0.4])


def clopper_pearson(mistakes, n):
    """Upper end of the exact one-sided 90 % interval."""
    return binomtest(mistakes, n).proportion_ci(0.8, method="exact").high


def sure_of(n, wrong=()):
    """One answer a patient, the surest first; `wrong` are the numbers of those that are wrong."""
    confidence = 0.985 - 0.96 * np.arange(n) / n
    return confidence, ~np.isin(np.arange(n), wrong), np.arange(n)


@pytest.mark.parametrize("n", [21, 22, 40, 100])
def test_without_a_mistake_a_proof_takes_as_many_patients_as_the_exact_bound_says(n):
    found = choose_threshold(*sure_of(n))
    assert (found.threshold < ABSTAIN_ALWAYS) == (clopper_pearson(0, n) <= 0.1) == (n >= 22)
    assert bool(found.reason) == (n < 22)
    assert "21 validation groups are too few; a proof takes 22" in found.reason or n > 21


def test_the_threshold_is_the_last_of_the_sequence_whose_bound_holds():
    confidence, right, patients = sure_of(100, wrong=[30, 55, 56, 57, 70, 71, 72, 73, 74])
    expected = None
    for percent in range(99, -1, -1):  # one after the other, until the first that fails
        answered = confidence >= percent / 100
        if answered.sum() < 50:
            continue
        if clopper_pearson(int((~right[answered]).sum()), int(answered.sum())) > 0.1:
            break
        expected = percent / 100
    found = choose_threshold(confidence, right, patients)
    assert found.threshold == expected and found.reason == ""
    assert (~right[confidence >= expected]).mean() < 0.07, "an empirical risk well below 0.1"


def test_mistakes_among_the_surest_answers_leave_nothing_proved():
    found = choose_threshold(*sure_of(60, wrong=[3, 9, 15, 21]))
    assert found.threshold == ABSTAIN_ALWAYS
    assert "of the most confident predictions of 30 validation groups 13.3% are wrong" in found.reason


def test_frames_of_a_patient_are_one_observation():
    """Ten patients with a hundred right answers each prove nothing; a hundred such patients do."""
    few = np.repeat(np.arange(10), 100)
    assert choose_threshold(np.full(1000, 0.9), np.ones(1000, bool), few).threshold == ABSTAIN_ALWAYS
    many = np.repeat(np.arange(100), 10)
    right = np.arange(1000) % 100 > 3  # four in ten of every tenth patient's are wrong
    found = choose_threshold(np.full(1000, 0.9), right, many)
    assert found.threshold == 0 and binom.cdf(4, 100, 0.1) <= 0.05


def test_without_samples_nothing_is_proved():
    found = choose_threshold(np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0))
    assert found.threshold == ABSTAIN_ALWAYS and "0 validation groups are too few" in found.reason
    assert coverage_and_risk(np.array([0.9]), np.array([True]), ABSTAIN_ALWAYS) == (0, None)


@pytest.mark.parametrize("patients", [11, 50, 100])
def test_in_simulated_studies_the_limit_is_broken_in_at_most_one_of_ten(patients):
    found = selective_risk.simulate(patients, studies=300)
    assert found["broken"] <= 0.1 and found["by the empirical risk"] > 0.3
    assert (found["accepting"] == 0) == (patients == 11)


@pytest.fixture(scope="module")
def study():
    """167 patients, of whom the answers on the uncertain ones are wrong."""
    cohort = build_labelled_set(
        make_dataset({"view": ["A4C", "PLAX"], "condition": [], "severity": []}, patients=200),
        multilabel=False,
    )
    (question,) = cohort.targets()
    sure = np.arange(len(cohort.paths)) % 2 == 0
    predicted = np.where(sure, question.true, 1 - question.true)
    p = np.where(sure, 0.95, 0.6)
    table = np.where(np.arange(2) == predicted[:, None], p[:, None], 1 - p[:, None])
    return cohort, {"view": table}


def test_a_threshold_of_the_validation_part_keeps_wrong_answers_from_the_tested(study):
    cohort, table = study
    found = evaluate_selective(cohort, [table])["view"].frame
    assert found.thresholds == [0.61] and found.reasons == [""] and found.risk == 0
    assert found.coverage == pytest.approx(0.5, abs=0.1)
    assert found.curve["coverage"][-1] == 1 and found.curve["risk"][-1] == pytest.approx(0.5, abs=0.1)


def test_what_the_kept_heads_need_is_chosen_on_their_own_part(study):
    cohort, table = study
    assert confidence_thresholds(cohort, table, cohort.folds[0])["view"]["frame"].threshold == 0.61
    found = confidence_thresholds(cohort, table, np.full(len(cohort.paths), "train"))["view"]
    assert all(
        found[level].threshold == ABSTAIN_ALWAYS and found[level].reason for level in ("frame", "video")
    )
