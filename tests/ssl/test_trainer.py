import errno
import json
import math
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_simclr import small_simclr

from simclr_rhd.core import signals
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import BAD_BATCH_FILE, BEST_CHECKPOINT, LAST_CHECKPOINT
from simclr_rhd.runs import checkpoint
from simclr_rhd.ssl.batches import UnlabelledSet, epoch_batches, val_batches
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder.features import extract
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.fit import fit, load_best, resume
from simclr_rhd.ssl.monitoring.validation import KnnFrames, Validator
from simclr_rhd.ssl.schedule import stable_epochs
from simclr_rhd.ssl.step import Step
from simclr_rhd.ssl.trainer import Trainer

SIZE, SIDE, N = 32, 37, 21
VIDEOS = np.arange(N) // 3
NAMES = [f"clip{video}_frame{number}.png" for number, video in enumerate(VIDEOS)]
GOLDEN_FIRST_LOSS = 2.2086  # of five frames of noise and untrained weights
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (N, 3, SIDE, SIDE), np.uint8)


def start(frames, *, rows=16, sizes=(), positives="frame", micro_batch=None, model=None, **flags):
    defaults = {"epochs": 3, "seed": 5, "num_workers": 0, "ema_decay": 0.9, "knn_every": 2}
    config = PretrainConfig(image_size=SIZE, view_sizes="full", **defaults | flags)
    settings = TrainingSettings(batch_size=5, warmup_epochs=0.5, positives=positives, micro_batch=micro_batch)
    step = Step(model or small_simclr(config.seed), config, settings, CPU)
    data = UnlabelledSet(frames, np.ones(len(frames), np.uint8), VIDEOS, np.arange(rows), NAMES)
    run = Trainer(config, settings, step, data)
    run.schedule.sizes = sizes or run.schedule.sizes
    return run


def digest(run):
    """Of all that steps move."""
    return checkpoint.digest(run.model), checkpoint.digest(run.average.model), run.average.steps


def validator_of(run, *, val_frames=5):
    labelled = KnnFrames(np.arange(12), {"view": np.arange(N) % 2}, {"view": 2}, VIDEOS.astype(str))
    return Validator(run, np.arange(16, 16 + val_frames), labelled)


def go(run, folder, *, val_frames=5, on_epoch=lambda history: None, **flags):
    folder.mkdir(exist_ok=True)
    config = replace(run.config, **{"min_delta": 0.0, "checkpoint_minutes": 60.0} | flags)
    fit(run, validator_of(run, val_frames=val_frames), config, folder, on_epoch=on_epoch)
    return [record.to_json() for record in run.history]


def untimed(history):
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "frames_per_s")}
        for row in history
    ]


def test_epochs_shuffle_within_full_batches():
    rows = np.arange(100, 117)
    batches = epoch_batches(rows, 5, seed=1, epoch=1)
    assert [len(batch) for batch in batches] == [5, 5, 5]
    assert len(set(np.concatenate(batches).tolist())) == 15
    assert not np.array_equal(
        np.concatenate(batches), np.concatenate(epoch_batches(rows, 5, seed=1, epoch=2))
    )


@pytest.mark.parametrize(("n", "sizes"), [(3, [3]), (21, [6, 5, 5, 5]), (7, [7])])
def test_validation_batches_hold_every_row(n, sizes):
    batches = val_batches(np.arange(n), 5, seed=0)
    assert [len(batch) for batch in batches] == sizes
    rows = np.concatenate(batches)
    assert sorted(rows) == list(range(n)) and (n < 10 or list(rows) != sorted(rows))
    again = val_batches(np.arange(n), 5, seed=0)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


@pytest.fixture(scope="module")
def undisturbed(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run = start(frames)
    return run, go(run, folder), folder


def test_history_says_what_happened(undisturbed):
    _, history, _ = undisturbed
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[0]["uniform"] == pytest.approx(math.log(9))
    for row in history:
        assert row["perfect"] < row["uniform"] and row["frames_per_s"] > 0
        assert 0 <= row["alignment"] <= 4 and -8 <= row["uniformity"] <= 0 and 1 <= row["rank"] <= 10
    assert [row["knn"] is not None for row in history] == [True, True, False], "the first, then every second"
    json.dumps(history)


class Killed(Exception):
    pass


def resumed(frames, folder, **how):
    run = start(frames, **how)
    resume(run, checkpoint.load(folder / LAST_CHECKPOINT))
    return run


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_ends_bit_for_bit_like_an_undisturbed_one(frames, undisturbed, tmp_path, num_workers):
    whole, history, _ = undisturbed

    def kill(history):
        if len(history) == 2:
            raise Killed

    with pytest.raises(Killed):
        go(start(frames, num_workers=num_workers), tmp_path, on_epoch=kill)
    run = resumed(frames, tmp_path, num_workers=num_workers)
    assert untimed(go(run, tmp_path)) == untimed(history)
    assert digest(run) == digest(whole)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_stopped_within_an_epoch_ends_bit_for_bit_like_an_undisturbed_one(
    frames, undisturbed, tmp_path, step
):
    """Stopped between forward and optimizer, where BatchNorm's statistics have moved and weights have not."""
    whole, history, _ = undisturbed
    run, done = start(frames), []
    backward = run.step.backward

    def interrupted(batch):
        loss = backward(batch)
        done.append(loss)
        if len(done) == 3 + step:
            raise KeyboardInterrupt
        return loss

    run.step.backward = interrupted
    with pytest.raises(KeyboardInterrupt):
        go(run, tmp_path)
    again = resumed(frames, tmp_path)
    assert (len(again.history), again.steps_done) == (1, step - 1)
    assert untimed(go(again, tmp_path)) == untimed(history)
    assert digest(again) == digest(whole)


def test_a_long_epoch_is_saved_in_its_middle(frames, undisturbed, tmp_path):
    saved = []

    class Spying(Trainer):
        def save(self, path):
            super().save(path)
            saved.append((len(self.history), self.steps_done))

    run = start(frames)
    run.__class__ = Spying
    go(run, tmp_path, checkpoint_minutes=1e-9)
    assert saved[:4] == [(0, 1), (0, 2), (0, 3), (1, 0)]
    assert digest(run) == digest(undisturbed[0])


def test_another_thread_saves_what_was_done_while_a_step_takes_long(frames, undisturbed, tmp_path):
    """What happens when a signal arrives during one long call: the state of the last step's end is saved."""
    run, number = start(frames), []
    backward = run.step.backward

    def rescued(batch):
        loss = backward(batch)
        number.append(loss)
        if len(number) == 2:
            thread = threading.Thread(target=signals._Signals.exit_callback)
            thread.start()
            thread.join()
            raise Killed
        return loss

    run.step.backward = rescued
    with signals.handle_termination(), pytest.raises(Killed):
        go(run, tmp_path)
    again = resumed(frames, tmp_path)
    assert (len(again.history), again.steps_done) == (0, 1)
    go(again, tmp_path)
    assert digest(again) == digest(undisturbed[0])


@pytest.mark.parametrize(
    "how", [{"positives": "video"}, {"optimizer": "lars"}, {"micro_batch": 2}, {"sizes": (16, SIZE)}]
)
def test_other_recipes_are_resumed_bit_for_bit_and_differ(frames, tmp_path, how):
    whole, plain = start(frames, epochs=2, **how), start(frames, epochs=2)
    history = go(whole, tmp_path / "whole")
    go(plain, tmp_path / "plain")
    assert checkpoint.digest(whole.model) != checkpoint.digest(plain.model)

    def kill(history):
        raise Killed

    with pytest.raises(Killed):
        go(start(frames, epochs=2, **how), tmp_path, on_epoch=kill)
    run = resumed(frames, tmp_path, epochs=2, **how)
    assert untimed(go(run, tmp_path)) == untimed(history)
    assert digest(run) == digest(whole)


def test_same_seed_same_weights_another_seed_others(frames, undisturbed, tmp_path):
    whole, _, _ = undisturbed
    again, other = start(frames), start(frames, seed=6)
    go(again, tmp_path / "again")
    go(other, tmp_path / "other")
    assert digest(again) == digest(whole)
    assert digest(other) != digest(whole)


def test_the_end_of_the_annealing_is_kept_and_is_what_was_measured(frames, undisturbed):
    _, history, folder = undisturbed
    best = checkpoint.load(folder / "simclr_best.pt")
    assert best["epoch"] == len(history)
    run = start(frames)
    run.average.model.load_state_dict(best["model"])
    found = validator_of(run)(best["epoch"]).val_loss
    assert found == pytest.approx(history[best["epoch"] - 1]["val_loss"], abs=1e-6)


def test_what_is_measured_and_kept_is_the_average(frames, undisturbed, tmp_path):
    whole, history, folder = undisturbed
    plain = start(frames, ema_decay=0.0)
    of_plain = go(plain, tmp_path)
    assert checkpoint.digest(plain.model) == checkpoint.digest(whole.model), "training does not see it"
    assert checkpoint.digest(plain.model) == checkpoint.digest(plain.average.model), "without: the weights"
    assert checkpoint.digest(whole.model) != checkpoint.digest(whole.average.model)
    assert [row["loss"] for row in of_plain] == [row["loss"] for row in history]
    assert [row["val_loss"] for row in of_plain] != [row["val_loss"] for row in history]
    last = checkpoint.load(folder / LAST_CHECKPOINT)["average"]["model"]
    assert all(torch.equal(x, last[name]) for name, x in whole.average.model.state_dict().items())


def test_early_stopping_counts_epochs_without_a_better_loss(frames, tmp_path):
    run = start(frames, epochs=9)
    history = go(run, tmp_path, patience=2, min_delta=100.0)
    assert len(history) == 4, "the first epoch is better than none, two more are not, one anneals"
    assert [row["best"] for row in history] == [True, False, False, True]
    assert checkpoint.load(tmp_path / "simclr_best.pt")["epoch"] == 4
    assert len(go(run, tmp_path, patience=2, min_delta=100.0)) == 4, "a stopped run stays stopped"


@pytest.mark.parametrize("monitor", ["held-out-loss", "training-loss"])
def test_a_loss_must_fall_by_a_share_of_its_uniform_value(frames, tmp_path, monitor):
    """About 0.02 a nat: an epoch that is better by less counts as none."""
    history = go(start(frames, epochs=12), tmp_path, monitor=monitor, patience=20, min_delta=0.01)
    figure, unit = {"held-out-loss": ("val_loss", "val_uniform"), "training-loss": ("loss", "uniform")}[
        monitor
    ]
    best = float("inf")
    for row in history[: stable_epochs(12)]:
        assert row["best"] == (row[figure] < best - 0.01 * row[unit])
        best = row[figure] if row["best"] else best


def test_the_learning_rate_stays_until_the_stop_and_falls_to_zero_after_it(frames, tmp_path):
    run, rates = start(frames, epochs=60), []
    step = run.optimizer.step
    run.optimizer.step = lambda: rates.append(run.optimizer.param_groups[0]["lr"]) or step()
    history = go(run, tmp_path, patience=8, min_delta=100.0)
    assert run.schedule.annealing == [9, 2] and len(history) == 11, "a fifth of nine epochs"
    per_epoch = len(rates) // 11
    assert rates[0] < 1e-3 and set(rates[2 : 9 * per_epoch]) == {1e-3}, (
        "warm-up of half an epoch, then the peak"
    )
    falling = rates[9 * per_epoch :]
    assert falling == sorted(falling, reverse=True) and falling[-1] < 0.1e-3
    assert history[-1]["learning_rate"] == falling[-1]


def test_the_epochs_allowed_do_not_change_a_run_that_stops_before_them(frames, tmp_path):
    runs = [start(frames, epochs=epochs, sizes=(16, SIZE)) for epochs in (90, 300)]
    histories = [go(run, tmp_path / str(run.schedule.epochs), patience=2, min_delta=100.0) for run in runs]
    for history in histories:
        for row in history:
            del row["last_epoch"]  # as far as is known before the stop
    assert untimed(histories[0]) == untimed(histories[1]) and digest(runs[0]) == digest(runs[1])


def test_a_run_that_is_resumed_in_its_annealing_ends_as_if_it_had_not_been_stopped(frames, tmp_path):
    def kill(history):
        if len(history) == 10:
            raise Killed

    how = {"patience": 8, "min_delta": 100.0}
    with pytest.raises(Killed):
        go(start(frames, epochs=60), tmp_path, on_epoch=kill, **how)
    run, whole = resumed(frames, tmp_path, epochs=60), start(frames, epochs=60)
    assert run.schedule.annealing == [9, 2]
    assert untimed(go(run, tmp_path, **how)) == untimed(go(whole, tmp_path / "whole", **how))
    assert digest(run) == digest(whole)


@pytest.mark.parametrize("kind", [Killed, KeyboardInterrupt])
def test_a_course_that_was_shortened_stays_so_when_the_run_is_resumed(frames, tmp_path, kind):
    """Stopped in the first step after the decision: the last save was before it."""

    def shorten(history):
        if len(history) == 3:
            whole.schedule.shorten(6)

    whole = start(frames, epochs=20)
    history = go(whole, tmp_path / "whole", on_epoch=shorten)
    assert len(history) == 6 and whole.schedule.annealing == [5, 1]

    def shorten_and_stop(history):
        if len(history) == 3:
            run.schedule.shorten(6)
            run.step.backward = stop

    def stop(batch):
        if kind is Killed:
            run.save(tmp_path / LAST_CHECKPOINT)  # as within a long epoch
        raise kind

    run = start(frames, epochs=20)
    with pytest.raises(kind):
        go(run, tmp_path, on_epoch=shorten_and_stop)
    again = resumed(frames, tmp_path, epochs=20)
    assert untimed(go(again, tmp_path)) == untimed(history)
    assert digest(again) == digest(whole)


@pytest.mark.parametrize(("monitor", "figure", "sign"), [("rank", "rank", -1), ("alignment", "alignment", 1)])
def test_another_figure_may_decide(frames, tmp_path, monitor, figure, sign):
    history = go(start(frames, epochs=9), tmp_path, monitor=monitor, patience=20)
    deciding = [sign * row[figure] for row in history]
    for number in range(stable_epochs(9)):
        assert history[number]["best"] == (deciding[number] < min([*deciding[:number], float("inf")]))


def test_views_grow_by_plan(frames, tmp_path):
    run = start(frames, epochs=5, sizes=(16, 24, SIZE))
    assert [row["size"] for row in go(run, tmp_path)] == [16, 16, 24, SIZE, SIZE]
    best = checkpoint.load(tmp_path / "simclr_best.pt")
    assert best["epoch"] >= 4, "what was better with small views does not count"


def test_a_stage_without_a_better_loss_ends_and_the_run_goes_on_with_larger_views(frames, tmp_path):
    run = start(frames, epochs=60, sizes=(16, 24, SIZE))
    history = go(run, tmp_path, patience=2, min_delta=100.0)
    assert [row["size"] for row in history] == [16] * 3 + [24] * 3 + [SIZE] * 3 + [SIZE] * 2
    assert [row["epoch"] for row in history if row["best"]] == [1, 4, 7, 10, 11]
    assert checkpoint.load(tmp_path / "simclr_best.pt")["epoch"] == 11
    assert len(go(run, tmp_path, patience=2, min_delta=100.0)) == 11, "a stopped run stays stopped"


def test_a_run_that_is_resumed_knows_its_stage(frames, tmp_path):
    def kill(history):
        if len(history) == 4:
            raise Killed

    how = {"epochs": 60, "sizes": (16, 24, SIZE)}
    with pytest.raises(Killed):
        go(start(frames, **how), tmp_path, patience=2, min_delta=100.0, on_epoch=kill)
    run = resumed(frames, tmp_path, **how)
    assert run.schedule.stage == 1
    history = go(run, tmp_path, patience=2, min_delta=100.0)
    whole = start(frames, **how)
    assert untimed(go(whole, tmp_path / "whole", patience=2, min_delta=100.0)) == untimed(history)
    assert digest(run) == digest(whole)


def test_epochs_take_the_time_that_passes(frames, tmp_path):
    started = time.perf_counter()
    history = go(start(frames), tmp_path)
    assert 0 < sum(row["seconds"] for row in history) <= time.perf_counter() - started + 0.03


def test_a_state_of_another_version_is_refused_in_words(frames, tmp_path):
    run = start(frames)
    with pytest.raises(UserError, match="another version of this program"):
        resume(run, run.state() | {"version": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {}}, "Missing key"),
        ({"average": {"steps": 3}}, "'model'"),
        ({"optimizer": {"state": {}, "param_groups": []}}, "parameter group"),
        ({"optimizer": None}, "NoneType"),
        ({"history": "none"}, "history is a str"),
        ({"history": [1, 2]}, "other records"),
        ({"best": [1.0]}, "best is a list"),
        ({"stage": 9}, "stage 9"),
        ({"annealing": 5}, "annealing is a int"),
        (None, "'model'"),
    ],
)
def test_a_foreign_state_is_refused_in_one_sentence(frames, tmp_path, change, message):
    run = start(frames)
    state = run.state()
    head = {name: state[name] for name in ("format", "version")}
    with pytest.raises(
        UserError, match=rf"{LAST_CHECKPOINT} does not hold what this run has saved \(.*{message}"
    ) as refused:
        resume(run, head if change is None else state | change)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_a_foreign_best_checkpoint_is_refused_in_one_sentence(frames, tmp_path):
    checkpoint.save(tmp_path / BEST_CHECKPOINT, {"weights": {}})
    with pytest.raises(UserError, match=f"{BEST_CHECKPOINT} does not hold what this run has saved"):
        load_best(small_simclr(0), tmp_path / BEST_CHECKPOINT)


def test_without_validation_frames_the_training_loss_decides(frames, tmp_path):
    run = start(frames, epochs=2)
    with pytest.raises(UserError, match="--monitor held-out-loss: it cannot be computed"):
        go(start(frames), tmp_path, val_frames=0)
    history = go(run, tmp_path, val_frames=0, monitor="training-loss")
    assert [row["val_loss"] for row in history] == [None, None]
    assert run.schedule.best == history[-1]["loss"] and history[-1]["best"]
    assert history[0]["alignment"] > 0


def test_a_loss_that_is_not_finite_stops_names_its_frames_and_keeps_the_last_good_state(frames, tmp_path):
    run = start(frames)
    go(run, tmp_path)
    good = (tmp_path / LAST_CHECKPOINT).read_bytes()
    run.schedule.epochs, run.schedule.annealing = run.schedule.epochs + 1, None
    with torch.no_grad():
        run.model.projector[0].weight.fill_(math.nan)
    with pytest.raises(UserError, match=r"epoch 4 is not finite.*clip\d_frame") as stopped:
        go(run, tmp_path, checkpoint_minutes=1e-9)
    assert (tmp_path / LAST_CHECKPOINT).read_bytes() == good
    named = (tmp_path / BAD_BATCH_FILE).read_text().split()
    assert named == [NAMES[row] for row in run.batches(4)[0]] and named[0] in str(stopped.value)


def test_a_stop_on_top_of_a_loss_that_is_not_finite_keeps_the_last_good_state(frames, tmp_path):
    run = start(frames)
    go(run, tmp_path)
    good = (tmp_path / LAST_CHECKPOINT).read_bytes()
    run.schedule.epochs, run.schedule.annealing = run.schedule.epochs + 1, None
    with torch.no_grad():
        run.model.projector[0].weight.fill_(math.nan)

    backward, done = run.step.backward, []

    def interrupted(batch):
        done.append(0)
        if len(done) == 2:
            raise KeyboardInterrupt
        return backward(batch)

    run.step.backward = interrupted
    with pytest.raises(KeyboardInterrupt):
        go(run, tmp_path)
    assert (tmp_path / LAST_CHECKPOINT).read_bytes() == good


def test_a_full_disk_while_saving_leaves_the_old_checkpoint_good(frames, tmp_path, monkeypatch):
    run = start(frames)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill(history):
        monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space left"):
        go(run, tmp_path, on_epoch=fill)
    again = resumed(frames, tmp_path)
    assert len(again.history) == 1 and sorted(path.name for path in tmp_path.iterdir()) == [
        "simclr_best.pt",
        LAST_CHECKPOINT,
    ]


def test_measuring_changes_no_weights(frames):
    run = start(frames)
    before = digest(run)
    assert validator_of(run)(1) == validator_of(run)(1)
    assert digest(run) == before and run.model.training


def test_neighbours_are_sought_among_the_labelled_training_frames_only(frames):
    run = start(frames)
    validate, before = validator_of(run), validator_of(run)(2).knn
    changed = frames.copy()
    changed[12:] = 0  # all others
    run.data = replace(run.data, frames=changed)
    assert validate(2).knn == before


def test_features_come_from_a_frozen_encoder_and_do_not_depend_on_the_batch(frames):
    model = build("random", seed=0).train()
    before = checkpoint.digest(model)
    rows = np.arange(N)
    together = extract(model.encoder, frames, rows, size=SIZE, device=CPU)
    alone = [extract(model.encoder, frames, rows[i : i + 1], size=SIZE, device=CPU) for i in rows]
    assert together.shape == (N, 960) and together.dtype == np.float32
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)
    assert checkpoint.digest(model) == before and model.training


def test_the_first_loss_of_fixed_frames_and_weights_is_the_one_it_always_was(frames):
    run = start(frames, model=build("random", seed=5))
    run.model.train()
    (batch,) = run.load_batches([np.arange(5)], 1, None)
    assert float(run.step.backward(batch)) == pytest.approx(GOLDEN_FIRST_LOSS, abs=1e-3)


def test_a_state_without_a_scaler_goes_on_where_there_is_one(frames):
    """Begun in bfloat16, gone on with on a GPU that has none."""
    started, run = start(frames), start(frames)
    run.step.scaler = torch.amp.GradScaler("cpu", enabled=True)
    run.load_state(started.state())
    assert run.step.scaler.get_scale() > 1
