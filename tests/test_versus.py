"""The measurements by which this program is held against its peers."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from versus import protocol, reference
from versus.run import epochs_in

from simclr_rhd.loss import nt_xent

N, GROUPS = 60, 20


@pytest.fixture
def task():
    groups = np.arange(N) % GROUPS
    return protocol.Task(np.arange(N), groups % 2, groups)


def noise(width=7, seed=0):
    return np.random.default_rng(seed).normal(size=(N, width)).astype(np.float32)


@pytest.mark.parametrize("components", [False, True])
def test_what_can_be_told_is_told(task, components):
    x = noise()
    x[:, 0] += 9 * task.true
    found = protocol.scores(x, task, seed=0, components=components)
    assert found["test"] == 1 and found["inner"] == [1] * protocol.FOLDS
    assert found["answers"] == task.true.tolist()


def test_a_patients_own_features_do_not_help(task):
    """Features that name the patient score 1 where frames of one patient stand on both sides."""
    names = np.eye(GROUPS, dtype=np.float32)[task.groups]
    assert protocol.scores(names, task, seed=0)["test"] < 0.65


def test_folds_keep_patients_apart(task):
    fold = protocol.folds_of(task, seed=3)
    assert all(len(set(fold[task.groups == group])) == 1 for group in range(GROUPS))
    assert set(fold) == set(range(protocol.FOLDS))
    assert (fold == protocol.folds_of(task, seed=3)).all() and (fold != protocol.folds_of(task, seed=4)).any()


def test_what_a_recipe_is_chosen_by_does_not_know_the_test_fold(task, monkeypatch):
    """Other labels in a fold change what is found inside for every other fold, but not for itself."""
    fold = protocol.folds_of(task, seed=0)
    monkeypatch.setattr(protocol, "folds_of", lambda *_, **__: fold)
    before = protocol.scores(noise(), task, seed=0)["inner"]
    flipped = protocol.Task(task.rows, np.where(fold == 2, 1 - task.true, task.true), task.groups)
    after = protocol.scores(noise(), flipped, seed=0)["inner"]
    assert after[2] == before[2] and after != before


def test_a_budget_holds_the_epochs_of_all_sizes():
    epoch_s = {32: 1.0, 48: 2.0, 64: 4.0}
    n = epochs_in(100, epoch_s)
    assert 40 < n < 60, "one third of the time for each would be 33, 17 and 8"
    assert epochs_in(100, {64: 4.0}) == 25


def test_the_references_loss_is_nt_xent():
    z = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(reference.nt_xent(*z), nt_xent(*z, temperature=0.5))


@pytest.mark.parametrize("by", ["frame", "patient"])
def test_the_references_split_is_complete(by):
    groups = np.repeat(np.arange(10), 4)
    parts = reference.split_of_frames(40, groups, by=by)
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    if by == "patient":
        sides = [set(groups[part].tolist()) for part in parts]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
