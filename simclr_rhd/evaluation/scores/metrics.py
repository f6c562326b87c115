"""Scores of a classifier: per class and averaged, per frame, video and patient, with intervals over groups.

A figure that cannot be computed is None, never 0, and "reasons" has the reason; only in averages of the
precision a class that is never predicted counts 0, as in scikit-learn: it must not pay never to predict a
class. A class counts only if it is evaluable (it stands in both training and test); samples of other classes
are counted and shown, but falsify no score.

Notation: n samples, C classes, C' of them that count.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from simclr_rhd.evaluation.scores.bootstrap import each_group_once
from simclr_rhd.evaluation.scores.confusions import total_confusion
from simclr_rhd.evaluation.scores.figures import compute_figures
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
    patient_truths,
)


def score_levels(predictions: FramePredictions, classes: ClassSet, *, seed: int) -> Levels:
    """Scores per "frame", "video" and "patient".

    A video or a patient has the mean probability of its annotated frames. A patient counts whose class is
    known (`samples.patient_truths`); "left_out" is the number of known patients that do not.

    Args:
        predictions: for annotated frames.
        classes: of the target.
        seed: of the bootstrap.
    """
    levels = {level: scores(samples, classes, seed=seed) for level, samples in aggregate(predictions).items()}
    _, known, mixed = patient_truths(predictions)
    reason = levels["patient"].reason
    if reason and not known:
        reason = "no patient is known"
    elif reason and mixed:
        reason += f"; {mixed} of {known} patients have frames of several classes"
    return levels | {"patient": replace(levels["patient"], left_out=mixed, reason=reason)}


def scores(samples: Samples, classes: ClassSet, *, seed: int) -> Scores:
    """Scores of samples, over those of classes that count.

    With fewer than two evaluable classes among the samples every score is None and "reason" has the reason.

    Args:
        samples: frames, videos or patients.
        classes: of the target.
        seed: of the bootstrap.
    """
    counted, confusion = samples.of_classes(classes.evaluable), total_confusion(samples)[0]
    unscored = Scores(
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
        return replace(unscored, reason=f"fewer than two classes can be evaluated here ({which})")
    figures = compute_figures(counted, classes.ordered, each_group_once(counted.n_groups))
    class_intervals, average_intervals = bootstrap_intervals(counted, classes.ordered, seed=seed)
    averages = {
        metric: _score(figures.averages[metric][0], average_intervals[metric]) for metric in AVERAGE_METRICS
    }
    per_class = dict(unscored.per_class)
    for row, number in enumerate(counted.present):
        name = classes.names[number]
        class_scores = {
            metric: _score(figures.of_classes[metric][0, row], class_intervals[metric][row])
            for metric in PER_CLASS_METRICS
        }
        per_class[name] = replace(per_class[name], scores=class_scores)
    result = replace(unscored, averages=averages, per_class=per_class)
    return replace(result, reasons=dict(_reasons(result, classes)))


def _score(value: float, interval: Interval) -> Score:
    return Score() if np.isnan(value) else Score.of(float(value), interval)


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
