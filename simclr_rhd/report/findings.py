"""Findings: how each target compares with each baseline, and what must be known before all else."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from simclr_rhd.evaluation.checks.shortcuts import explaining_shortcuts
from simclr_rhd.evaluation.results import RunResults, TargetResult
from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.report.wording import (
    BASELINE_NAMES,
    LEAKY_WARNING,
    REPEATED_TEST_WARNING,
    SYNTHETIC_WARNING,
    format_score,
)

MIN_GROUPS = 5  # in the test part; with fewer, resampling them means next to nothing
TIE_BELOW = 0.005  # a smaller difference is 0.00 on the page
WORSE, NOT_BETTER, UNSURE, BETTER = "worse", "not better", "unsure", "better"
OUTCOMES = (WORSE, NOT_BETTER, UNSURE, BETTER)  # the worst first
# {baseline: its name in a warning, and the words before "as well" or "better"}
WARNED_BASELINES = {
    "pixels": ("RAW PIXELS", "A logistic regression on small pictures does"),
    "mask": (
        "A MASK",
        "The black area of a frame depends on the device and its settings, not on the heart, and predicts",
    ),
    "header": (
        "WHAT IS KNOWN WITHOUT THE PICTURE",
        "Site, device, size and kind of colour of a frame predict",
    ),
    "random encoder": (
        "AN UNTRAINED ENCODER",
        "The pretraining has not paid there: the same heads on random weights do",
    ),
}
OUTCOME_WARNINGS = {
    WORSE: "WORSE THAN {baseline}: {targets}. {rival} better there, by more than chance.",
    NOT_BETTER: "NOT BETTER THAN {baseline}: {targets}. {rival} as well or better there.",
    UNSURE: "NOT SHOWN TO BE BETTER THAN {baseline}: {targets}. The difference may be chance.",
}
SHORTCUT_WARNING = (
    "A SHORTCUT MAY EXPLAIN THE SCORE of {target}: {baseline} alone has {score} per {level}, where guessing "
    "has {chance}, and the model's {ours} is not above that by more than chance."
)


@dataclass(frozen=True)
class Finding:
    """A target's comparison with a baseline, at the level that is judged.

    Attributes:
        target: its name.
        baseline: one of BASELINE_NAMES.
        outcome: one of OUTCOMES.
        score: the baseline's balanced accuracy.
    """

    target: str
    baseline: str
    outcome: str
    score: Score


def find_target(name: str, result: TargetResult) -> Iterator[Finding]:
    """The comparisons of a target."""
    if level := result.primary_level:
        for baseline in BASELINE_NAMES:
            if outcome := compare_to_baseline(result, baseline, level):
                yield Finding(name, baseline, outcome, result.baseline_score(baseline, level))


def compare_to_baseline(result: TargetResult, baseline: str, level: str) -> str | None:
    """Finding of the model against a baseline, by the interval of their difference; None where unknown.

    WORSE and BETTER by more than chance; else NOT_BETTER where it is equal or below, UNSURE where above.
    """
    margin = result.margins.get(baseline, {}).get(level)
    if margin is None or margin.balanced_accuracy is None:
        return None
    bounds = margin.ci95  # none where the difference rests on a single group
    if bounds and result.test[level].groups >= MIN_GROUPS and (bounds[0] > 0 or bounds[1] < 0):
        return BETTER if bounds[0] > 0 else WORSE
    return UNSURE if margin.balanced_accuracy >= TIE_BELOW else NOT_BETTER


def worst_outcomes(results: RunResults) -> dict[str, list[str]]:
    """{outcome: targets}, by the baseline that a target does worst against; UNSURE without any baseline."""
    targets: dict[str, list[str]] = {outcome: [] for outcome in OUTCOMES}
    for name, result in results.targets.items():
        if result.primary_level:
            outcomes = [finding.outcome for finding in find_target(name, result)] or [UNSURE]
            targets[min(outcomes, key=OUTCOMES.index)].append(name)
    return targets


def collect_warnings(results: RunResults) -> list[str]:
    """Warnings to read before any figure, the worst first."""
    warnings = [*data_warnings(results), *shortcut_warnings(results)]
    explained = {name: explaining_shortcuts(result) for name, result in results.targets.items()}
    findings = [finding for name, result in results.targets.items() for finding in find_target(name, result)]
    for (baseline, (name, rival)), outcome in product(WARNED_BASELINES.items(), OUTCOME_WARNINGS):
        targets = [
            finding.target
            for finding in findings
            if (finding.baseline, finding.outcome) == (baseline, outcome)
            and baseline not in explained[finding.target]
        ]
        if targets:
            text = OUTCOME_WARNINGS[outcome]
            warnings.append(text.format(baseline=name, targets=", ".join(targets), rival=rival))
    return warnings


def shortcut_warnings(results: RunResults) -> list[str]:
    """Warnings about scores that a shortcut may explain."""
    return [
        SHORTCUT_WARNING.format(
            target=name,
            baseline=BASELINE_NAMES[baseline],
            score=format_score(result.baseline_score(baseline, level).value),
            level=level,
            chance=format_score(result.chance_accuracy(level)),
            ours=format_score(result.test[level]["balanced_accuracy"].value),
        )
        for name, result in results.targets.items()
        for baseline in explaining_shortcuts(result)
        if (level := result.primary_level)
    ]


def data_warnings(results: RunResults) -> list[str]:
    """Warnings about the data and their split."""
    n = results.split.test_evaluations or 1
    marks = {
        SYNTHETIC_WARNING: results.synthetic,
        LEAKY_WARNING: results.split.leaky,
        REPEATED_TEST_WARNING.format(n): n > 1,
    }
    return [text for text, holds in marks.items() if holds]
