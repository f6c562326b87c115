"""Facts of a run's scores, for the items of reporting guidelines."""

from collections.abc import Callable

from simclr_rhd.evaluation.results import TargetResult
from simclr_rhd.report.checklist.items import RunFacts
from simclr_rhd.report.checklist.model_facts import output
from simclr_rhd.report.findings import data_warnings
from simclr_rhd.report.page.page import most_frequent_mistake
from simclr_rhd.report.screening import screening_lines
from simclr_rhd.report.summary import limitations, verdicts
from simclr_rhd.report.wording import (
    format_count,
    format_difference,
    format_interval,
    format_score,
    join_names,
    method_name,
)

PERFORMANCE = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "auroc_macro": "AUROC (macro)",
}


def metrics(facts: RunFacts) -> str:
    """Measures and plots, and what the model is compared with."""
    compared = dict.fromkeys(name for of in facts.results.targets.values() for name in of.baselines)
    comparison = f" Compared with {join_names([method_name(name) for name in compared])}." if compared else ""
    screening = ""
    if facts.results.screening:
        screening = " For screening: likelihood ratios, predictive values by prevalence, decision curves."
    return (
        "Balanced accuracy decides. Beside it accuracy, sensitivity, specificity, precision, F1, AUROC, "
        "average precision, kappa, Brier score and calibration error, per frame, video and patient; ROC, "
        f"precision-recall and reliability plots, confusion matrices.{screening}{comparison}"
    )


def uncertainty(facts: RunFacts) -> str:
    """Intervals and tests."""
    by = facts.results.split.by
    return (
        f"95 % intervals by a bootstrap over {by}s with expanded percentiles (Hesterberg 2015); "
        "differences to comparators on the same resamples, those of a task at a level at which they hold "
        "together (Bonferroni)."
    )


def subgroups(facts: RunFacts) -> str:
    """Balanced accuracy of the values of each column that describes patients or exams."""
    parts = []
    for name, result in facts.results.targets.items():
        for column, of_column in (result.subgroups or {}).items():
            scores = [
                f"{value} {format_score(of.balanced_accuracy)} (n = {of.n})"
                for value, of in of_column.values.items()
            ]
            parts.append(f"{name} per {of_column.level} by {column}: {', '.join(scores)}")
    return f"Balanced accuracy. {'. '.join(parts)}." if parts else ""


def methods(facts: RunFacts) -> str:
    """Measures, intervals and tests."""
    return f"{metrics(facts)} {uncertainty(facts)}"


def _by_target(facts: RunFacts, describe: Callable[[TargetResult, str], str]) -> str:
    """A sentence on each target that was scored, at the level that is judged."""
    parts = [
        f"{name} per {level}: {text}"
        for name, result in facts.results.targets.items()
        if (level := result.primary_level) and (text := describe(result, level))
    ]
    return f"{'. '.join(parts)}." if parts else ""


def performance(facts: RunFacts) -> str:
    """Averages over the classes, with intervals."""
    by = facts.results.split.by

    def describe(result: TargetResult, level: str) -> str:
        of_level = result.test[level]
        scores = ", ".join(f"{name} {format_interval(of_level[key])}" for key, name in PERFORMANCE.items())
        return f"{scores} on {format_count(of_level.n, level)} of {format_count(of_level.groups, by)}"

    return _by_target(facts, describe)


def class_performance(facts: RunFacts) -> str:
    """Sensitivity and specificity of each class that counts, with intervals."""

    def describe(result: TargetResult, level: str) -> str:
        return "; ".join(
            f"{name} (n = {format_score(row.support)}) sensitivity {format_interval(row['recall'])}, "
            f"specificity {format_interval(row['specificity'])}"
            for name, row in result.test[level].per_class.items()
            if name not in result.missing_classes
        )

    return _by_target(facts, describe)


def operating_points(facts: RunFacts) -> str:
    """Accuracy of the screening questions at thresholds that validation groups chose."""
    return " ".join(line[0].upper() + line[1:] for line in screening_lines(facts.results))


def cut_offs(facts: RunFacts) -> str:
    """Decision rule of the classes, and the thresholds of the screening questions."""
    return f"{output(facts)} {operating_points(facts)}".strip()


def class_accuracy(facts: RunFacts) -> str:
    """Sensitivity and specificity of each class, and of the screening questions."""
    return f"{class_performance(facts)} {operating_points(facts)}".strip()


def all_performance(facts: RunFacts) -> str:
    """Averages and each class, with intervals."""
    return f"{performance(facts)} {class_accuracy(facts)}".strip()


def comparisons(facts: RunFacts) -> str:
    """Averages and the differences to comparators."""

    def describe(result: TargetResult, level: str) -> str:
        return ", ".join(
            f"{format_difference(margins[level])} to {method_name(name)}"
            for name, margins in result.margins.items()
            if level in margins
        )

    differences = _by_target(facts, describe)
    return performance(facts) + f" Differences of balanced accuracy: {differences}" * bool(differences)


def calibration(facts: RunFacts) -> str:
    """Calibration errors before and after the calibration."""
    parts = [
        f"{name}: {format_score(of.before.ece, 3)} before, {format_score(of.after.ece, 3)} after"
        for name, result in facts.results.targets.items()
        if (of := result.calibration)
    ]
    return f"Expected calibration error per frame. {'; '.join(parts)}." if parts else ""


def performance_and_calibration(facts: RunFacts) -> str:
    """Averages with intervals, and calibration errors."""
    return f"{performance(facts)} {calibration(facts)}".strip()


def abstention(facts: RunFacts) -> str:
    """Predictions that are withheld, and the error of the others."""

    def describe(result: TargetResult, level: str) -> str:
        if result.selective is None or level == "patient":
            return ""
        of = result.selective.level(level)
        wrong = "" if of.risk is None else f", {of.risk:.0%} of these wrong"
        return "" if of.coverage is None else f"{of.coverage:.0%} accepted{wrong}"

    text = _by_target(facts, describe)
    return f"All predictions are scored. With the abstention thresholds: {text}" if text else ""


def internal(facts: RunFacts) -> str:
    """The internal test, and how often it was looked at."""
    split, n = facts.results.split, facts.results.split.test_evaluations
    if split.leaky:
        return "LEAKY: the tested frames are of patients or videos that the model has learnt from."
    kind = f"Each of {split.folds} folds tested once" if split.folds > 1 else "The test part"
    scored = f" Scored {format_count(n, 'time')} in this folder, this run included." if n else ""
    return f"{kind}, on {split.by}s that the model has not learnt from.{scored}"


def folds(facts: RunFacts) -> str:
    """Spread over the folds."""
    if facts.results.split.folds == 1:
        return ""
    parts = [
        f"{name} {', '.join(format_score(fold.balanced_accuracy) for fold in result.folds)}"
        for name, result in facts.results.targets.items()
    ]
    return f"Between the folds, balanced accuracy per video: {'; '.join(parts)}."


def robustness(facts: RunFacts) -> str:
    """Spread over random starts and folds."""
    parts = [
        f"{name} {', '.join(map(format_score, result.head.balanced_accuracy_of_seeds))}"
        for name, result in facts.results.targets.items()
        if result.head
    ]
    seeds = f"Each random start of the heads alone, balanced accuracy per video: {'; '.join(parts)}."
    return f"{seeds * bool(parts)} {folds(facts)}".strip()


def failures(facts: RunFacts) -> str:
    """The most frequent mistakes."""
    text = _by_target(facts, most_frequent_mistake)
    shown = " The most confident errors are in report.html." if facts.figures else ""
    return f"Most frequent mistake. {text}{shown}" if text else ""


def cross_tabulation(facts: RunFacts) -> str:
    """Location of the confusion matrices."""
    pictures = "confusion_matrix_*.png, " if facts.figures else ""
    return f"{pictures}report.html; counts under `confusion` in metrics.json."


def limits(facts: RunFacts) -> str:
    """Limits of the figures, and the warnings on the data."""
    texts = [*data_warnings(facts.results), *limitations(facts.results)]
    return ". ".join(text.rstrip(".") for text in texts) + "." * bool(texts)


def interpretation(facts: RunFacts) -> str:
    """Comparison of each target with its comparators."""
    return " ".join(verdicts(facts.results))


def shortcuts(facts: RunFacts) -> str:
    """The comparator that sees no heart."""

    def describe(result: TargetResult, level: str) -> str:
        score = result.baseline_score("mask", level).value
        return "" if score is None else f"balanced accuracy {format_score(score)}"

    text = _by_target(facts, describe)
    return f"Error analysis: report.html. From the black border alone (mask): {text}" if text else ""
