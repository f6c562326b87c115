import json
import math

import numpy as np
import pytest
import torch

from simclr_rhd import checkpoint
from simclr_rhd.augment import Strengths
from simclr_rhd.batches import epoch_batches, watched_batches
from simclr_rhd.errors import UserError
from simclr_rhd.features import extract
from simclr_rhd.model import build
from simclr_rhd.pretrain import Pretraining, fit, learning_rate_at

SIZE, SIDE, N = 32, 37, 21
GOLDEN_FIRST_LOSS = 2.2050  # of five frames of noise and untrained weights


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (N, 3, SIDE, SIDE), np.uint8)


def start(frames, *, epochs=3, seed=5, num_workers=0, learning_rate=1e-3):
    return Pretraining(
        build("random", seed=seed),
        frames,
        np.ones(len(frames), np.uint8),
        batch_size=5,
        learning_rate=learning_rate,
        epochs=epochs,
        temperature=0.5,
        size=SIZE,
        strengths=Strengths(0.5, 0.0, 0.4, 0.2, 0.5),
        seed=seed,
        num_workers=num_workers,
        device=torch.device("cpu"),
    )


def go(run, folder, *, patience=5, min_delta=0.0, on_epoch=lambda history: None):
    folder.mkdir(exist_ok=True)
    return fit(
        run,
        np.arange(16),
        np.arange(16, N),
        patience=patience,
        min_delta=min_delta,
        save_dir=folder,
        on_epoch=on_epoch,
    )


def untimed(history):
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "frames_per_s")}
        for row in history
    ]


def test_the_learning_rate_warms_up_and_falls_to_zero():
    rates = [learning_rate_at(step, steps=100, warmup=10, peak=2.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == pytest.approx(2.0) == pytest.approx(max(rates))
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False)) and rates[-1] < 0.01
    assert learning_rate_at(55, steps=100, warmup=10, peak=2.0) == pytest.approx(1.0)


def test_epochs_shuffle_within_full_batches():
    rows = np.arange(100, 117)
    batches = epoch_batches(rows, 5, seed=1, epoch=1)
    assert [len(batch) for batch in batches] == [5, 5, 5]
    assert len(set(np.concatenate(batches).tolist())) == 15
    assert not np.array_equal(
        np.concatenate(batches), np.concatenate(epoch_batches(rows, 5, seed=1, epoch=2))
    )


@pytest.mark.parametrize(("n", "sizes"), [(3, [3]), (21, [6, 5, 5, 5]), (7, [7])])
def test_watched_batches_hold_every_row(n, sizes):
    batches = watched_batches(np.arange(n), 5)
    assert [len(batch) for batch in batches] == sizes
    assert np.concatenate(batches).tolist() == list(range(n))


@pytest.fixture(scope="module")
def undisturbed(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run = start(frames)
    return run, go(run, folder), folder


def test_history_says_what_happened(undisturbed):
    _, history, _ = undisturbed
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[0]["uniform"] == pytest.approx(math.log(9))
    assert all(math.isfinite(row["loss"]) and row["frames_per_s"] > 0 for row in history)
    json.dumps(history)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_ends_bit_for_bit_like_an_undisturbed_one(frames, undisturbed, tmp_path, num_workers):
    whole, history, _ = undisturbed

    class Killed(Exception):
        pass

    def kill(history):
        if len(history) == 2:
            raise Killed

    with pytest.raises(Killed):
        go(start(frames, num_workers=num_workers), tmp_path, on_epoch=kill)
    resumed = start(frames, num_workers=num_workers)
    resumed.load_state(checkpoint.load(tmp_path / "simclr_last.pt"))
    assert untimed(go(resumed, tmp_path)) == untimed(history)
    assert checkpoint.digest(resumed.model) == checkpoint.digest(whole.model)


def test_same_seed_same_weights_another_seed_others(frames, undisturbed, tmp_path):
    whole, history, _ = undisturbed
    again, other = start(frames), start(frames, seed=6)
    go(again, tmp_path / "again")
    go(other, tmp_path / "other")
    assert checkpoint.digest(again.model) == checkpoint.digest(whole.model)
    assert checkpoint.digest(other.model) != checkpoint.digest(whole.model)


def test_the_best_checkpoint_is_the_epoch_of_lowest_watched_loss(frames, undisturbed):
    _, history, folder = undisturbed
    best = checkpoint.load(folder / "simclr_best.pt")
    assert best["epoch"] == min(history, key=lambda row: row["val_loss"])["epoch"]
    run = start(frames)
    run.model.load_state_dict(best["model"])
    assert run.watched_loss(np.arange(16, N)) == pytest.approx(best["loss"], abs=1e-6)


def test_early_stopping_counts_epochs_without_a_better_loss(frames, tmp_path):
    run = start(frames, epochs=9)
    history = go(run, tmp_path, patience=2, min_delta=100.0)
    assert len(history) == 3, "the first epoch is better than none, two more are not"
    assert checkpoint.load(tmp_path / "simclr_best.pt")["epoch"] == 1
    assert len(go(run, tmp_path, patience=2, min_delta=100.0)) == 3, "a stopped run stays stopped"


def test_without_watched_frames_the_training_loss_decides(frames, tmp_path):
    run = start(frames, epochs=2)
    history = fit(
        run,
        np.arange(16),
        np.arange(0),
        patience=5,
        min_delta=0.0,
        save_dir=tmp_path,
        on_epoch=lambda history: None,
    )
    assert [row["val_loss"] for row in history] == [None, None] and run.best_loss == min(
        r["loss"] for r in history
    )


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(frames, tmp_path):
    run = start(frames)
    go(run, tmp_path)
    good = (tmp_path / "simclr_last.pt").read_bytes()
    run.epochs += 1
    with torch.no_grad():
        run.model.projector[0].weight.fill_(math.nan)
    with pytest.raises(UserError, match="epoch 4 is not finite"):
        go(run, tmp_path)
    assert (tmp_path / "simclr_last.pt").read_bytes() == good


def test_watching_moves_nothing(frames):
    run = start(frames)
    before = checkpoint.digest(run.model)
    assert run.watched_loss(np.arange(16, N)) == run.watched_loss(np.arange(16, N))
    assert checkpoint.digest(run.model) == before


def test_features_come_from_a_frozen_encoder_and_do_not_depend_on_the_batch(frames):
    model = build("random", seed=0).train()
    before = checkpoint.digest(model)
    rows = np.arange(N)
    together = extract(model.encoder, frames, rows, size=SIZE, device=torch.device("cpu"))
    alone = [
        extract(model.encoder, frames, rows[i : i + 1], size=SIZE, device=torch.device("cpu")) for i in rows
    ]
    assert together.shape == (N, 512) and together.dtype == np.float32
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)
    assert checkpoint.digest(model) == before and model.training


def test_the_first_loss_of_fixed_frames_and_weights_is_the_one_it_always_was(frames):
    run = start(frames)
    run.model.train()
    (batch,) = run._load([np.arange(5)], 1)
    assert float(run.loss(*batch).detach()) == pytest.approx(GOLDEN_FIRST_LOSS, abs=1e-3)
