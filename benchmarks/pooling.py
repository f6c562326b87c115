"""Attention pooling beside the mean: simulated exams in which few frames, or all, show a lesion.

    .venv/bin/python benchmarks/pooling.py

An exam has 30 frames of 5 views. Features of a frame: a pattern of the patient, noise, its view, and in
frames that show the lesion a direction of that strength. The frames' head learns from true labels of frames
where few show the lesion, the best case for the mean, and from the patients' else. Printed are medians over
seeds of the AUROC per exam of tested patients: by the mean, by attention, by what validation exams choose.
"""

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simclr_rhd.core.config import AUTO
from simclr_rhd.evaluation.config import ATTENTION, MEAN
from simclr_rhd.evaluation.screening.discrimination import auroc
from simclr_rhd.evaluation.screening.exams import Exams
from simclr_rhd.evaluation.screening.fit import choose_scorer, fit_scorers
from simclr_rhd.evaluation.screening.pooling import FrameEvidence

DIM, FRAMES, VIEWS, TESTED = 960, 30, 5, 300
PATIENT_STD, NOISE_STD = 0.7, 0.7


@dataclass(frozen=True)
class Simulation:
    """Simulated exams: of training, validation and tested patients, in this order."""

    features: np.ndarray  # (n, D) float32
    views: np.ndarray  # (n, V) one-hot
    shows_lesion: np.ndarray  # (n,) bool
    positive: np.ndarray  # (U,) bool

    @property
    def exam(self) -> np.ndarray:
        """(n,) the exam of each frame."""
        return np.repeat(np.arange(len(self.positive)), FRAMES)

    def exams(self, patients: np.ndarray) -> Exams:
        """The exams of some patients."""
        rows = np.flatnonzero(np.isin(self.exam, patients))
        place = np.searchsorted(patients, self.exam[rows])
        return Exams(self.positive[patients], patients.astype(str), rows, place, left_out=0)


def simulate(n_patients: int, *, shown: int, strength: float, seed: int) -> Simulation:
    """Patients, half of them positive, with `shown` frames that show it."""
    rng = np.random.default_rng(seed)
    positive = rng.permutation(np.arange(n_patients) % 2 == 0)
    n = n_patients * FRAMES
    view = rng.integers(VIEWS, size=n)
    shows = np.zeros((n_patients, FRAMES), dtype=bool)
    for patient in np.flatnonzero(positive):
        shows[patient, rng.choice(FRAMES, shown, replace=False)] = True
    directions = rng.normal(size=(VIEWS + 1, DIM)) / np.sqrt(DIM)  # of length 1
    features = PATIENT_STD * rng.normal(size=(n_patients, DIM)).repeat(FRAMES, axis=0)
    features += NOISE_STD * rng.normal(size=(n, DIM)) + 5 * directions[view]
    features += strength * shows.reshape(-1, 1) * directions[-1]
    return Simulation(features.astype(np.float32), np.eye(VIEWS)[view], shows.ravel(), positive)


def areas(n_train: int, *, shown: int, strength: float, seed: int) -> dict[str, float]:
    """{way: AUROC of the tested exams} of the mean, of attention, and of the chosen one."""
    simulation = simulate(2 * n_train + TESTED, shown=shown, strength=strength, seed=seed)
    patients = np.split(np.arange(2 * n_train + TESTED), [n_train, 2 * n_train])
    training, validation, tested = map(simulation.exams, patients)
    labels = simulation.shows_lesion if shown < FRAMES else simulation.positive[simulation.exam]
    head = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=1000)
    head.fit(simulation.features[training.rows], labels[training.rows])
    evidence = FrameEvidence(
        probability=head.predict_proba(simulation.features)[:, 1],
        prevalence=np.full(len(labels), 0.5),
        videos=simulation.exam.astype(str),
        features=simulation.features,
        others=simulation.views,
    )
    scorers = fit_scorers(evidence, training, validation)
    chosen = choose_scorer(AUTO, scorers, evidence, validation, seed=seed)
    ways = {"mean": scorers[MEAN], "attention": scorers[ATTENTION], "chosen": chosen}
    return {
        name: auroc(tested.scores(scorer.score(evidence, tested)), seed=seed).value
        for name, scorer in ways.items()
    } | {"way": chosen.pooling.name}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print("| frames that show it | training exams | strength | mean | attention | chosen | - mean | by |")
    print("|---|---|---|---|---|---|---|---|")
    for shown, strengths in ((2, (4.0, 6.0)), (30, (2.0, 3.0))):
        for n_train in (60, 200):
            for strength in strengths:
                runs = [
                    areas(n_train, shown=shown, strength=strength, seed=seed) for seed in range(options.seeds)
                ]
                cells = [
                    statistics.median(run[name] for run in runs) for name in ("mean", "attention", "chosen")
                ]
                gain = statistics.median(run["chosen"] - run["mean"] for run in runs)
                numbers = " | ".join(f"{cell:.3f}" for cell in cells)
                ways = ", ".join(sorted({run["way"] for run in runs}))
                print(
                    f"| {shown} of {FRAMES} | {n_train} | {strength:g} | {numbers} | {gain:+.3f} | {ways} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
