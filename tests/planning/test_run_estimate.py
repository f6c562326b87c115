import json
import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from step_costs import COST
from untrained_run import make_dataset

from simclr_rhd.cli.command_line import parse
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.logs import format_duration
from simclr_rhd.data.labelled_set import build_labelled_set
from simclr_rhd.heads.config import HeadConfig
from simclr_rhd.heads.cross_validation import N_RANDOM_ENCODERS, RANDOM_ENCODER, CrossValidation, FeatureSet
from simclr_rhd.heads.train import train_heads
from simclr_rhd.planning import profiler as probe
from simclr_rhd.planning import run_estimate as costs
from simclr_rhd.planning import step_cost
from simclr_rhd.planning.auto_settings import resolve_settings
from simclr_rhd.planning.plan import n_baseline_encoders, n_head_fits
from simclr_rhd.planning.run_estimate import Plan
from simclr_rhd.ssl.config import PretrainConfig
from simclr_rhd.ssl.encoder.initial_weights import imagenet_weights_cached
from simclr_rhd.ssl.encoder.model import FEATURE_DIM

PLAN = Plan(
    rows=1000,
    val_frames=100,
    labelled=500,
    batch=64,
    micro_batch=None,
    epochs=20,
    patience=5,
    knn_every=0,
    linear_epochs=0,
    figures=False,
)


def settled(*, rows=10_000, videos=200, ranks=1, fits=None, **knobs):
    config = PretrainConfig(**{"epochs": 300, "precision": "float32"} | knobs)
    fits = fits or step_cost.fits_by_model(COST, 4 << 30)
    return resolve_settings(config, rows=rows, videos=videos, ranks=ranks, fits=fits)


def test_memory_grows_with_what_is_in_the_network_at_once_and_with_the_similarities():
    assert COST.step_memory(64) == (1 << 28) + 64 * (1 << 24) + 16 * 128**2
    assert COST.step_memory(512, 64) - COST.step_memory(64) == 16 * (1024**2 - 128**2)


def test_the_largest_batch_fits_and_the_next_one_does_not():
    fits = step_cost.fits_by_model(COST, 4 << 30)
    n = step_cost.largest_batch(fits)
    assert COST.step_memory(n) <= step_cost.USABLE_MEMORY_FRACTION * (4 << 30) < COST.step_memory(2 * n)
    piece = step_cost.largest_micro_batch(fits, 4096)
    assert (
        COST.step_memory(4096, piece)
        <= step_cost.USABLE_MEMORY_FRACTION * (4 << 30)
        < COST.step_memory(4096, 2 * piece)
    )
    assert step_cost.largest_batch(step_cost.fits_by_model(COST, 0)) == 16


def test_times_add_up():
    assert PLAN.epoch_s(COST) == pytest.approx(
        15 * 64 * 0.01 + 2 * 100 * 0.002 + costs.CHECKPOINTS_S_PER_EPOCH
    )
    after = 4 * 500 * 0.002 + costs.METRICS_S + costs.BASELINES_S_PER_FOLD
    assert PLAN.downstream_s(COST) == pytest.approx(after)
    assert PLAN.planned_seconds(COST) == pytest.approx(20 * PLAN.epoch_s(COST) + after)
    assert PLAN.min_seconds(COST) == pytest.approx((6 + 2) * PLAN.epoch_s(COST) + after), "and the annealing"
    folds = replace(PLAN, folds=3, pretrainings=4, n_head_fits=7, linear_epochs=10, finetune_epochs=2)
    encoders, heads, finetuned = (
        7 * 500 * 0.002,
        7 * 10 * 500 * costs.HEADS_S_PER_FRAME_EPOCH,
        4 * 2 * 500 * 0.01 / 2,
    )
    of_folds = encoders + heads + finetuned + costs.METRICS_S + 3 * costs.BASELINES_S_PER_FOLD
    assert folds.planned_seconds(COST) == pytest.approx(4 * 20 * PLAN.epoch_s(COST) + of_folds)
    shared = replace(PLAN, ranks=2, setup_s=9.0)
    assert shared.epoch_s(COST) == pytest.approx(
        15 * 32 * 0.01 + 2 * 100 * 0.002 + costs.CHECKPOINTS_S_PER_EPOCH
    )
    assert shared.planned_seconds(COST) == pytest.approx(9 + 20 * shared.epoch_s(COST) + after)


def test_what_does_not_fit_is_said_with_what_does():
    lines = costs.estimate_lines(COST, PLAN, used=1 << 30, free=1 << 30)
    assert any("64: 2.4" in line for line in lines)
    assert lines[-1].startswith("WARNING") and "what fits: --batch-size 32 or --micro-batch 32" in lines[-1]
    nothing = costs.estimate_lines(COST, PLAN, used=1 << 30, free=1 << 20)
    assert nothing[-1].endswith("what fits: a smaller --image-size")
    with pytest.raises(UserError, match="not even 16 frames"):
        settled(batch_size="auto", fits=step_cost.fits_by_model(COST, 1 << 20))
    assert not any(
        line.startswith("WARNING") for line in costs.estimate_lines(COST, PLAN, used=0, free=8 << 30)
    )


def test_steps_are_measured_in_a_process_of_their_own():
    """A pair takes memory and time; the weights are exactly those of the model."""
    steps = probe.ProfileConfig(96, "adamw", True, "float32", max_pairs=16, smaller=[32])
    cost = probe.profile_step(steps, torch.device("cpu"))
    assert cost.parameters == 11_505_344 and cost.weights == 8 * cost.parameters
    assert cost.optimizer == pytest.approx(8 * cost.parameters, rel=0.01)
    assert cost.per_pair > 3 * 96 * 96 * 4 * 2, "more than the views alone"
    ((size, share),) = cost.smaller
    assert size == 32 and 0 < share < 1
    assert cost.pair_s > 0 and cost.frame_s > 0
    assert cost.step_memory(16) > cost.weights + cost.optimizer


def test_epochs_of_small_views_take_less():
    full, growing = replace(PLAN, sizes=(64,) * 20), replace(PLAN, sizes=(32,) * 12 + (64,) * 8)
    assert full.planned_seconds(COST) == PLAN.planned_seconds(COST)
    assert full.min_seconds(COST) == PLAN.min_seconds(COST)
    spent = growing.planned_seconds(COST) - full.planned_seconds(COST)
    assert spent == pytest.approx(12 * (PLAN.epoch_s(COST, 1 / 4) - PLAN.epoch_s(COST)))
    assert PLAN.epoch_s(COST) / 4 < PLAN.epoch_s(COST, 1 / 4) < PLAN.epoch_s(COST) / 3
    least = 6 * (PLAN.epoch_s(COST) + PLAN.epoch_s(COST, 1 / 4)) + 3 * PLAN.epoch_s(COST)
    assert growing.min_seconds(COST) == pytest.approx(PLAN.setup_s + least + PLAN.downstream_s(COST))
    more = 6 * (PLAN.epoch_s(COST) - PLAN.epoch_s(COST, 1 / 4))
    assert growing.max_seconds(COST) == pytest.approx(growing.planned_seconds(COST) + more)
    assert full.max_seconds(COST) == full.planned_seconds(COST)
    assert PLAN.max_seconds(COST) == PLAN.planned_seconds(COST)
    line = costs.estimate_lines(COST, growing, used=0, free=1)[2]
    assert f"an epoch {format_duration(PLAN.epoch_s(COST, 1 / 4))} to" in line
    assert f"{format_duration(growing.max_seconds(COST))} if views grow as early as they can" in line


def test_what_small_views_take_is_what_was_measured_where_it_was():
    growing, half = replace(PLAN, sizes=(32,) * 12 + (64,) * 8), replace(COST, smaller=[(32, 0.5)])
    spent = 12 * PLAN.epoch_s(half, 0.5) + 8 * PLAN.epoch_s(half)
    assert growing.pretraining_s(half, max_epochs=20) == pytest.approx(spent)


def test_a_disk_without_room_for_the_checkpoints_is_refused_at_once(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 1 << 40, 1000))
    with pytest.raises(UserError, match="--save-dir .* need about"):
        costs.check_disk_space(tmp_path, costs.estimate_disk_bytes(COST))


def test_defaults_follow_the_batch_size():
    assert settled() == settled(learning_rate=1e-3, weight_decay=0.01, warmup_epochs=10)
    assert settled(batch_size=256).learning_rate == pytest.approx(2e-3)
    lars = settled(optimizer="lars", batch_size=256)
    assert (lars.learning_rate, lars.weight_decay) == (pytest.approx(0.3), 1e-6)
    assert settled(epochs=20).warmup_epochs == 2
    assert settled(weight_decay=0.0, warmup_epochs=0.0).weight_decay == 0.0


def test_auto_takes_the_largest_batch_that_fits_and_leaves_an_epoch_its_batches():
    assert (
        settled(batch_size="auto").batch_size
        == 128
        == step_cost.largest_batch(step_cost.fits_by_model(COST, 4 << 30))
    )
    assert settled(batch_size="auto", rows=700).batch_size == 32, "700 frames are 20 batches of 35"
    assert settled(batch_size="auto", rows=11).batch_size == 11
    in_pieces = settled(batch_size="auto", micro_batch="auto", rows=100_000)
    assert (
        in_pieces.batch_size > 1000
        and COST.step_memory(in_pieces.batch_size, in_pieces.micro_batch) < 4 << 30
    )


def test_a_batch_is_no_larger_than_the_data_and_says_so(caplog):
    import logging

    logging.getLogger("simclr_rhd").propagate = True
    with caplog.at_level(logging.INFO, "simclr_rhd"):
        assert settled(rows=40).batch_size == 40
    assert "--batch-size 64 is more than the 40 frames" in caplog.text


def test_ranks_share_a_batch_that_they_can_share():
    assert settled(batch_size="auto", ranks=3).batch_size % 3 == 0
    assert settled(rows=40, ranks=3, batch_size=66).batch_size == 39
    with pytest.raises(UserError, match="--batch-size 64 cannot be shared by 3"):
        settled(ranks=3)
    with pytest.raises(UserError, match="too few for 4"):
        settled(rows=5, ranks=4)


def test_steps_that_cannot_be_taken_are_an_error_in_words(monkeypatch):
    done = namedtuple("done", "returncode stdout stderr")(-9, "", "")
    monkeypatch.setattr(probe.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(UserError, match="could not be taken: status -9, as of too little memory"):
        probe.profile_step(probe.ProfileConfig(224, "adamw", True, "auto"), torch.device("cpu"))


def test_figures_for_programs_are_plain():
    assert json.loads(json.dumps(costs.estimate_record(COST, PLAN, used=5)))[
        "peak_bytes"
    ] == 5 + COST.step_memory(64)


@pytest.mark.parametrize(
    ("positives", "videos", "wanted"),
    [
        ("auto", 64, "video"),
        ("auto", 63, "frame"),
        ("frame", 10_000, "frame"),
        ("video", 2, "video"),
    ],
)
def test_positives_are_of_a_video_where_there_are_as_many_as_frames_in_a_batch(positives, videos, wanted):
    assert settled(positives=positives, videos=videos).positives == wanted
    assert settled(positives="auto", videos=128, batch_size=256).positives == "frame"


def test_each_fit_of_heads_and_each_encoder_is_counted(monkeypatch):
    """The untrained encoder is drawn several times, and each draw is encoded and trained on."""
    done = []

    def fit(*arguments, **options):
        done.append(1)
        return train_heads(*arguments, **options)

    monkeypatch.setattr("simclr_rhd.heads.cross_validation.train_heads", fit)
    classes = {"view": ["A4C", "PLAX"], "condition": ["AR", "MR"], "severity": []}
    cohort = build_labelled_set(make_dataset(classes, folds=3), multilabel=False)
    x = np.random.default_rng(0).normal(size=(len(cohort.paths), FEATURE_DIM)).astype(np.float32)
    rivals = {RANDOM_ENCODER: [x] * N_RANDOM_ENCODERS} | (
        {"imagenet encoder": [x]} if imagenet_weights_cached() else {}
    )
    cv = CrossValidation(
        cohort,
        FeatureSet({"features": x}, [x] * 3, rivals, {"pixels": x}),
        HeadConfig(linear_epochs=1, classifier_lr=0.01, seed=0, head_seeds=1),
    )
    cv.predict_all(cv.fit_folds(cv.features.per_fold))
    cv.fit_final(cohort.folds[0])
    assert n_head_fits(parse(["--folds", "3"])) == len(done)
    assert n_baseline_encoders() == sum(map(len, rivals.values()))
