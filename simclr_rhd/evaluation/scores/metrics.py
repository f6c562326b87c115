"""Scores of a classifier: per class and averaged, per frame, video and patient, with intervals over groups.

A figure that cannot be computed is None, never 0, and "reasons" has the reason; only in averages of the
precision a class that is never predicted counts 0, as in scikit-learn: it must not pay never to predict a
class. A class counts only if it is evaluable (it stands in both training and test); samples of other classes
are counted and shown, but falsify no score.

Notation: n samples, C classes, C' of them that count.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from simclr_rhd.evaluation.scores.calibration_errors import expected_calibration_error, squared_errors
from simclr_rhd.evaluation.scores.confusions import (
    CONFUSION_METRICS,
    average_over_classes,
    class_metrics,
    ordinal_predictions,
    total_confusion,
)
from simclr_rhd.evaluation.scores.intervals import bootstrap_intervals
from simclr_rhd.evaluation.scores.records import (
    AVERAGE_METRICS,
    PER_CLASS_METRICS,
    ClassScores,
    Interval,
    Levels,
    Score,
    Scores,
)
from simclr_rhd.evaluation.scores.samples import (
    ClassSet,
    FramePredictions,
    Samples,
    aggregate,
    single_class_patients,
)


def score_levels(predictions: FramePredictions, classes: ClassSet, *, seed: int) -> Levels:
    """Scores per "frame", "video" and "patient".

    A video or a patient has the mean probability of its annotated frames. A patient counts whose frames are
    all of one class; "left_out" is the number of known patients that do not.

    Args:
        predictions: for annotated frames.
        classes: of the target.
        seed: of the bootstrap.
    """
    levels = {level: scores(samples, classes, seed=seed) for level, samples in aggregate(predictions).items()}
    _, known, mixed = single_class_patients(predictions.true, predictions.units.patients)
    per_patient = replace(levels["patient"], left_out=mixed)
    if per_patient.reason and not known:
        per_patient = replace(per_patient, reason="no patient is known")
    elif per_patient.reason and mixed:
        note = f"; {mixed} of {known} patients have frames of several classes"
        per_patient = replace(per_patient, reason=per_patient.reason + note)
    return levels | {"patient": per_patient}


def scores(samples: Samples, classes: ClassSet, *, seed: int) -> Scores:
    """Scores of samples, over those of classes that count.

    With fewer than two evaluable classes among the samples every score is None and "reason" has the reason.

    Args:
        samples: frames, videos or patients.
        classes: of the target.
        seed: of the bootstrap.
    """
    counted, confusion = samples.of_classes(classes.evaluable), total_confusion(samples)[0]
    result = Scores(
        n=len(counted.true),
        groups=counted.n_groups,
        averages=dict.fromkeys(AVERAGE_METRICS, Score()),
        per_class={
            name: ClassScores(int(support), dict.fromkeys(PER_CLASS_METRICS, Score()))
            for name, support in zip(classes.names, confusion.sum(axis=1), strict=True)
        },
        confusion=confusion.tolist(),
        reasons={},
    )
    if len(counted.present) < 2:
        which = ", ".join(classes.names[number] for number in counted.present) or "none"
        return replace(result, reason=f"fewer than two classes can be evaluated here ({which})")
    figures, averages = _point_estimates(counted, classes.ordered)
    class_intervals, average_intervals = bootstrap_intervals(counted, classes.ordered, seed=seed)
    per_class = dict(result.per_class)
    for row, number in enumerate(counted.present):
        name = classes.names[number]
        values = {metric: float(figures[metric][row]) for metric in PER_CLASS_METRICS}
        intervals = {metric: class_intervals[metric][row] for metric in PER_CLASS_METRICS}
        per_class[name] = replace(per_class[name], scores=_defined(PER_CLASS_METRICS, values, intervals))
    result = replace(
        result, averages=_defined(AVERAGE_METRICS, averages, average_intervals), per_class=per_class
    )
    return replace(result, reasons=dict(_reasons(result, classes)))


def _defined(
    metrics: Sequence[str], values: Mapping[str, float], intervals: Mapping[str, Interval]
) -> dict[str, Score]:
    """The figures with their intervals; those that are NaN have neither."""
    return {
        name: Score() if np.isnan(values[name]) else Score.of(float(values[name]), intervals[name])
        for name in metrics
    }


def mean_scores(draws: Sequence[Scores]) -> Scores:
    """The mean over several draws of each figure, and of the ends of its interval.

    None where one draw has none; words are those of the first.
    """
    return Scores.from_json(_mean([draw.to_json() for draw in draws]))


def _mean(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, dict):
        return {name: _mean([part.get(name) for part in parts]) for name in first}
    if any(part is None for part in parts) or isinstance(first, str):
        return None if any(part is None for part in parts) else first
    if isinstance(first, list):
        return [_mean(of) for of in zip(*parts, strict=True)]
    return first if all(part == first for part in parts) else float(np.mean(parts))


def _point_estimates(
    samples: Samples, ordered: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """{figure: (C',)} and {average: value}; NaN where it is not defined."""
    true, predicted, present = samples.true, samples.predicted, samples.present
    confusion = total_confusion(samples).astype(np.float64)  # a metric may take powers of its counts
    figures = {name: values[0] for name, values in class_metrics(confusion, present).items()}
    is_class, probabilities = true[:, None] == present, samples.probabilities[:, present]  # (n, C')
    figures["auroc"] = roc_auc_score(is_class, probabilities, average=None)
    figures["average_precision"] = average_precision_score(is_class, probabilities, average=None)
    support = confusion[0].sum(axis=1)[present]
    averages = {name: float(value) for name, value in average_over_classes(figures, support).items()}
    averages |= {name: float(of.compute(confusion)[0]) for name, of in CONFUSION_METRICS.items()}
    return figures, averages | {
        "balanced_accuracy": averages["recall_macro"],
        "kappa": cohen_kappa_score(true, predicted),
        "quadratic_kappa": _quadratic_kappa(true, predicted, ordered),
        "brier": squared_errors(true, samples.probabilities).mean(),
        "ece": expected_calibration_error(true, samples.probabilities),
    }


def _quadratic_kappa(true: np.ndarray, predicted: np.ndarray, ordered: Sequence[int]) -> float:
    on_scale, predicted = np.isin(true, ordered), ordinal_predictions(true, predicted, ordered)
    true, predicted = true[on_scale], predicted[on_scale]
    if np.isin(ordered, true).sum() < 2 or len(np.unique([true, predicted])) < 2:
        return np.nan
    return float(cohen_kappa_score(true, predicted, labels=list(ordered), weights="quadratic"))


def _reasons(result: Scores, classes: ClassSet) -> Iterator[tuple[str, str]]:
    evaluable = [classes.names[number] for number in classes.evaluable]
    if result["quadratic_kappa"].value is None:
        scale = "fewer than two classes of the scale can be evaluated, or are predicted, here"
        yield "quadratic_kappa", scale if classes.ordered else "the classes have no order"
    if result.groups < 2:
        yield "intervals", "fewer than two groups"
    rows = {"": result.averages}
    for name, row in result.per_class.items():
        if name not in evaluable:
            yield name, "cannot be evaluated"
        elif row.support == 0:
            yield name, "no sample of it here"
        elif row["precision"].value is None:
            yield f"precision of {name}", "never predicted"
        rows[f" of {name}"] = row.scores
    for of, figures in rows.items():
        for name, score in figures.items():
            if score.value is not None and score.interval is None and result.groups >= 2:
                yield f"interval of {name}{of}", "rests on one group"
