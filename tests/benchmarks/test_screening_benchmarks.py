import sys
from pathlib import Path

import numpy as np

from simclr_rhd.evaluation.screening.thresholds import SENSITIVITY, OperatingGoal

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import operating_coverage  # noqa: E402
import pooling  # noqa: E402


def test_most_intervals_of_an_operating_point_hold_its_sensitivity():
    rng, goal = np.random.default_rng(0), OperatingGoal(SENSITIVITY, 0.9)
    held = [operating_coverage.covers(rng, 20, videos=2, goal=goal, seed=study) for study in range(40)]
    assert 34 <= sum(held) <= 40


def test_attention_is_chosen_where_few_frames_show_the_lesion(monkeypatch):
    monkeypatch.setattr(pooling, "DIM", 40)
    monkeypatch.setattr(pooling, "TESTED", 100)
    found = pooling.areas(60, shown=2, strength=4.0, seed=0)
    assert found["way"] == "attention" and found["chosen"] > found["mean"] + 0.15
