"""The words, the card and the page of an evaluation on another data set."""

from dataclasses import replace

import pytest
import yaml
from results import metrics, results, task_result

from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.evaluation.screening.records import ScreeningResult
from simclr_rhd.inference.external.class_mapping import ClassComparison
from simclr_rhd.inference.external.overlap import Overlap
from simclr_rhd.inference.external.recalibration import ScalingRecord
from simclr_rhd.inference.external.results import (
    ExternalDetails,
    ExternalFacts,
    ExternalResults,
    ModelSource,
    Novelty,
)
from simclr_rhd.report.card.front_matter import front_matter
from simclr_rhd.report.card.model_card import NOT_TESTED_ELSEWHERE
from simclr_rhd.report.page.external.card import extend_card
from simclr_rhd.report.page.external.page import write_external_page
from simclr_rhd.report.page.external.sentences import limits, summary, warnings
from simclr_rhd.report.page.external.verdict import verdict

CLASSES = {"view": ["Normal", "Definite RHD"]}
OVERLAP = Overlap(True, 40, 40, 7, 7, "", 0, 0, 0, 0)
RUN = {
    "config": {"data": "/hospital/Ann", "save_dir": "out"},
    "data": {"location": "/hospital/Ann", "synthetic": False},
    "evaluated": ["2026-01-02 03:04:05.000001"],
}


def make_results(*, overlap=OVERLAP, evaluations=1, unknown=None, low=0.6, init="random", screening=()):
    of_task = task_result(0.8, 0.6, low=low)
    for name in ("pixels", "random encoder"):  # need a training
        del of_task["baselines"][name], of_task["margins"][name]
    run: RunResults = results(metrics(view=of_task))
    run = replace(run, split=replace(run.split, parts={"test": {"frames": 40, "groups": 7}}))
    levels = run.targets["view"].test
    facts = ExternalFacts(
        model=ModelSource("0" * 64, 6, "home", init, CLASSES, list(screening)),
        data="feedbeef" * 8,
        evaluations=evaluations,
        overlap=overlap,
        classes={"view": ClassComparison(["Normal", "Definite RHD"], [], unknown or {})},
        majority_of="training part",
        novelty=Novelty(True, 40, 10, {"view": {"Normal": {"frames": 40, "foreign": 10}}}),
        targets={
            "view": ExternalDetails(
                levels if unknown else None, levels, ScalingRecord(1.5, {"Normal": 0.1}, {"Normal": 0.5})
            )
        },
        own_test={"view": {"video": 0.93}},
    )
    return ExternalResults(run, facts)


def test_the_summary_fits_a_terminal_and_has_the_scores_at_home():
    text = summary(make_results(), save_dir="out/")
    assert max(map(len, text.splitlines())) <= 110 and "0.93" in text and text.endswith("out/report.html")
    assert "10 of 40 frames (25%) are unlike" in text.replace("\n  ", " ")


def test_what_weakens_the_result_stands_before_it():
    unchecked = replace(OVERLAP, recorded=False)
    assert any("could not be checked" in line for line in warnings(make_results(overlap=unchecked)))
    own = replace(OVERLAP, tested_frames=3)
    assert any("own test part" in line for line in warnings(make_results(overlap=own)))
    assert any("began with the weights of a file" in line for line in warnings(make_results(init="a file")))
    assert not warnings(make_results())


def test_unknown_classes_are_named_with_their_numbers():
    found = make_results(unknown={"Sideways": {"frames": 12, "groups": 1}})
    lines = limits(found)
    assert any("does not know Sideways (12 frames of 1 group)" in line for line in lines)
    assert any("counted as wrong, accuracy per video 0.80" in line for line in lines)
    assert "Sideways" in verdict(found)["limits"]


@pytest.mark.parametrize(
    ("questions", "words"),
    [([], "the model has no screening tests"), (["grade=Severe"], "screening, grade=Severe: not evaluated")],
)
def test_screening_that_is_not_evaluated_is_named_with_the_reason(questions, words):
    assert any(words in line for line in limits(make_results(screening=questions)))


def test_classes_that_are_read_as_others_are_named():
    found = make_results()
    classes = {"view": ClassComparison(["Normal"], [], {}, {"Definite": "Definite RHD"})}
    lines = limits(replace(found, external=replace(found.external, classes=classes)))
    assert any("as the model calls them: Definite as Definite RHD" in line for line in lines)


def test_what_unknown_classes_leave_without_a_score_is_counted(tmp_path):
    found = make_results(unknown={"Sideways": {"frames": 12, "groups": 1}})
    details = replace(found.external.targets["view"], unscored={"video": 2, "patient": 1})
    screened = ScreeningResult("view", ["Definite RHD"], ["Normal"], "patient", 0, 5, 4, [], 139, undecided=3)
    found = ExternalResults(
        replace(found.run, screening={"view=Definite RHD": screened}),
        replace(found.external, targets={"view": details}),
    )
    lines = limits(found)
    assert any("2 videos and 1 patient with a frame of a class that the model does not" in x for x in lines)
    assert any("view=Definite RHD: left out 3 patients without a positive frame" in line for line in lines)
    write_external_page(tmp_path, found, RUN, None)
    page = (tmp_path / "report.html").read_text()
    assert ", 1 without a frame of either kind, left out" in page and page.count("left out 3 patients") == 2
    assert "not for that of this data set" in page


@pytest.mark.parametrize(("n", "words"), [(1, "once, as far as"), (3, "3 times: if it")])
def test_evaluations_are_counted(n, words):
    assert any(words in line for line in limits(make_results(evaluations=n)))


def test_tests_of_the_models_own_run_count_as_evaluations():
    found = make_results(evaluations=3)
    found = replace(found, external=replace(found.external, own_evaluations=2))
    assert any("3 times (2 of them by its own run" in line for line in limits(found))


def test_the_verdict_says_what_is_shown_and_what_not():
    assert "view (balanced accuracy per video 0.80" in verdict(make_results())["finding"]
    assert "0.93 in the test part of its own run" in verdict(make_results())["finding"]
    assert verdict(make_results(low=0.4))["finding"].startswith("No task is shown")
    assert "10 frames unlike" in verdict(make_results())["next_steps"]


def test_the_card_gains_a_section_once():
    card = f"# Model card\n\n## Limits\n\n{NOT_TESTED_ELSEWHERE}\n"
    once = extend_card(card, make_results(), RUN)
    assert "## External evaluation feedbeef" in once and NOT_TESTED_ELSEWHERE not in once
    assert "Evaluated on 2026-01-02" in once
    twice = extend_card(once, make_results(evaluations=2), RUN)
    assert twice.count("## External evaluation") == 1 and "2 times" in twice
    assert "## Limits" in twice


def test_the_front_matter_of_the_card_gains_the_figures_once():
    found = make_results()
    card = "\n".join([*front_matter(found.run, "home"), "# Model card", ""])
    once = extend_card(card, found, RUN)
    results = yaml.safe_load(once.split("---\n")[1])["model-index"][0]["results"]
    assert [entry["dataset"]["revision"] for entry in results] == ["home", "feedbeef" * 8]
    assert results[1]["dataset"] == results[0]["dataset"] | {
        "name": "another data set",
        "split": "all labelled frames",
        "revision": "feedbeef" * 8,
    }
    twice = extend_card(once, found, RUN)
    assert twice.count("feedbeef" * 8) == once.count("feedbeef" * 8) and "/hospital" not in twice


def test_the_page_names_no_folder_and_escapes_classes(tmp_path):
    found = make_results(unknown={"<b>Sideways</b>": {"frames": 12, "groups": 1}})
    write_external_page(tmp_path, found, RUN | {"command": "evaluate"}, None)
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;Sideways" in page and "<b>Sideways" not in page
    assert "/hospital" not in page and "classes that it does not know counted as wrong" in page


def test_metrics_have_the_scores_of_a_run_and_no_leak_audit():
    record = make_results().to_json()
    assert "audit" not in record and record["external"]["own_test"] == {"view": {"video": 0.93}}
    assert RunResults.from_json(record).targets["view"].test["video"]["balanced_accuracy"].value == 0.8
