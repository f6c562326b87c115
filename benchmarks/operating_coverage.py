"""Coverage of the interval of an operating point's sensitivity.

    .venv/bin/python benchmarks/operating_coverage.py

Simulated studies: the threshold for a sensitivity is chosen on validation patients, and the sensitivity at it
is measured, with its 95 % interval over patients, on as many tested ones. A patient has one exam, or three
videos whose scores lie about the patient's own. The true sensitivity at the threshold is that of the
distribution of scores. Aimed at: 95 %; 300 studies can show no more than 92 to 98 %.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simclr_rhd.evaluation.screening.rates import ScreeningScores, rates_at
from simclr_rhd.evaluation.screening.thresholds import SENSITIVITY, OperatingGoal, choose_threshold

SEPARATION, NEGATIVE_PER_POSITIVE = 1.5, 4  # deviations between both kinds; patients
WITHIN_STD = 0.5  # of a patient's videos; patients have 1


def simulate(rng: np.random.Generator, n_positive: int, *, videos: int) -> ScreeningScores:
    """Scores of patients, `videos` of each."""
    positive = np.arange(n_positive * (1 + NEGATIVE_PER_POSITIVE)) < n_positive
    patient = np.repeat(np.arange(len(positive)), videos)
    own = rng.normal(size=len(positive)) + SEPARATION * positive
    score = own[patient] + (WITHIN_STD * rng.normal(size=len(patient)) if videos > 1 else 0)
    return ScreeningScores(positive[patient], score, patient)


def covers(rng: np.random.Generator, n_positive: int, *, videos: int, goal: OperatingGoal, seed: int) -> bool:
    """Return True if the interval of a study's sensitivity holds the true one."""
    threshold = choose_threshold(simulate(rng, n_positive, videos=videos), goal)
    measured = rates_at(simulate(rng, n_positive, videos=videos), threshold, seed=seed).sensitivity
    deviation = np.hypot(1, WITHIN_STD) if videos > 1 else 1.0
    true = norm.sf(threshold, loc=SEPARATION, scale=deviation)
    return bool(measured.low <= true <= measured.high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| positive patients | videos of each | goal | interval holds the true one |\n|---|---|---|---|")
    for n_positive in (20, 60):
        for videos in (1, 3):
            for share in (0.90, 0.95):
                rng, goal = np.random.default_rng(options.seed), OperatingGoal(SENSITIVITY, share)
                held = [
                    covers(rng, n_positive, videos=videos, goal=goal, seed=study)
                    for study in range(options.studies)
                ]
                print(f"| {n_positive} | {videos} | {goal.name} | {np.mean(held):.1%} |", flush=True)


if __name__ == "__main__":
    main()
