import copy
import logging
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.seeding import Stream
from simclr_rhd.data.decoding.image import COLOR
from simclr_rhd.heads.calibration import fit_scaling
from simclr_rhd.heads.config import FinetuneConfig, HeadConfig
from simclr_rhd.heads.finetune import FinetuneData, finetune
from simclr_rhd.heads.losses import HeadTargets
from simclr_rhd.heads.model import predict
from simclr_rhd.heads.train import train_heads
from simclr_rhd.runs.checkpoint import digest
from simclr_rhd.ssl.augment import eval_view, sample_view_params, two_views
from simclr_rhd.ssl.config import NO_WINDOW, PRESETS
from simclr_rhd.ssl.encoder.features import extract
from simclr_rhd.ssl.encoder.model import build, stage_features

SIZE, SIDE, CPU = 32, 37, torch.device("cpu")
N_OUTPUTS = {"view": 2, "lesions": 2, "severity": 3}
TRAIN, VAL, TEST = np.arange(24), np.arange(24, 36), np.arange(36, 40)
NONE = np.arange(0)
STILL = {"crop_min": 1.0, "flip": 0.0, "jitter": 0.0, "grayscale": 0.0, "blur": 0.0, "rotation": 0.0}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def problem():
    """A store of 50 frames, 40 of them labelled: stripes, brightness of the halves and tint, in noise."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(50)[:40]
    view, severity, lesions = rng.integers(0, 2, 40), rng.integers(0, 3, 40), rng.integers(0, 2, (40, 2))
    frames = rng.integers(0, 100, (50, 3, SIDE, SIDE), dtype=np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE] // 3 % 2
    for row, upright, degree, (left, right) in zip(rows, view, severity, lesions, strict=True):
        frames[row] += np.uint8(50) * (x if upright else y).astype(np.uint8)
        frames[row, :, :, : SIDE // 2] += np.uint8(40 * left)
        frames[row, :, :, SIDE // 2 :] += np.uint8(40 * right)
        frames[row, degree] += 60
    view[::5], lesions[1::3], severity[::2] = -1, -1, -1
    return frames, rows, {"view": view, "lesions": lesions, "severity": severity}


@pytest.fixture(scope="module")
def start():
    """An encoder that has learnt nothing but its BatchNorm statistics, and heads that have learnt little."""
    encoder = build("random", seed=3).encoder
    frames, rows, targets = problem()
    with torch.no_grad():
        for _ in range(20):
            encoder(eval_view(torch.from_numpy(frames[rows]), size=SIZE))
    features = extract(encoder, frames, rows, size=SIZE, device=CPU)
    config = HeadConfig(linear_epochs=5, classifier_lr=1e-3, seed=0, head_seeds=1, head_l2=0.01)
    heads = train_heads(features, HeadTargets(targets, N_OUTPUTS), TRAIN, VAL, config).heads
    return encoder.requires_grad_(False), heads


def tune(start, frames, rows, targets, train=TRAIN, val=VAL, *, patience=5, **flags):
    kinds = np.full(len(frames), COLOR, np.uint8)
    defaults = {"image_size": SIZE, "augment": "light", "seed": 0, "finetune_epochs": 1}
    config = FinetuneConfig(**defaults | {"finetune_lr": 1e-4} | flags)
    data = FinetuneData(frames, kinds, rows, HeadTargets(targets, N_OUTPUTS), train, val)
    return finetune(*start, data, config, CPU, patience=patience)


@pytest.fixture(scope="module")
def tuned(start):
    return tune(start, *problem(), finetune_epochs=10, seed=3)


def uncalibrated(heads):
    heads = copy.deepcopy(heads)
    heads.uncalibrate()
    return heads


def balanced_loss(logits, targets, some):
    """The sum over tasks, frame by frame and lesion by lesion, of what each annotation costs."""
    total = 0.0
    for task, values in targets.items():
        labels, losses, weights = values.reshape(len(values), -1), [], []
        for column in range(labels.shape[1]):
            x, known = logits[task], labels[TRAIN, column][labels[TRAIN, column] != -1]
            if values.ndim == 2:  # a sigmoid is a softmax over 0 and its logit
                x = torch.stack([torch.zeros(len(some)), x[:, column]], dim=1)
            for place, label in enumerate(labels[some, column]):
                if label != -1:
                    weights.append(len(known) / len(np.unique(known)) / (known == label).sum())
                    losses.append(weights[-1] * F.cross_entropy(x[place], torch.tensor(label)))
        total += sum(losses) / sum(weights)
    return total


def test_no_window_hides_what_a_label_names(start):
    windows = tune(start, *problem(), window_min=0.2)
    whole = tune(start, *problem(), window_min=NO_WINDOW)
    assert digest(windows.encoder) == digest(whole.encoder)


def test_an_epoch_of_one_batch_is_a_step_of_adamw(start):
    """On the first views of rows in the store, BatchNorm in evaluation mode, no decay of vectors."""
    frames, rows, targets = problem()
    found = tune(start, frames, rows, targets, val=NONE, seed=5)
    encoder, heads = copy.deepcopy(start[0]).eval().requires_grad_(True), uncalibrated(start[1])
    stored, kinds = torch.from_numpy(frames[rows[TRAIN]]), torch.full((24,), COLOR, dtype=torch.uint8)
    u, _ = sample_view_params(5, 1, rows[TRAIN], Stream.FINETUNE_VIEWS)
    whole = replace(PRESETS["light"], window_min=NO_WINDOW)
    views = two_views(stored, kinds, u, size=SIZE, augment_config=whole)[:24]
    groups = [
        {"params": [p for p in model.parameters() if (p.ndim > 1) == decays], "weight_decay": decay}
        for model in (encoder, heads)
        for decays, decay in ((True, 0.01), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4)
    loss = balanced_loss(heads(stage_features(encoder, views)), targets, TRAIN)
    loss.backward()
    optimizer.step()
    assert found.history[1]["loss"] == pytest.approx(loss.item(), rel=1e-4)
    for model, wanted in ((found.encoder, encoder), (found.heads, heads)):
        for (name, one), other in zip(model.named_parameters(), wanted.parameters(), strict=True):
            same = torch.isclose(one, other, rtol=0, atol=2e-6)  # but where a gradient is as good as 0
            assert same.float().mean() > 0.98, name


def test_rates_rise_in_the_first_epoch_and_fall_to_nothing_and_vectors_do_not_decay(start, monkeypatch):
    monkeypatch.setattr("simclr_rhd.heads.finetune.BATCH_SIZE", 5)  # so nine frames are two batches
    seen = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append(
            [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        )
    )
    tune(start, *problem(), TRAIN[:9], NONE, finetune_epochs=3)
    hook.remove()
    shares = [0.5, 1.0] + [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    np.testing.assert_allclose(seen, [[(1e-4 * share, 0.01), (1e-4 * share, 0.0)] for share in shares])


def test_learns_what_heads_alone_cannot(tuned, start, monkeypatch):
    monkeypatch.setattr("simclr_rhd.heads.finetune.stage_features", torch.no_grad()(stage_features))
    alone = tune(start, *problem(), finetune_epochs=10, seed=3)
    assert digest(alone.encoder) == digest(start[0]) and digest(alone.heads) != digest(start[1])
    for name, share in (("loss", 0.5), ("val_loss", 0.85)):
        ours, theirs = (min(record[name] for record in of.history[1:]) for of in (tuned, alone))
        assert ours < share * theirs


def test_what_is_given_is_not_changed_and_batchnorm_keeps_its_statistics(start):
    encoder, heads = start
    before = digest(encoder), digest(heads)
    found = tune(start, *problem(), val=NONE)
    assert (digest(encoder), digest(heads)) == before
    assert encoder.training and not any(p.requires_grad for p in encoder.parameters())
    assert not found.encoder.training
    for (name, one), other in zip(found.encoder.named_buffers(), encoder.buffers(), strict=True):
        assert torch.equal(one, other), name
    for (name, one), other in zip(found.encoder.named_parameters(), encoder.parameters(), strict=True):
        assert not torch.equal(one, other), name


def test_the_epoch_of_lowest_validation_loss_is_kept(tuned):
    frames, rows, targets = problem()
    losses = [record["val_loss"] for record in tuned.history]
    assert [record["best"] for record in tuned.history] == [
        all(loss < earlier for earlier in losses[:epoch]) for epoch, loss in enumerate(losses)
    ]
    features = extract(tuned.encoder, frames, rows, size=SIZE, device=CPU)
    with torch.no_grad():
        logits = uncalibrated(tuned.heads)(torch.from_numpy(features[VAL]))
    assert float(balanced_loss(logits, targets, VAL)) == pytest.approx(min(losses), rel=1e-4)
    known = targets["view"][VAL] != -1
    true = targets["view"][VAL][known]
    fitted = fit_scaling(logits["view"][known].double().numpy(), true, n_independent=known.sum())
    assert float(tuned.heads.temperature[0]) == pytest.approx(fitted.temperature, rel=1e-4)
    np.testing.assert_allclose(tuned.heads.split_by_task(tuned.heads.bias)["view"], fitted.bias, atol=1e-4)
    for task, table in predict(tuned.heads, features).items():
        np.testing.assert_array_equal(tuned.probabilities[task], table)


def test_fine_tuning_that_only_harms_is_not_taken(start):
    frames, rows, targets = problem()
    for task, n in N_OUTPUTS.items():
        known = targets[task][VAL] != -1
        wrong = 1 - targets[task][VAL] if task == "lesions" else (targets[task][VAL] + 1) % n
        targets[task][VAL] = np.where(known, wrong, -1)
    found = tune(start, frames, rows, targets, finetune_epochs=9, finetune_lr=1e-3, patience=2)
    assert [record["best"] for record in found.history] == [True, False, False]
    assert digest(found.encoder) == digest(start[0])
    assert digest(uncalibrated(found.heads)) == digest(uncalibrated(start[1]))


def test_without_validation_rows_the_last_epoch_is_kept_uncalibrated(start):
    found = tune(start, *problem(), val=NONE, finetune_epochs=2, patience=1)
    assert [record["epoch"] for record in found.history] == [0, 1, 2]
    assert all(record["best"] and record["val_loss"] is None for record in found.history)
    assert (found.heads.temperature == 1).all() and (start[1].temperature != 1).any()


def test_frames_not_annotated_and_frames_of_the_test_part_change_nothing(start):
    frames, rows, targets = problem()
    for values in targets.values():
        values[3] = -1
    one = tune(start, frames, rows, targets, finetune_epochs=2)
    others = np.setdiff1d(np.arange(50), rows[np.setdiff1d(np.append(TRAIN, VAL), 3)])
    frames[others] = 255 - frames[others]
    for values in targets.values():
        values[TEST] = 1 - values[TEST].clip(0, 1)
    other = tune(start, frames, rows, targets, np.setdiff1d(TRAIN, 3), finetune_epochs=2)
    assert one.history == other.history
    assert digest(one.encoder) == digest(other.encoder) and digest(one.heads) == digest(other.heads)


@pytest.mark.parametrize("strengths", [{}, STILL])
def test_same_seed_same_weights_another_seed_others(start, strengths):
    """By the views, or by the order alone."""
    how = {"val": NONE, **strengths}
    one, again, other = (tune(start, *problem(), TRAIN[:9], seed=seed, **how) for seed in (0, 0, 1))
    assert digest(one.encoder) == digest(again.encoder) != digest(other.encoder)
    assert digest(one.heads) == digest(again.heads) != digest(other.heads)


def test_each_epoch_has_a_line_and_grey_stores_one_channel(start, caplog):
    frames, rows, targets = problem()
    with caplog.at_level(logging.INFO, logger="simclr_rhd"):
        tune(start, frames[:, :1], rows, targets, TRAIN[:9], VAL[:6], finetune_epochs=2)
    first, second, third = caplog.messages
    assert re.fullmatch(r"finetune epoch 0/2: validation \d\.\d{4}, best so far", first)
    rest = r"loss \d\.\d{4}, validation \d\.\d{4}(, best so far)?, \d+ frames/s, at most \d+ s left"
    assert re.fullmatch(f"finetune epoch 1/2: {rest}", second)
    assert re.fullmatch(f"finetune epoch 2/2: {rest}", third)


def test_a_loss_that_is_not_finite_is_a_users_error(start):
    with pytest.raises(UserError, match="loss of epoch 1 is not finite; lower --finetune-lr"):
        tune(start, *problem(), finetune_lr=1e30)
