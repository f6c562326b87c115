import math
from dataclasses import replace

import pytest

from simclr_rhd.ssl.monitoring.collapse import collapse_warnings
from simclr_rhd.ssl.monitoring.epoch_record import EpochRecord

FINE = EpochRecord(
    epoch=10,
    loss=3.4,
    uniform=4.84,
    perfect=2.9,
    val_loss=3.5,
    val_uniform=4.6,
    alignment=0.4,
    uniformity=-3.1,
    rank=41.0,
    measured_frames=300,
    knn=None,
    knn_mean=None,
    averaged=True,
    learning_rate=1e-3,
    frames_per_s=100.0,
    size=64,
    annealing=False,
    last_epoch=100,
)
FIGURES = ("loss", "uniform", "perfect", "val_loss", "val_uniform", "alignment", "uniformity", "rank")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"uniformity": -0.01, "rank": 1.0, "loss": 4.84}, ["collapse", "--learning-rate", "--batch-size"]),
        ({"rank": 3.1}, ["effective rank 3.1 of 128", "--temperature"]),
        ({"rank": 6.3}, ["dimensional collapse"]),
        ({"loss": 4.82}, ["4.820", "4.840", "--learning-rate", "higher --crop-min"]),
        ({"loss": 4.82, "perfect": 4.79}, ["even perfect", "4.790", "lower --temperature"]),
        ({"val_loss": 4.59}, ["held-out loss 4.590", "lower --crop-min"]),
    ],
)
def test_each_warning_names_the_figure_and_what_to_do(changes, parts):
    (warning,) = collapse_warnings(replace(FINE, **changes), dim=128)
    assert all(text in warning for text in parts)
    assert "Try" in warning and warning.count(". ") <= 1 and warning.endswith(".")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epoch": 3, "loss": 4.84, "rank": 2.0, "uniformity": -0.01},
        dict.fromkeys(FIGURES),
        dict.fromkeys(FIGURES, math.nan),
        {"val_loss": None, "val_uniform": None},
        {"uniformity": -0.2},
        {"rank": 6.5},
        {"loss": 4.7, "val_loss": 4.59},
        {"uniform": 0.0, "loss": 0.0},
    ],
)
def test_there_is_no_warning_without_cause(changes):
    assert collapse_warnings(replace(FINE, **changes), dim=128) == []


def test_two_causes_are_two_warnings():
    assert len(collapse_warnings(replace(FINE, rank=2.0, loss=4.83), dim=128)) == 2


def test_a_rank_is_low_only_for_what_there_is():
    """Of two dimensions, or on few rows, a rank cannot be higher."""
    assert collapse_warnings(replace(FINE, rank=1.8), dim=2) == []
    assert collapse_warnings(replace(FINE, rank=4.5, measured_frames=4), dim=128) == []
    assert collapse_warnings(replace(FINE, rank=20.0), dim=512)
    assert not collapse_warnings(replace(FINE, rank=20.0, measured_frames=150), dim=512)
