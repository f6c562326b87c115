"""The measurements by which this program is held against its peers."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import recipe
from versus import ours, patients, protocol, reference, run, worker
from versus.run import epochs_within

from simclr_rhd.data.demo import dataset as demo
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.loss import nt_xent

N, GROUPS = 60, 20


@pytest.fixture
def task():
    groups = np.arange(N) % GROUPS
    return protocol.Task(np.arange(N), groups % 2, groups)


def noise(width=7, seed=0):
    return np.random.default_rng(seed).normal(size=(N, width)).astype(np.float32)


@pytest.mark.parametrize("components", [pytest.param(False, marks=pytest.mark.slow), True])
def test_what_can_be_told_is_told(task, components):
    x = noise() + 9 * task.true[:, None]
    found = protocol.scores(x, task, seed=0, components=components)
    assert found["test"] == 1 and found["inner"] == [1] * protocol.FOLDS
    assert found["answers"] == task.true.tolist()


def test_a_patients_own_features_do_not_help(task):
    """Features that name the patient score 1 where frames of one patient stand on both sides."""
    names = np.eye(GROUPS, dtype=np.float32)[task.groups]
    assert protocol.scores(names, task, seed=0)["test"] < 0.65


def test_folds_keep_patients_apart(task):
    fold = protocol.assign_folds(task, seed=3)
    assert all(len(set(fold[task.groups == group])) == 1 for group in range(GROUPS))
    assert set(fold) == set(range(protocol.FOLDS))
    assert (fold == protocol.assign_folds(task, seed=3)).all() and (
        fold != protocol.assign_folds(task, seed=4)
    ).any()


def test_what_a_recipe_is_chosen_by_does_not_know_the_test_fold(task, monkeypatch):
    """Other labels in a fold change what is found inside for every other fold, but not for itself."""
    fold = protocol.assign_folds(task, seed=0)
    monkeypatch.setattr(protocol, "assign_folds", lambda *_, **__: fold)
    before = protocol.scores(noise(), task, seed=0)["inner"]
    flipped = protocol.Task(task.rows, np.where(fold == 2, 1 - task.true, task.true), task.groups)
    after = protocol.scores(noise(), flipped, seed=0)["inner"]
    assert after[2] == before[2] and after != before


def test_a_budget_holds_the_epochs_of_all_sizes():
    epoch_s = {32: 1.0, 48: 2.0, 64: 4.0}
    n = epochs_within(100, epoch_s)
    assert 40 < n < 60, "one third of the time for each would be 33, 17 and 8"
    assert epochs_within(100, {64: 4.0}) == 25


def test_a_single_seed_has_no_spread():
    assert protocol.spread([0.5]) == "0.500" and protocol.spread([0.4, 0.6]) == "0.500 ± 0.141"
    assert protocol.interval([0.1]) == "+0.100"
    # one degree of freedom: 12.7 standard errors of 0.1
    assert protocol.interval([0.0, 0.2]) == "+0.100 (-1.171 to +1.371)"


def test_the_references_loss_is_nt_xent():
    z = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(reference.nt_xent(*z), nt_xent(*z, temperature=0.5))


@pytest.mark.parametrize("by", ["frame", "patient"])
def test_the_references_split_is_complete(by):
    groups = np.repeat(np.arange(10), 4)
    parts = reference.split_frames(40, groups, by=by)
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    if by == "patient":
        sides = [set(groups[part].tolist()) for part in parts]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder of drawn frames."""
    folder = tmp_path_factory.mktemp("drawn")
    demo.write_demo(folder, patients=16)
    return folder


@pytest.fixture(scope="module")
def dataset(drawn, tmp_path_factory):
    return protocol.read(str(drawn), tmp_path_factory.mktemp("cache"), image_size=32)


def test_ours_is_what_the_flags_say(dataset):
    run = ours.Pretraining(dataset, size=32, seed=0, epochs=3, flags=("--ema-decay", "0.5")).run
    assert (run.average.decay, run.schedule.epochs, run.step.size) == (0.5, 3, 32)
    assert len(run.data.rows) == len(protocol.pretraining_rows(dataset)), "nothing is held out"


def arm_options(drawn, folder, arm, **more):
    return {"arm": arm, "data": str(drawn), "cache": str(folder), "size": 32, "seed": 0, **more}


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["ours", "reference", "lightly", "controlled"])
def test_each_competitor_learns_from_the_same_frames_and_is_judged(drawn, dataset, tmp_path, arm):
    if arm in ("lightly", "controlled"):
        pytest.importorskip("lightly", reason="pip install -r benchmarks/versus/requirements.txt")
    found = worker.score(dataset, arm_options(drawn, tmp_path, arm, epochs=2, also_after=[1]))
    n = len(protocol.pretraining_rows(dataset))
    assert set(found["at"]) == {1, 2} and found["reads"] == (n if arm in ("ours", "controlled") else 2 * n)
    for one in found["at"].values():
        assert set(one["scores"]) == set(one["last_stage"]) == set(protocol.TASKS)
        assert np.isfinite(one["loss"]) and one["scores"] != one["last_stage"]
        assert all(0 <= x <= 1 for scores in one["scores"].values() for x in scores)
    before, after = build("random", seed=0).encoder, build("random", seed=0).encoder
    after.load_state_dict(torch.load(tmp_path / f"{arm}-2-0.pt", weights_only=True))
    assert not torch.equal(before.layer4[1].conv2.weight, after.layer4[1].conv2.weight)


@pytest.mark.slow
def test_ours_is_judged_by_what_its_own_early_stopping_keeps(drawn, dataset, tmp_path):
    flags = ("--patience", "1", "--min-delta", "100")  # nothing is better than the first epoch of a stage
    found = worker.early_stopping(dataset, arm_options(drawn, tmp_path, "ours", epochs=9, flags=flags))
    # it stops after the second epoch, then its rate falls to 0 in a third, which is kept
    assert (found["epochs"], found["kept"]) == (3, 3) and set(found["scores"]) == set(protocol.TASKS)
    assert [path.name for path in tmp_path.iterdir()] == [], "its checkpoints are gone"


@pytest.mark.slow
def test_our_epochs_are_timed_at_each_size_of_the_views(drawn, dataset, tmp_path):
    found = worker.rate(dataset, arm_options(drawn, tmp_path, "ours", epochs=2) | {"size": 48})
    assert {size: len(seconds) for size, seconds in found["seconds"].items()} == {32: 2, 48: 2}


def options(out, **more):
    fixed = {"data": "d", "image_size": 32, "epochs": 1, "linear_epochs": 1, "seconds": 9, "seeds": 2}
    return argparse.Namespace(out=out, **(fixed | more))


def test_a_piece_is_measured_once_and_only_for_what_it_was_asked(tmp_path, monkeypatch):
    asked = []

    def answer(command):
        asked.append(command)
        return 'noise\n{"x": 1}', 2.5, 10

    monkeypatch.setattr(run, "run", answer)
    first = run.Measurements(options(tmp_path)).measure("rate", what="rate")
    assert (first["x"], first["process_s"], first["peak_bytes"]) == (1, 2.5, 10)
    pieces = run.Measurements(options(tmp_path))
    assert pieces.measure("rate", what="rate") == first and len(asked) == 1
    assert pieces.load("other") is None
    with pytest.raises(SystemExit, match="name another folder"):
        run.Measurements(options(tmp_path, seconds=8))


def piece(value):
    """All stages score more than the last one."""
    kinds = {"scores": value, "last_stage": value - 0.1}
    return {name: {task: [of, of] for task in protocol.TASKS} for name, of in kinds.items()} | {"loss": 1.0}


def test_the_tables_hold_a_competitor_at_equal_time_against_one_at_equal_epochs(tmp_path, capsys):
    pieces, epoch_s = run.Measurements(options(tmp_path)), {"ours": {32: 1.0}, "lightly": {32: 3.0}}
    for seed, more in enumerate((0.0, 0.1)):
        pieces.keep(
            f"untrained-{seed}", {name: piece(0.3)["scores"] for name in ("pixels", "mask", "random")}
        )
        pieces.keep(f"score-ours-{seed}", {"at": {"9": piece(0.7 + more)}})
        pieces.keep(f"equal-ours-{seed}", {"at": {"3": piece(0.6)}})
        pieces.keep(f"score-lightly-{seed}", {"at": {"3": piece(0.5)}})
    run.print_scores(run.read_scores(pieces, options(tmp_path), epoch_s))
    scores, less = capsys.readouterr().out.split("ours, equal time (9 epochs), minus")
    macro = {line.split(" | ")[0]: line.split(" | ")[4] for line in scores.splitlines() if "±" in line}
    assert macro == {
        "| raw pixels": "0.300 ± 0.000",
        "| mask": "0.300 ± 0.000",
        "| random encoder": "0.300 ± 0.000",
        "| lightly, equal time (3 epochs)": "0.400 ± 0.000",
        "| lightly, equal epochs (3)": "0.400 ± 0.000",
        "| lightly, all stages, equal time (3 epochs)": "0.500 ± 0.000",
        "| lightly, all stages, equal epochs (3)": "0.500 ± 0.000",
        "| ours, equal time (9 epochs)": "0.750 ± 0.071",
        "| ours, equal epochs (3)": "0.600 ± 0.000",
    }
    # one degree of freedom: 12.7 standard errors of 0.05
    assert "| lightly, equal time (3 epochs) | +0.350 (-0.285 to +0.985)" in less
    assert "ours, equal time" not in less


def test_the_searchs_own_score_takes_each_folds_recipe_by_what_is_outside_it(task, capsys, monkeypatch):
    """One recipe is right on all frames, one wrong; a test fold takes what looked better outside it."""
    monkeypatch.setattr(protocol, "tasks", lambda dataset: dict.fromkeys(protocol.TASKS, task))
    right, wrong = task.true, 1 - task.true

    def result(answers, inner):
        folds = [{"inner": inner, "answers": answers.tolist()} for _ in protocol.FOLD_SEEDS]
        return [dict.fromkeys(protocol.TASKS, folds) for _ in recipe.SEEDS]

    # the wrong one looks better outside folds 0 and 1, and is taken there
    found = {"good": result(right, [0.6] * 5), "bad": result(wrong, [0.9, 0.9, 0.1, 0.1, 0.1])}
    recipe.nested_selection(found, None)
    printed = capsys.readouterr().out
    assert "'good': 27, 'bad': 18" in printed
    fold = [protocol.assign_folds(task, seed=seed) for seed in protocol.FOLD_SEEDS]  # right in 2, 3 and 4
    wanted = np.mean([np.mean([(of[task.true == c] > 1).mean() for c in (0, 1)]) for of in fold])
    assert f"macro {wanted:.3f} ± 0.000" in printed


def test_encoders_of_other_lengths_are_other_rows_of_the_table():
    assert patients.row_widths("ours-195-0.pt") == {"ours 195": 960}
    assert patients.row_widths("ours-38-0.pt") == {"ours 38": 960}
    assert patients.row_widths("stopped-1.pt") == {"stopped": 960}
    assert patients.row_widths("lightly-38-2.pt") == {"lightly 38": 960, "lightly 38, last stage": 512}
    assert patients.row_widths("other-0.pt") == {}
