import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from simulated import make_cross_validation, make_features, make_labelled_set
from sklearn.metrics import roc_auc_score

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.labels.tasks.flag import parse_tasks
from simclr_rhd.evaluation.config import ScreeningConfig
from simclr_rhd.evaluation.screening.exams import (
    MIXED,
    PATIENT,
    VIDEO,
    ExamScorer,
    labelled_evidence,
    make_exams,
)
from simclr_rhd.evaluation.screening.fit import choose_scorer, fit_scorers
from simclr_rhd.evaluation.screening.panel import evaluate_screening
from simclr_rhd.evaluation.screening.pooling import FIXED_POOLINGS, MEAN_POOLING, FrameEvidence
from simclr_rhd.evaluation.screening.positives import log_questions, screening_questions
from simclr_rhd.evaluation.screening.records import ScreeningResult
from simclr_rhd.heads.cross_validation import OURS

DEGREES = ["Normal", "Borderline RHD", "Definite RHD"]


def severity_set(patients=40, *, folds=1, frames=6, seed=0):
    """Patients of three degrees, with the degrees' own order."""
    of = make_labelled_set(patients, frames, classes=3, folds=folds, seed=seed)
    return replace(of, values={"severity": of.values["view"]}, classes={"severity": DEGREES})


def noisy_table(labelled_set, *, noise, seed=0):
    """Probabilities that know the degree, but for a noise of each patient's own."""
    rng = np.random.default_rng(seed)
    true = labelled_set.values["severity"]
    _, patient = np.unique(labelled_set.patients, return_inverse=True)
    logits = np.eye(3)[true] * 2 + noise * rng.normal(size=(patient.max() + 1, 3))[patient]
    return {"severity": np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)}


def evaluate(labelled_set, tables, **options):
    config = ScreeningConfig(**options)
    cv = make_cross_validation(labelled_set, make_features(labelled_set.groups))
    return evaluate_screening(config, cv, tables)


def test_without_a_flag_degrees_above_the_lowest_are_positive():
    labelled_set = severity_set()
    labelled_set = replace(labelled_set, classes={"severity": ["Not Applicable", "Normal", "Definite RHD"]})
    (question,) = screening_questions(labelled_set, ())
    assert question.name == "severity=Definite RHD" and question.negative == ("Normal",)
    # a frame of another class is on neither side
    assert question.status(np.array([0, 1, 2, -1])).tolist() == [-1, 0, 1, -1]


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        (["None", "Normal", "Mild", "Severe"], ["Mild", "Severe"]),
        (["Normal", "Screen Negative", "Screen Positive"], ["Screen Positive"]),
    ],
)
def test_no_degree_without_disease_is_positive(classes, positive):
    labelled_set = replace(severity_set(), classes={"severity": classes})
    (question,) = screening_questions(labelled_set, ())
    assert list(question.positive) == positive
    assert set(question.negative) == set(classes) - set(positive)


def test_without_a_normal_degree_nobody_is_taken_for_healthy(caplog):
    caplog.set_level("INFO", logger="simclr_rhd")
    labelled_set = replace(severity_set(), classes={"severity": ["Mild", "Moderate", "Severe"]})
    log_questions(labelled_set, ())
    assert "no screening panel" in caplog.text and "--positive" in caplog.text


def test_the_lowest_degree_of_a_users_own_scale_is_negative():
    (task,) = parse_tasks("grade=GRADE=low<middle<high")
    labelled_set = severity_set()
    labelled_set = replace(
        labelled_set,
        tasks=(task,),
        values={"grade": labelled_set.values["severity"]},
        classes={"grade": ["low", "middle", "high"]},
    )
    (question,) = screening_questions(labelled_set, ())
    assert question.name == "grade=middle,high" and question.negative == ("low",)


def test_a_lesion_is_positive_in_every_class_that_has_it():
    mitral, aortic = "Mitral Valve Regurgitation", "Aortic Valve Regurgitation"
    names = ["Healthy", mitral, f"{aortic} + {mitral}", "Not Applicable"]
    labelled_set = make_labelled_set(classes=4, names=names)
    labelled_set = replace(
        labelled_set, values={"condition": labelled_set.values["view"]}, classes={"condition": names}
    )
    (question,) = screening_questions(labelled_set, [f"condition={mitral}"])
    assert question.positive == tuple(names[1:3]) and question.negative == ("Healthy",)
    (question,) = screening_questions(labelled_set, [f"condition={aortic}"])
    assert question.positive == (names[2],)


def test_what_is_no_degree_is_on_neither_side_of_a_users_question():
    labelled_set = replace(severity_set(), classes={"severity": ["Not Applicable", "Mild", "Severe"]})
    (question,) = screening_questions(labelled_set, ["severity=Severe"])
    assert question.negative == ("Mild",)
    (question,) = screening_questions(labelled_set, ["severity=Not Applicable"])
    assert question.negative == ("Mild", "Severe")


def test_a_table_without_degrees_has_no_question_of_its_own():
    assert screening_questions(make_labelled_set(), ()) == []


def test_lesions_are_positive_where_one_of_them_is_present():
    names = ["Healthy", "Mitral Valve Regurgitation", "Aortic Valve Regurgitation"]
    labelled_set = make_labelled_set(classes=3, multilabel=True, names=names)
    flag = "condition=Mitral Valve Regurgitation"
    (question,) = screening_questions(labelled_set, [flag])
    assert question.multilabel and question.name == flag
    assert question.status(np.array([[0, 1], [1, 0], [-1, -1]])).tolist() == [0, 1, -1]
    (both,) = screening_questions(labelled_set, [f"{flag},Aortic Valve Regurgitation"])
    table = {"condition": np.array([[0.5, 0.5], [0.1, 0.0]])}
    assert both.probability(table) == pytest.approx([0.75, 0.1])


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("gravity=Definite RHD", "no task 'gravity' here; it can be severity"),
        ("severity=Definit", "no class 'Definit'; its classes are Normal, Borderline RHD, Definite RHD"),
        ("severity=", "some, not all"),
        ("severity", "some, not all"),
        ("severity=Normal,Borderline RHD,Definite RHD", "some, not all"),
    ],
)
def test_what_cannot_be_screened_for_is_a_users_error(flag, words):
    with pytest.raises(UserError, match=f"--positive {flag}") as error:
        screening_questions(severity_set(), [flag])
    assert words in str(error.value)


def test_one_positive_frame_makes_a_patient_positive():
    labelled_set = severity_set(patients=3, frames=4)
    values = np.array([0, 0, 0, 2, 0, 0, 0, 0, -1, -1, -1, -1])
    labelled_set = replace(labelled_set, values={"severity": values})
    (question,) = screening_questions(labelled_set, ())
    exams = make_exams(labelled_set, question, np.arange(12))
    assert exams.positive.tolist() == [True, False] and exams.left_out == 1
    assert exams.rows.tolist() == list(range(8)) and exams.exam.tolist() == [0] * 4 + [1] * 4


def test_a_patient_with_an_undecided_frame_is_positive_or_left_out():
    labelled_set = severity_set(patients=3, frames=4)
    values = np.array([0, 0, -1, 2, 0, 0, 0, -1, 0, 0, 0, 0])
    labelled_set = replace(labelled_set, values={"severity": values})
    (question,) = screening_questions(labelled_set, ())
    exams = make_exams(labelled_set, question, np.arange(12), np.isin(np.arange(12), [2, 7]))
    assert exams.positive.tolist() == [True, False] and (exams.left_out, exams.undecided) == (1, 1)
    assert exams.rows.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]


@pytest.mark.parametrize(("known", "unit", "n"), [(12, PATIENT, 3), (0, VIDEO, 6), (4, MIXED, 5)])
def test_exams_are_of_patients_and_of_videos_where_they_are_not_known(known, unit, n):
    labelled_set = severity_set(patients=3, frames=4)
    patients = np.where(np.arange(12) < known, labelled_set.patients, "")
    labelled_set = replace(labelled_set, patients=patients)
    (question,) = screening_questions(labelled_set, ())
    result = evaluate(labelled_set, {OURS: [noisy_table(labelled_set, noise=1.0)]})[question.name]
    assert result.unit == unit
    assert len(make_exams(labelled_set, question, np.arange(12)).positive) == n


def test_the_area_is_that_of_scikit_learn_and_the_result_is_read_back():
    labelled_set = severity_set(60)
    table = noisy_table(labelled_set, noise=1.5)
    (result,) = evaluate(
        labelled_set, {OURS: [table], "pixels": [noisy_table(labelled_set, noise=9)]}
    ).values()
    (question,) = screening_questions(labelled_set, ())
    rows = labelled_set.rows(0, "test")
    patients = np.unique(labelled_set.patients[rows])
    score = [
        question.probability(table)[rows][labelled_set.patients[rows] == name].mean() for name in patients
    ]
    true = [(labelled_set.values["severity"][labelled_set.patients == name] > 0).any() for name in patients]
    assert result.auroc.value == pytest.approx(roc_auc_score(true, score))
    assert result.n_positive == sum(true) and result.n_positive + result.n_negative == len(true)
    assert result.roc.sensitivity[-1] == 1 and np.diff(result.roc.sensitivity).min() >= 0
    difference = result.differences["pixels"].value
    assert difference == pytest.approx(result.auroc.value - result.baselines["pixels"].value)
    assert sum(result.histogram.positive) == result.n_positive
    record = json.loads(json.dumps(result.to_json()))
    assert ScreeningResult.from_json(record).to_json() == record  # what is infinite is null there


def test_thresholds_are_those_of_each_folds_validation_part():
    """Other test labels change no threshold, and other validation labels do."""
    labelled_set = severity_set(60, folds=3)
    tables = {OURS: [noisy_table(labelled_set, noise=1.5, seed=seed) for seed in range(3)]}
    (before,) = evaluate(labelled_set, tables).values()
    for part, same in (("test", True), ("val", False)):
        values = labelled_set.values["severity"].copy()
        rows = labelled_set.rows(0, part)
        values[rows] = 2 - values[rows]
        other = replace(labelled_set, values={"severity": values})
        (after,) = evaluate(other, tables).values()
        pairs = zip(before.operating_points, after.operating_points, strict=True)
        assert all(a.thresholds[0] == b.thresholds[0] for a, b in pairs) == same


def test_rates_are_broken_down_by_the_columns_of_the_table():
    """Girls are recognised, boys are not."""
    labelled_set = severity_set(120, folds=3)
    _, patient = np.unique(labelled_set.patients, return_inverse=True)
    sex = np.where(patient % 2, "F", "M")
    tables = []
    for seed in range(3):
        good, bad = (noisy_table(labelled_set, noise=x, seed=seed)["severity"] for x in (0.1, 30))
        tables.append({"severity": np.where((sex == "F")[:, None], good, bad)})
    (result,) = evaluate(replace(labelled_set, columns={"SEX": sex}), {OURS: tables}).values()
    girls, boys = (result.subgroups["SEX"][value] for value in "FM")
    youden = [of.sensitivity.value + of.specificity.value - 1 for of in (girls, boys)]
    assert youden[0] > 0.4 > 0.2 > youden[1]
    assert girls.n_positive + boys.n_positive == result.operating_points[0].n_positive
    assert ScreeningResult.from_json(json.loads(json.dumps(result.to_json()))).subgroups == result.subgroups


def test_frames_of_several_values_put_a_patient_into_no_subgroup():
    labelled_set = severity_set(patients=3, frames=2)
    (question,) = screening_questions(labelled_set, ())
    exams = make_exams(labelled_set, question, np.arange(6))
    assert exams.values(np.array(["a", "a", "a", "b", "", ""])).tolist() == ["a", "", ""]


def test_goals_that_differ_in_a_third_digit_are_not_one():
    labelled_set = severity_set(60)
    (result,) = evaluate(
        labelled_set, {OURS: [noisy_table(labelled_set, noise=1.5)]}, sensitivity=(0.9, 0.995)
    ).values()
    goals = [point.goal for point in result.operating_points]
    assert goals == ["sensitivity 0.90", "sensitivity 0.995", "specificity 0.90"]


def test_there_are_at_most_nine_questions_as_a_model_can_hold():
    tasks = parse_tasks(",".join(f"g{number}=G{number}=low<high" for number in range(11)))
    labelled_set = severity_set()
    values = {task.name: labelled_set.values["severity"].clip(max=1) for task in tasks}
    classes = {task.name: ["low", "high"] for task in tasks}
    labelled_set = replace(labelled_set, tasks=tasks, values=values, classes=classes)
    assert len(screening_questions(labelled_set, ())) == 9


def test_without_a_positive_patient_there_is_a_reason_instead_of_figures():
    labelled_set = severity_set(12)
    labelled_set = replace(labelled_set, values={"severity": np.zeros(len(labelled_set.paths), dtype=int)})
    (result,) = evaluate(labelled_set, {OURS: [noisy_table(labelled_set, noise=1.0)]}).values()
    assert result.reason == "no tested exam is positive" and result.auroc.value is None
    assert ScreeningResult.from_json(result.to_json()) == result


def test_an_exams_probability_holds_for_the_share_of_positive_exams():
    labelled_set = severity_set(1200, frames=2)
    (question,) = screening_questions(labelled_set, ())
    table = noisy_table(labelled_set, noise=1.5)
    exams = {
        part: make_exams(labelled_set, question, labelled_set.rows(0, part)) for part in ("train", "val")
    }
    evidence = labelled_evidence(labelled_set, question, table, make_features(labelled_set.groups))
    scorer = ExamScorer.fit(MEAN_POOLING, evidence, exams["train"])
    score = scorer.score(evidence, exams["val"])
    assert abs(score.mean() - exams["val"].positive.mean()) < 0.05
    for low, high in ((0, 0.5), (0.5, 1)):
        here = (score >= low) & (score < high)
        assert abs(score[here].mean() - exams["val"].positive[here].mean()) < 0.1


def evidence_of(probabilities, videos, features=None):
    n = len(probabilities)
    features = np.zeros((n, 3), dtype=np.float32) if features is None else features
    others = np.zeros((n, 0))
    return FrameEvidence(np.array(probabilities), np.full(n, 0.5), np.array(videos), features, others)


def exam_of(probabilities, videos):
    evidence = evidence_of(probabilities, videos)
    exam = np.zeros(len(videos), dtype=int)
    return {of.name: float(expit(of.logits(evidence, exam)[0])) for of in FIXED_POOLINGS}


def test_poolings_by_hand():
    pooled = exam_of([0.9, 0.1, 0.2, 0.4, 0.5], ["a", "a", "b", "b", "b"])
    assert pooled["mean"] == pytest.approx(0.42)
    assert pooled["top-quarter"] == pytest.approx((0.9 + 0.5) / 2)  # 2 of 5 frames
    assert pooled["noisy-or"] == pytest.approx(1 - 0.5 * (1 - 1.1 / 3))


def test_the_pooling_of_the_flag_is_taken_and_all_are_compared():
    labelled_set = severity_set(90, folds=3)
    tables = {OURS: [noisy_table(labelled_set, noise=1.5, seed=seed) for seed in range(3)]}
    (asked,) = evaluate(labelled_set, tables, pooling="noisy-or").values()
    (auto,) = evaluate(labelled_set, tables).values()
    assert asked.poolings == ["noisy-or"] * 3 and auto.poolings == ["mean"] * 3
    assert asked.by_pooling == auto.by_pooling and asked.auroc == auto.by_pooling["noisy-or"]
    assert list(auto.by_pooling) == ["mean", "top-quarter", "noisy-or", "attention"]
    assert auto.auroc == auto.by_pooling["mean"]


def test_another_pooling_is_chosen_only_where_it_is_better_by_more_than_chance():
    rng = np.random.default_rng(0)

    def choice(patients, lesions):
        """Of 12 frames `lesions` show what a positive patient has."""
        labelled_set = severity_set(patients, frames=12)
        (question,) = screening_questions(labelled_set, ())
        exams = make_exams(labelled_set, question, np.arange(len(labelled_set.paths)))
        positive = exams.positive[exams.exam]
        shows = positive & (np.arange(len(positive)) % 12 < lesions)
        probability = np.where(shows, 0.75, 0.2) + 0.18 * rng.normal(size=len(shows)).clip(-1, 1)
        evidence = evidence_of(probability, labelled_set.videos)
        none = make_exams(labelled_set, question, np.arange(0))
        scorers = fit_scorers(evidence, none, exams)
        return choose_scorer("auto", scorers, evidence, exams, seed=0).pooling.name

    assert choice(300, 1) == "top-quarter"
    assert choice(300, 12) == "mean"
    assert choice(6, 1) == "mean"
