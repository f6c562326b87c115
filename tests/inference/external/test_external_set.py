"""A data set with a class that the model does not know, which may be its highest degree."""

from dataclasses import replace

import numpy as np
import pytest
from simulated import make_labelled_set

from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.evaluation.config import PrevalenceConfig
from simclr_rhd.evaluation.scores.samples import aggregate
from simclr_rhd.evaluation.screening.exams import ExamScorer
from simclr_rhd.evaluation.screening.fit import ScreeningTest
from simclr_rhd.evaluation.screening.pooling import MEAN_POOLING
from simclr_rhd.evaluation.screening.positives import ScreeningQuestion
from simclr_rhd.evaluation.targets import target_predictions
from simclr_rhd.heads.calibration import Scaling
from simclr_rhd.inference.external.class_mapping import map_tasks
from simclr_rhd.inference.external.external_set import external_set, wide_set
from simclr_rhd.inference.screening import evaluate_tests

MODEL = {"severity": ["Normal", "Mild"]}
NAMES = ["Normal", "Mild", "Torrential"]
VALUES = np.array([0, 0, 0, 0, 1, 0, 1, 0, 2, 0, 0, 0, 2, 1, 2, 1])  # four patients of four frames


def make_sets(values=VALUES):
    """Frames of patients p000 (normal), p001 (mild), p002 (normal, torrential), p003 (torrential, mild)."""
    of = make_labelled_set(len(values) // 4, 4)
    data = replace(of, values={"severity": values}, classes={"severity": NAMES})
    mapped = map_tasks(MODEL, data, multilabel=False)
    shared = external_set(data, mapped, {})
    return shared, wide_set(data, mapped, shared)


def samples_of(labelled_set):
    (target,) = labelled_set.targets()
    n = len(target.classes)
    table = {"severity": np.full((len(target.true), n), 1 / n)}
    return aggregate(target_predictions(labelled_set, target, table, np.flatnonzero(target.true >= 0)))


def test_what_has_a_frame_of_an_unknown_class_is_not_scored_as_a_whole():
    shared, wide = make_sets()
    samples = samples_of(shared)
    assert samples["patient"].groups.tolist() == ["p000", "p001"]
    assert samples["patient"].true.tolist() == [0, 1]
    assert samples["video"].true.tolist() == [0, 0, 1, 0, 0, 1]  # of p002 and p003 the second video alone
    assert len(samples["frame"].true) == 13
    assert shared.unscored("severity") == {"video": 2, "patient": 2}
    assert len(samples_of(wide)["frame"].true) == 16 and wide.unscored("severity") == {}
    assert set(samples_of(wide)["video"].groups) == {"p000", "p001", "p002", "p003"}


def test_a_data_set_that_the_model_knows_is_scored_whole():
    shared, _ = make_sets(VALUES.clip(max=1))
    assert len(samples_of(shared)["patient"].true) == 4 and shared.unscored("severity") == {}


def test_a_patient_is_not_healthy_whose_worst_frame_is_of_an_unknown_class():
    shared, _ = make_sets()
    question = ScreeningQuestion("severity", ("Mild",), ("Normal",), tuple(MODEL["severity"]))
    test = ScreeningTest(question, ExamScorer(MEAN_POOLING, Scaling(1.0, np.zeros(1), np.full(1, 0.5))), {})
    table = {"severity": np.full((16, 2), 0.5), prevalence_key("severity"): np.full((16, 2), 0.5)}
    (result,) = evaluate_tests(
        PrevalenceConfig(), [test], shared, table, np.zeros((16, 3), np.float32), seed=0
    ).values()
    assert (result.n_positive, result.n_negative) == (2, 1)
    assert (result.left_out, result.undecided) == (1, 1)


@pytest.mark.parametrize(("positive", "undecided"), [(("MR",), False), (("MR", "AR"), True)])
def test_an_unknown_lesion_leaves_open_whether_there_is_any_lesion(positive, undecided):
    names = ["MR", "AR", "Stenosis"]
    data = make_labelled_set(30, 2, classes=3, multilabel=True, names=names)
    shared = external_set(data, map_tasks({"condition": names[:2]}, data, multilabel=True), {})
    negative = tuple(name for name in names[:2] if name not in positive)
    found = shared.undecided(ScreeningQuestion("condition", positive, negative, tuple(names[:2]), True))
    assert (found is not None and found.tolist() == (data.values["condition"] == 2).tolist()) == undecided
    assert shared.patients_of("condition").tolist() == data.patients.tolist()
