import numpy as np
from untrained_run import make_dataset

from simclr_rhd.data.labelled_set import build_labelled_set
from simclr_rhd.report.page import sections as contents


def test_an_absent_lesion_is_explained_by_what_speaks_against_it(monkeypatch):
    classes = {"view": ["A4C", "PLAX"], "condition": ["Healthy", "MR", "AR"], "severity": []}
    dataset = make_dataset(classes)
    cohort, asked = build_labelled_set(dataset, multilabel=True), []

    def cam(encoder, heads, frames, logits, *, size):
        asked.append((logits.task, logits.outputs.tolist(), logits.signs.tolist()))
        return np.zeros((len(frames), size, size), np.float32)

    monkeypatch.setattr(contents, "grad_cam", cam)
    explain = contents.make_explainer(dataset, cohort, [None], [None], size=32)
    tested = np.flatnonzero(cohort.folds[0] == "test")[:2]
    for question in cohort.targets():
        explain(question, tested, np.array([0, 1]))  # absent, present
    lesions = {question.lesion for question in cohort.targets() if question.task == "condition"}
    assert asked[0] == ("view", [0, 1], [1, 1])
    assert asked[1:] == [("condition", [lesion] * 2, [-1, 1]) for lesion in sorted(lesions)]
