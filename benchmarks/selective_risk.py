"""Does the abstention rule keep its promise? Simulated studies whose true risk is known.

    .venv/bin/python benchmarks/selective_risk.py [--patients 11 50 100] [--studies 1000] [--seed 0]

A patient has 1 to 12 frames, all harder or easier to tell than others' (a normal shift of the log odds). A
prediction has a confidence c, and is right with the odds of c, moved by the patient's shift: predictions for
a patient are alike, and a few patients have most mistakes. The risk at a threshold is the share of a
patient's accepted predictions that is wrong, in the mean over patients with any, as it is in 40,000 patients.
A study breaks the promise if it accepts predictions at a threshold whose true risk is above 10 %. Beside it
stands what the lowest threshold of an empirical risk of at most 10 % does.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.special import expit, logit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simclr_rhd.evaluation.selective import ABSTAIN_ALWAYS, TARGET_RISK, THRESHOLDS, choose_threshold

FRAMES, SHIFT, POPULATION = 12, 1.5, 40_000
EASE = (
    0.0,
    1.0,
)  # added to the log odds: in the mean over patients the confidence is too high, or about right


def simulate_study(patients, ease, generator):
    """(n,) confidence, whether it is right, and patient."""
    patient = np.repeat(np.arange(patients), generator.integers(1, FRAMES + 1, patients))
    confidence = generator.beta(3, 1, len(patient)).clip(0.01, 0.995)
    shift = ease + SHIFT * generator.normal(size=patients)[patient]
    return confidence, generator.random(len(patient)) < expit(logit(confidence) + shift), patient


def risks(confidence, right, patient):
    """{threshold: share of wrong accepted predictions of a patient, in the mean over patients with any}."""
    risk_of = {}
    for threshold in THRESHOLDS:
        accepted = confidence >= threshold
        of_patients = np.bincount(patient[accepted])
        wrong = np.bincount(patient[accepted & ~right], minlength=len(of_patients))
        risk_of[threshold] = float((wrong / np.maximum(of_patients, 1))[of_patients > 0].mean())
    return risk_of


def simulate(patients, *, studies, ease=1.0, seed=0):
    """Shares of studies that break the promise, that accept any prediction, and the empirical rule's."""
    truth = risks(*simulate_study(POPULATION, ease, np.random.default_rng([seed, 1])))
    shares = {"broken": 0.0, "accepting": 0.0, "by the empirical risk": 0.0}
    for number in range(studies):
        of_study = simulate_study(patients, ease, np.random.default_rng([seed, 2, patients, number]))
        threshold = choose_threshold(*of_study).threshold
        shares["accepting"] += (threshold < ABSTAIN_ALWAYS) / studies
        shares["broken"] += (threshold < ABSTAIN_ALWAYS and truth[threshold] > TARGET_RISK) / studies
        fine = [at for at in THRESHOLDS if (of_study[0] >= at).any()]
        frames = {at: (~of_study[1][of_study[0] >= at]).mean() for at in fine}
        lowest = min((at for at in fine if frames[at] <= TARGET_RISK), default=None)
        shares["by the empirical risk"] += (lowest is not None and truth[lowest] > TARGET_RISK) / studies
    return shares


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[11, 50, 100])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'patients':>8} {'ease':>5}  {'broken':>7}  {'accepting':>9}  {'by the empirical risk':>21}")
    for ease in EASE:
        for patients in options.patients:
            rates = simulate(patients, studies=options.studies, ease=ease, seed=options.seed)
            columns = zip(rates.values(), (7, 9, 21), strict=True)
            shares = "  ".join(f"{share:>{width}.3f}" for share, width in columns)
            print(f"{patients:>8} {ease:>5.1f}  {shares}")


if __name__ == "__main__":
    main()
