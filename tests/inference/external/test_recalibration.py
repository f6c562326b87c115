import numpy as np
import pytest
from scipy.special import expit, softmax
from simulated import make_labelled_set
from sklearn.metrics import log_loss

from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.inference.external.recalibration import MIN_GROUPS, recalibrate


def make_table(labelled_set, *, too_sure, task="view", several=False, seed=0):
    """Probabilities of a model that is right about the order, and `too_sure` times too sure."""
    rng = np.random.default_rng(seed)
    true = labelled_set.target_values()[task]
    one_hot = true if several else np.eye(labelled_set.n_outputs()[task])[true]
    logits = too_sure * (2 * one_hot + rng.normal(size=one_hot.shape))
    p = expit(logits - too_sure) if several else softmax(logits, axis=1)
    return {task: p, prevalence_key(task): np.full(p.shape, 1 / 2 if several else 1 / p.shape[1])}


def test_a_model_that_is_too_sure_gets_a_temperature_and_better_probabilities():
    labelled_set = make_labelled_set(patients=60, frames=4, classes=3)
    table = make_table(labelled_set, too_sure=8.0)
    fitted = recalibrate(labelled_set, table, seed=0)
    true = labelled_set.values["view"]
    assert fitted.reasons == {} and fitted.scalings["view"].temperature > 1.5
    assert log_loss(true, fitted.table["view"]) < 0.75 * log_loss(true, table["view"])
    np.testing.assert_allclose(fitted.table["view"].sum(axis=1), 1)
    np.testing.assert_allclose(fitted.table[prevalence_key("view")].sum(axis=1), 1)


def test_no_group_is_calibrated_by_its_own_labels():
    labelled_set = make_labelled_set(patients=20, frames=3, classes=2)
    table = make_table(labelled_set, too_sure=2.0)
    before = recalibrate(labelled_set, table, seed=0).table["view"]
    own = labelled_set.groups == labelled_set.groups[0]
    labelled_set.values["view"][own] = 1 - labelled_set.values["view"][own]
    after = recalibrate(labelled_set, table, seed=0).table["view"]
    np.testing.assert_array_equal(before[own], after[own])
    assert np.abs(before - after)[~own].max() > 1e-4


def test_lesions_are_recalibrated_each_by_itself():
    names = ["AR", "MR", "AR + MR", "Not Applicable"]
    labelled_set = make_labelled_set(patients=40, frames=3, classes=4, multilabel=True, names=names)
    table = make_table(labelled_set, too_sure=8.0, task="condition", several=True)
    fitted = recalibrate(labelled_set, table, seed=0)
    true = labelled_set.target_values()["condition"]
    assert set(fitted.scalings["condition"].bias) == {"AR", "MR"}
    for lesion in range(2):
        before, after = (t["condition"][:, lesion] for t in (table, fitted.table))
        assert log_loss(true[:, lesion], after) < log_loss(true[:, lesion], before)


@pytest.mark.parametrize(("patients", "reason"), [(MIN_GROUPS - 1, "too few"), (MIN_GROUPS, "")])
def test_few_groups_are_not_recalibrated(patients, reason):
    labelled_set = make_labelled_set(patients=patients, frames=3, classes=2)
    fitted = recalibrate(labelled_set, table := make_table(labelled_set, too_sure=2.0), seed=0)
    assert bool(fitted.reasons) == bool(reason) and reason in fitted.reasons.get("view", "")
    assert (fitted.table["view"] is table["view"]) == bool(reason)
