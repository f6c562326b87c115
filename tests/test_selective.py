import numpy as np
import pytest
from a_run import make_dataset

from simclr_rhd.cohort import cohort_of
from simclr_rhd.selective import (
    NEVER,
    at_threshold,
    choose_threshold,
    risk_coverage,
    selective,
    thresholds_of,
)


def test_risk_and_coverage_by_hand():
    confidence = np.array([0.9, 0.6, 0.8, 0.6, 0.5])
    right = np.array([True, False, True, True, False])
    thresholds, coverage, risk = risk_coverage(confidence, right)
    assert thresholds.tolist() == [0.9, 0.8, 0.6, 0.5]  # a tie is taken whole
    assert coverage.tolist() == pytest.approx([0.2, 0.4, 0.8, 1.0])
    assert risk.tolist() == pytest.approx([0, 0, 0.25, 0.4])


@pytest.mark.parametrize(
    ("most_wrong", "threshold"), [(0.0, 0.8), (0.2, 0.8), (0.25, 0.6), (0.4, 0.5), (1.0, 0.5)]
)
def test_the_threshold_answers_as_many_as_may_be(most_wrong, threshold):
    confidence = np.array([0.9, 0.6, 0.8, 0.6, 0.5])
    right = np.array([True, False, True, True, False])
    assert choose_threshold(confidence, right, most_wrong=most_wrong) == threshold
    assert at_threshold(confidence, right, threshold)["risk"] <= most_wrong


def test_who_is_always_wrong_never_answers_and_without_samples_nothing_is_known():
    assert choose_threshold(np.array([0.9, 0.8]), np.array([False, False])) == NEVER
    assert choose_threshold(np.zeros(0), np.zeros(0, dtype=bool)) is None
    found = at_threshold(np.array([0.9]), np.array([True]), NEVER)
    assert found["coverage"] == 0 and np.isnan(found["risk"])


@pytest.fixture(scope="module")
def study():
    """24 patients, of whom the answers on the uncertain ones are wrong."""
    cohort = cohort_of(
        make_dataset({"view": ["A4C", "PLAX"], "condition": [], "severity": []}), multilabel=False
    )
    (question,) = cohort.questions()
    sure = np.arange(len(cohort.paths)) % 2 == 0
    said = np.where(sure, question.true, 1 - question.true)
    p = np.where(sure, 0.95, 0.6)
    table = np.where(np.arange(2) == said[:, None], p[:, None], 1 - p[:, None])
    return cohort, {"view": table}


def test_a_threshold_of_the_validation_part_keeps_wrong_answers_from_the_tested(study):
    cohort, table = study
    found = selective(cohort, [table])["view"]["frame"]
    assert found["thresholds"] == [0.95] and found["risk"] == 0
    assert found["coverage"] == pytest.approx(0.5, abs=0.1)
    assert found["curve"]["coverage"][-1] == 1 and found["curve"]["risk"][-1] == pytest.approx(0.5, abs=0.1)


def test_what_the_kept_heads_need_is_chosen_on_their_own_part(study):
    cohort, table = study
    assert thresholds_of(cohort, table, cohort.folds[0])["view"]["frame"] == 0.95
    nobody = np.full(len(cohort.paths), "train")
    assert thresholds_of(cohort, table, nobody) == {"view": {"frame": None, "video": None}}
