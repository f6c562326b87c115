from dataclasses import replace

import pytest

from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.evaluation.screening.rates import Rates
from simclr_rhd.evaluation.screening.records import OperatingPoint, ScreeningResult
from simclr_rhd.report.screening import (
    few_exams_note,
    format_people,
    operating_point_text,
    screened_rows,
    screened_text,
)

RESULT = ScreeningResult("severity", ["Definite RHD"], ["Normal"], "patient", 30, 40, 0, ["mean"], 141)


SPECIFICITY = Score(0.8, 0.7, 0.9)


def make_point(thresholds, specificity=SPECIFICITY):
    ratio = Score(4.5, 3.0, 6.0)
    rates = Rates(Score(0.9, 0.8, 0.95), specificity, ratio, ratio)
    return OperatingPoint("sensitivity 0.90", thresholds, 12, 24, rates, [rates.at_prevalence(0.0125)])


@pytest.mark.parametrize(
    ("positive", "negative", "words"),
    [(30, 40, ""), (6, 40, "Only 6 positive patients:"), (30, 1, "Only 1 negative patient:")],
)
def test_too_few_of_either_kind_are_told(positive, negative, words):
    note = few_exams_note(replace(RESULT, n_positive=positive, n_negative=negative))
    assert note.startswith(words) and bool(note) == bool(words)
    assert "takes 141 of each kind" in note or not words
    assert "6 positive patients and 1 negative patient" in few_exams_note(
        replace(RESULT, n_positive=6, n_negative=1)
    )


def test_folds_without_a_threshold_are_told_and_so_is_what_the_rates_rest_on():
    text = operating_point_text(make_point([0.4, None, 0.5]))
    assert "(of 12 positive and 24 negative, without 1 of 3 folds whose validation part gives no" in text
    assert "without" not in operating_point_text(make_point([0.4, 0.5]))
    assert operating_point_text(make_point([None])).startswith("No threshold for sensitivity 0.90")


@pytest.mark.parametrize(
    ("n", "text"), [(1000, "1000"), (118.4, "118"), (19.67, "19.7"), (12, "12"), (0.33, "0.33"), (0, "0")]
)
def test_a_missed_patient_is_not_rounded_away(n, text):
    assert format_people(n) == text


def test_counts_of_a_thousand_add_up_in_words():
    (values,) = screened_rows(make_point([0.4]))
    assert screened_text(values) == (
        "Of 1,000 screened, 12.5 of them ill: 209 sent on, 11.2 of them ill, 1.2 missed."
    )


def test_a_rate_without_an_interval_promises_nothing_of_a_thousand():
    assert screened_rows(make_point([0.4], specificity=Score(1.0))) == []
