"""Coverage of the 95 % intervals of `intervals.py` in simulated studies.

    .venv/bin/python benchmarks/interval_coverage.py [--groups 10 20 40] [--studies 200]

A study has groups of ten frames. A group is of one of three classes, and each of its frames is found with
the group's own chance, drawn from Beta(1.5, 0.5): frames of a group are alike (intraclass correlation 1/3).
The true accuracy and the true balanced accuracy are 0.75. Three intervals from the same frames are compared:
ours, over groups; the plain percentiles of the same resamples; and ours as if each frame were a group of its
own. An honest one holds the truth in 95 % of the studies; one standard error of 200 studies is 1.5 %.
The last table is of groups of unequal size, few of them of one of two classes: intervals of its recall, too.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simclr_rhd.evaluation.scores.bootstrap import resample_counts
from simclr_rhd.evaluation.scores.figures import compute_figures
from simclr_rhd.evaluation.scores.intervals import bootstrap_intervals
from simclr_rhd.evaluation.scores.samples import Samples

FRAMES, CLASSES = 10, 3
BETA, TRUTH = (1.5, 0.5), 0.75
FIGURES = ("accuracy", "balanced_accuracy")
RARE, RARE_FIGURES = ((10, 3), (20, 3), (20, 6), (40, 4)), (*FIGURES, "recall of the rare class")
METHODS = ("over groups", "plain percentiles", "over frames")


def simulate_study(n_groups, generator):
    """True classes (n,), probabilities (n, 3) that are 0 or 1, and groups (n,)."""
    group = np.repeat(np.arange(n_groups), FRAMES)
    true = group % CLASSES
    correct = generator.random(len(true)) < generator.beta(*BETA, n_groups)[group]
    other = (true + generator.integers(1, CLASSES, len(true))) % CLASSES
    return true, np.eye(CLASSES)[np.where(correct, true, other)], group


def coverage(n_groups, studies, seed=0):
    """{figure: {method: share of the studies whose interval holds the truth}}."""
    holds = {name: dict.fromkeys(METHODS, 0) for name in FIGURES}
    drawn = resample_counts(n_groups, seed)
    for number in range(studies):
        true, probabilities, group = simulate_study(n_groups, np.random.default_rng([seed, n_groups, number]))
        of_groups, of_frames = (
            Samples(true, probabilities, names) for names in (group, np.arange(len(true)))
        )
        resamples = compute_figures(of_groups, (), drawn).averages
        intervals = {
            "over groups": bootstrap_intervals(of_groups, (), seed=seed)[1],
            "plain percentiles": {name: np.quantile(resamples[name], [0.025, 0.975]) for name in FIGURES},
            "over frames": bootstrap_intervals(of_frames, (), seed=seed)[1],
        }
        for method, of_method in intervals.items():
            for name in FIGURES:
                low, high = of_method[name]
                holds[name][method] += (low <= TRUTH <= high) / studies
    return holds


def rare_coverage(n_groups, n_rare, studies, seed=0):
    """{figure: share} of ours, where sizes are geometric and `n_rare` groups are of the second class."""
    holds = dict.fromkeys(RARE_FIGURES, 0)
    for number in range(studies):
        generator = np.random.default_rng([seed, n_groups, n_rare, number])
        group = np.repeat(np.arange(n_groups), generator.geometric(1 / FRAMES, n_groups))
        true = (group < n_rare).astype(np.int64)
        right = generator.random(len(group)) < generator.beta(*BETA, n_groups)[group]
        predicted = np.where(right, true, 1 - true)
        of_classes, averages = bootstrap_intervals(Samples(true, np.eye(2)[predicted], group), (), seed=seed)
        intervals = [*(averages[name] for name in FIGURES), of_classes["recall"][1]]
        for name, (low, high) in zip(holds, intervals, strict=True):
            holds[name] += (low <= TRUTH <= high) / studies
    return holds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--studies", type=int, default=200)
    options = parser.parse_args()
    print(f"{'groups':>6}  {'figure':<18}" + "".join(f"{method:>19}" for method in METHODS))
    for n_groups in options.groups:
        for name, shares in coverage(n_groups, options.studies).items():
            print(f"{n_groups:>6}  {name:<18}" + "".join(f"{share:>19.3f}" for share in shares.values()))
    print(f"\n{'groups':>6}  {'of the rare class':<18}" + "".join(f"{name:>26}" for name in RARE_FIGURES))
    for n_groups, n_rare in RARE:
        shares = rare_coverage(n_groups, n_rare, options.studies)
        print(f"{n_groups:>6}  {n_rare:<18}" + "".join(f"{share:>26.3f}" for share in shares.values()))


if __name__ == "__main__":
    main()
