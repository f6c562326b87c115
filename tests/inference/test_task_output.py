import math

import numpy as np
import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.inference.task_output import TaskOutput, resolve_prevalence


def test_class_confidence_and_entropy_by_hand():
    p = np.array([[0.5, 0.25, 0.25]])
    uniform = TaskOutput(["a", "b", "c"], False, np.full(3, 1 / 3))
    assert uniform.predicted(p) == ["a"] and uniform.confidence(p) == [0.5]
    assert uniform.entropy(p) == pytest.approx([1.5 * math.log(2)])
    rare = TaskOutput(["a", "b", "c"], False, np.array([0.7, 0.2, 0.1]))
    assert rare.predicted(p) == ["c"] and rare.confidence(p) == [0.25]
    lesions = np.array([[0.9, 0.25], [0.9, 0.5], [0.1, 0.2]])
    uniform = TaskOutput(["MR", "AR"], True, np.full(2, 1 / 2))
    assert uniform.predicted(lesions) == ["MR", "MR + AR", "no lesion"]
    assert uniform.confidence(lesions).tolist() == [0.75, 0.5, 0.8]
    assert uniform.entropy(np.array([[0.5, 1.0]])) == pytest.approx([math.log(2)])
    rare = TaskOutput(["MR", "AR"], True, np.array([0.95, 0.2]))
    assert rare.predicted(lesions) == ["AR", "AR", "AR"]


TASKS = {
    "view": TaskOutput(["A4C", "PLAX", "no"], False, np.array([0.5, 0.3, 0.2])),
    "condition": TaskOutput(["MR", "AR"], True, np.array([0.1, 0.4])),
    "severity": TaskOutput(["no", "mild"], False, np.array([0.9, 0.1])),
}


def test_the_shares_that_are_not_given_keep_their_proportions():
    found = resolve_prevalence(TASKS, {"view:no": 0.6, "AR": 0.01})
    np.testing.assert_allclose(found["view"].prevalence, [0.25, 0.15, 0.6])
    np.testing.assert_allclose(found["condition"].prevalence, [0.1, 0.01])
    np.testing.assert_allclose(found["severity"].prevalence, TASKS["severity"].prevalence)
    whole = resolve_prevalence(TASKS, {"severity:no": 0.98, "mild": 0.02})
    np.testing.assert_allclose(whole["severity"].prevalence, [0.98, 0.02])


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"PSAX": 0.1}, "--prevalence PSAX: the model has no such class; it has view:A4C, view:PLAX"),
        ({"view:MR": 0.1}, "no such class"),
        ({"no": 0.1}, "2 tasks have this class; name it 'view:no' or 'severity:no'"),
        ({"A4C": 0.0}, "A4C=0: wanted a share above 0 and below 1"),
        ({"A4C": 1.5}, "above 0 and below 1"),
        ({"A4C": 0.6, "PLAX": 0.4}, "shares of view add up to 1; wanted less than 1"),
        ({"severity:no": 0.5, "mild": 0.4}, "shares of severity add up to 0.9; wanted 1"),
        ({"A4C": 0.6, "view:A4C": 0.5}, "another share already"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares, message):
    with pytest.raises(UserError, match=message):
        resolve_prevalence(TASKS, shares)
