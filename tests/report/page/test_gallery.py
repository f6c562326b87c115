import numpy as np
import pytest
from untrained_run import make_dataset

from simclr_rhd.data.labelled_set import build_labelled_set
from simclr_rhd.report.page.gallery import Gallery

CLASSES = {
    "view": ["A4C", "PLAX", "Subcostal"],
    "condition": ["Healthy", "MR"],
    "severity": ["Normal", "Definite"],
}


@pytest.fixture(scope="module")
def data():
    dataset = make_dataset(CLASSES, patients=30, frames=4)
    return dataset, build_labelled_set(dataset, multilabel=False)


def answers(cohort, *, wrong=()):
    """Sure and right, but for some rows, which are the surer the earlier they are named."""
    true = cohort.values["view"]
    p = np.full((len(true), 3), 0.1)
    p[np.arange(len(true)), true] = 0.8
    for place, row in enumerate(wrong):
        p[row] = 0.01
        p[row, (true[row] + 1) % 3] = 0.98 - place / 100
    return {"view": p / p.sum(axis=1, keepdims=True)}


def test_a_class_is_shown_by_its_own_frames_of_different_groups(data):
    dataset, cohort = data
    found = Gallery(dataset, cohort).classes(cohort.targets()[0])
    assert list(found) == CLASSES["view"] and {len(shots) for shots in found.values()} == {6}
    for number, shots in enumerate(found.values()):
        rows = [shot.line - 2 for shot in shots]
        assert {dataset.labels.values["view"][row] for row in rows} == {number}
        assert len({dataset.groups[row] for row in rows}) == 6
        assert all(shot.image.startswith("data:image/jpeg") and shot.alt_text for shot in shots)


def test_a_class_of_one_group_is_shown_by_more_of_its_frames():
    dataset = make_dataset(CLASSES, patients=30, frames=4)
    view = dataset.labels.values["view"]
    kept = dataset.groups[np.flatnonzero(view == 2)[0]]
    view[(view == 2) & (dataset.groups != kept)] = 0
    cohort = build_labelled_set(dataset, multilabel=False)
    shots = Gallery(dataset, cohort).classes(cohort.targets()[0])["Subcostal"]
    assert len({shot.line for shot in shots}) == len(shots) == 4


def test_the_surest_errors_come_first_and_one_of_a_video(data):
    dataset, cohort = data
    rows = np.arange(len(cohort.paths))
    wrong = [17, 16, 40, 3]  # 16 and 17 are of one video
    found = Gallery(dataset, cohort).failures(cohort.targets()[0], answers(cohort, wrong=wrong), rows)
    labelled = dataset.labelled()
    assert [shot.line - 2 for shot in found["errors"]] == [labelled[17], labelled[40], labelled[3]]
    first = found["errors"][0]
    assert first.true != first.predicted and first.probabilities[0] == (
        first.predicted,
        pytest.approx(0.98, abs=0.01),
    )
    assert [p for _, p in first.probabilities] == sorted((p for _, p in first.probabilities), reverse=True)
    assert first.true in first.alt_text and first.predicted in first.alt_text


def test_doubtful_frames_are_those_of_most_entropy(data):
    dataset, cohort = data
    table = answers(cohort)
    table["view"][9] = [0.34, 0.33, 0.33]
    found = Gallery(dataset, cohort).failures(cohort.targets()[0], table, np.arange(len(cohort.paths)))
    assert found["uncertain"][0].line - 2 == dataset.labelled()[9] and len(found["uncertain"]) == 8
    assert found["errors"] == [] or found["errors"][0].line == found["uncertain"][0].line


def test_every_class_said_has_its_turn_among_the_explained(data):
    dataset, cohort = data
    asked = []

    def explain(question, rows, classes):
        asked.append((rows, classes))
        return np.ones((len(rows), 8, 8), np.float32)

    found = Gallery(dataset, cohort).explanations(
        cohort.targets()[0], answers(cohort, wrong=[5, 30]), np.arange(len(cohort.paths)), explain
    )
    ((rows, classes),) = asked
    shots = [shot for shot, _, hot in found if hot]
    assert [shot.predicted == shot.true for shot in shots] == [True] * 3 + [False] * 2
    assert set(classes[:3]) == {0, 1, 2}
    assert [CLASSES["view"][number] for number in classes] == [shot.predicted for shot in shots]
    assert [dataset.labelled()[row] + 2 for row in rows] == [shot.line for shot in shots]


def test_nothing_tested_nothing_explained(data):
    dataset, cohort = data
    gallery, none = Gallery(dataset, cohort), np.zeros(0, dtype=int)
    question, table = cohort.targets()[0], answers(cohort)
    assert gallery.explanations(question, table, none, lambda *_: pytest.fail("asked")) == []
    assert gallery.failures(question, table, none) == {"errors": [], "uncertain": []}


def test_pairs_are_found_by_their_names_and_patients_have_numbers(data):
    dataset, cohort = data
    keys = dataset.store.keys
    ((one, other, value),) = Gallery(dataset, cohort).pairs(
        [{"test_path": keys[6], "other_path": keys[13], "value": 0.9}]
    )
    assert (one.line, other.line, value) == (8, 15, 0.9)
    assert one.alt_text == "Tested, [patient 1]" and other.alt_text == "Of another part, [patient 2]"
