"""Scores of a classifier: per class and averaged, per frame, video and patient, with intervals over groups.

A figure that cannot be computed is None, never 0, and "reasons" says why; only in averages of the precision a
class that is never predicted counts 0, as in scikit-learn: it must not pay never to say a class. A class
counts only if it is evaluable (it stands in both training and test); samples of other classes are counted and
shown, but falsify no score.

Notation: n samples, C classes, C' of them that count.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    cohen_kappa_score,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
)

from simclr_rhd.data.labels.prevalence import balanced_choice
from simclr_rhd.evaluation.aggregate import aggregate, single_class_patients
from simclr_rhd.evaluation.bootstrap import (
    TAIL_PROBABILITY,
    difference_interval,
    resample_counts,
    resample_sums,
)
from simclr_rhd.evaluation.confusions import (
    AVERAGED_METRICS,
    average_over_classes,
    balanced_accuracy,
    group_confusions,
    ordinal_predictions,
)
from simclr_rhd.evaluation.intervals import bootstrap_intervals, effective_groups
from simclr_rhd.heads.calibration import expected_calibration_error, squared_errors

PER_CLASS_METRICS = ("accuracy", *AVERAGED_METRICS)
AVERAGE_METRICS = (
    "accuracy",
    "balanced_accuracy",
    *(f"{name}_{how}" for name in AVERAGED_METRICS for how in ("macro", "weighted")),
    *("kappa", "quadratic_kappa", "brier", "ece"),
)


def score_levels(
    true: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    groups: Sequence[str],
    videos: Sequence[str],
    patients: Sequence[str],
    *,
    evaluable: Sequence[int],
    ordered: Sequence[int] = (),
    seed: int,
    prevalence: np.ndarray | None = None,
) -> dict[str, dict[str, Any]]:
    """`{"frame": SCORES, "video": SCORES, "patient": SCORES}`.

    The class that is said is the balanced choice, see `prevalence.balanced_choice`.

    A video or a patient has the mean probability of its annotated frames. A patient counts whose frames are
    all of one class; "left_out" says how many known patients do not.

    Args:
        true: (n,) class indices, no -1.
        probabilities: (n, C), rows sum to 1.
        classes: C names.
        groups: n groups, the units of the intervals.
        videos: n videos.
        patients: n patients, "" where unknown.
        evaluable: indices of the classes that count.
        ordered: indices of the classes that form a scale, lowest first; may be none.
        seed: of the bootstrap.
        prevalence: (n, C) that the probabilities hold for; None for classes that are equally frequent.
    """
    found = {}
    how: dict[str, Any] = {"evaluable": evaluable, "ordered": ordered, "seed": seed}
    held = None if prevalence is None else aggregate(true, prevalence, groups, videos, patients)
    for level, (of, p, names) in aggregate(true, probabilities, groups, videos, patients).items():
        found[level] = scores(
            of, p, classes, names, **how, prevalence=None if held is None else held[level][1]
        )
    _, known, mixed = single_class_patients(true, patients)
    by_patient = found["patient"]
    by_patient["left_out"] = mixed
    if "reason" in by_patient and not known:
        by_patient["reason"] = "no patient is known"
    elif "reason" in by_patient and mixed:
        by_patient["reason"] += f"; {mixed} of {known} patients have frames of several classes"
    return found


def scores(
    true: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    groups: Sequence[str],
    *,
    evaluable: Sequence[int],
    ordered: Sequence[int] = (),
    seed: int,
    prevalence: np.ndarray | None = None,
) -> dict[str, Any]:
    """SCORES of the metrics file; see `score_levels` for the arguments.

    "reasons" is {what cannot be computed: why}, as of "quadratic_kappa", "precision of Normal" or, for all of
    a class's figures, "Normal". With fewer than two evaluable classes among the samples every score is None
    and "reason" says why.
    """
    counts = np.isin(true, evaluable)
    shown, names = np.unique(true[counts]).tolist(), np.asarray(groups)[counts]
    predicted = balanced_choice(probabilities, prevalence)
    confusion = group_confusions(true, predicted, np.zeros_like(true), 1, len(classes))[0]
    result: dict[str, Any] = {"n": len(names), "groups": len(np.unique(names))}
    result |= dict.fromkeys(AVERAGE_METRICS) | {"ci95": dict.fromkeys(AVERAGE_METRICS)}
    result["per_class"] = {
        name: dict.fromkeys(PER_CLASS_METRICS)
        | {"support": int(support), "ci95": dict.fromkeys(PER_CLASS_METRICS)}
        for name, support in zip(classes, confusion.sum(axis=1), strict=True)
    }
    result |= {"confusion": confusion.tolist(), "reasons": {}}
    if len(shown) < 2:
        which = ", ".join(classes[number] for number in shown) or "none"
        result["reason"] = f"fewer than two classes can be evaluated here ({which})"
        return result
    true, predicted, probabilities = true[counts], predicted[counts], probabilities[counts]
    figures, averages = _point_estimates(true, predicted, probabilities, shown, ordered)
    of_classes, of_averages = bootstrap_intervals(
        true, predicted, probabilities, names, present_classes=shown, ordered=ordered, seed=seed
    )
    _fill_defined(result, AVERAGE_METRICS, averages, of_averages)
    for row, number in enumerate(shown):
        values, ranges = ({name: of[name][row] for name in PER_CLASS_METRICS} for of in (figures, of_classes))
        _fill_defined(result["per_class"][classes[number]], PER_CLASS_METRICS, values, ranges)
    result["reasons"] = dict(_reasons(result, [classes[number] for number in evaluable], ordered))
    return result


def paired_differences(
    true: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    groups: Sequence[str],
    videos: Sequence[str],
    patients: Sequence[str],
    *,
    evaluable: Sequence[int],
    seed: int,
    prevalences: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    n_comparisons: int = 1,
) -> dict[str, dict[str, Any]]:
    """By how much one classifier's balanced accuracy is above another's on the same samples.

    The interval is of the difference, both scored on the same resamples: what they find equally hard cancels.
    Of several draws of the other one the mean of the scores counts; the interval holds their chance, too: as
    many are drawn anew in each resample.

    Args:
        true: (n,) class indices, no -1.
        ours: (n, C) probabilities.
        theirs: (n, C) probabilities, or (D, n, C) of draws.
        groups: n groups.
        videos: n videos.
        patients: n patients, "" where unknown.
        evaluable: indices of the classes that count.
        seed: of the bootstrap.
        prevalences: of the same shapes, that they hold for; None for classes that are equally frequent.
        n_comparisons: how many differences of a family shall be held by their intervals together with 95 %
            (Bonferroni): each has 1 - 0.05 / comparisons.

    Returns:
        {level: {"balanced_accuracy": difference, "ci95": [low, high], "same_answers": to every sample}}, None
        where it cannot be computed.
    """
    predicted: list[dict[str, np.ndarray]] = []
    n_draws = theirs.size // ours.size
    for p, held in zip((ours, theirs), prevalences, strict=True):
        prior = np.ones_like(p) if held is None else held
        for of_draw, its_prior in zip(*(of.reshape(-1, *ours.shape) for of in (p, prior)), strict=True):
            at, priors = (aggregate(true, of, groups, videos, patients) for of in (of_draw, its_prior))
            predicted.append({level: balanced_choice(at[level][1], priors[level][1]) for level in at})
    assert len(predicted) == 1 + n_draws
    how: dict[str, Any] = {"evaluable": evaluable, "seed": seed, "tail": TAIL_PROBABILITY / n_comparisons}
    return {
        level: _paired_difference(
            of, predicted[0][level], [draw[level] for draw in predicted[1:]], names, **how
        )
        for level, (of, _, names) in aggregate(true, ours, groups, videos, patients).items()
    }


def _paired_difference(
    true: np.ndarray,
    ours: np.ndarray,
    theirs: Sequence[np.ndarray],
    groups: Sequence[str],
    *,
    evaluable: Sequence[int],
    seed: int,
    tail: float,
) -> dict[str, Any]:
    counts = np.isin(true, evaluable)
    shown = np.unique(true[counts]).tolist()
    if len(shown) < 2:
        return {"balanced_accuracy": None, "ci95": None, "same_answers": None}
    names, group = np.unique(np.asarray(groups)[counts], return_inverse=True)
    n_classes = 1 + max(map(np.max, (true, ours, *theirs)))
    once = np.ones((1, len(names)), dtype=np.uint16)  # the samples themselves, before their resamples
    counts_of_groups = np.vstack([once, resample_counts(len(names), seed)])
    of_groups = [
        group_confusions(true[counts], predicted[counts], group, len(names), n_classes)
        for predicted in (ours, *theirs)
    ]
    a, *of_draws = (balanced_accuracy(resample_sums(counts_of_groups, of), shown) for of in of_groups)
    b = _mean_of_draws(np.stack(of_draws, axis=1), seed=seed)
    resting = effective_groups(of_groups[0], shown)[1]["recall_macro"]
    return {
        "balanced_accuracy": float(a[0] - b[0]),
        "ci95": difference_interval(a[1:] - b[1:], resting, tail=tail),
    } | {"same_answers": all((ours[counts] == of[counts]).all() for of in theirs)}


def _mean_of_draws(scores: np.ndarray, *, seed: int) -> np.ndarray:
    """(1 + R, D) scores of D draws -> (1 + R,) their mean; in all rows but the first of draws drawn anew.

    What D draws vary less than as many of all would is made up for: the factor √(D / (D - 1)).
    """
    n_draws = scores.shape[1]
    if n_draws == 1:
        return scores[:, 0]
    shares = np.full(n_draws, 1 / n_draws)
    drawn_shares = np.random.default_rng([seed, 12]).multinomial(n_draws, shares, size=len(scores)) / n_draws
    drawn_shares[0] = shares[0]
    return (scores * (shares + (drawn_shares - shares) * np.sqrt(n_draws / (n_draws - 1)))).sum(axis=1)


def mean_of_scores(parts: Sequence[Any]) -> Any:
    """SCORES, or anything in it, of several draws -> the mean of each figure, and of an interval's ends.

    None where one draw has none; words are those of the first.
    """
    first = parts[0]
    if isinstance(first, dict):
        return {name: mean_of_scores([part.get(name) for part in parts]) for name in first}
    if any(part is None for part in parts) or isinstance(first, str):
        return None if any(part is None for part in parts) else first
    if isinstance(first, list):
        return [mean_of_scores(of) for of in zip(*parts, strict=True)]
    return first if all(part == first for part in parts) else float(np.mean(parts))


def _point_estimates(
    true: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    present_classes: Sequence[int],
    ordered: Sequence[int],
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """{figure: (C',)} and {average: value}; NaN where it is not defined."""
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=present_classes, zero_division=np.nan
    )
    is_so, said_so = true[:, None] == present_classes, predicted[:, None] == present_classes  # (n, C')
    figures = {
        "accuracy": (is_so == said_so).mean(axis=0),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "specificity": recall_score(~is_so, ~said_so, average=None),
        "auroc": roc_auc_score(is_so, probabilities[:, present_classes], average=None),
        "average_precision": average_precision_score(is_so, probabilities[:, present_classes], average=None),
    }
    averages = {name: float(value) for name, value in average_over_classes(figures, support).items()}
    return figures, averages | {
        "accuracy": accuracy_score(true, predicted),
        "balanced_accuracy": averages["recall_macro"],
        "kappa": cohen_kappa_score(true, predicted),
        "quadratic_kappa": _quadratic_kappa(true, predicted, ordered),
        "brier": squared_errors(true, probabilities).mean(),
        "ece": expected_calibration_error(true, probabilities),
    }


def _quadratic_kappa(true: np.ndarray, predicted: np.ndarray, ordered: Sequence[int]) -> float:
    kept, predicted = np.isin(true, ordered), ordinal_predictions(true, predicted, ordered)
    if np.isin(ordered, true).sum() < 2 or len(np.unique([true[kept], predicted[kept]])) < 2:
        return np.nan
    return cohen_kappa_score(true[kept], predicted[kept], labels=list(ordered), weights="quadratic")


def _fill_defined(row: dict[str, Any], names: Sequence[str], values: Any, ranges: Any) -> None:
    """Put the figures that are defined, and their intervals, in place of None."""
    for name in names:
        if not np.isnan(values[name]):
            row[name] = float(values[name])
            row["ci95"][name] = ranges[name]


def _reasons(
    result: dict[str, Any], evaluable: Sequence[str], ordered: Sequence[int]
) -> Iterator[tuple[str, str]]:
    if result["quadratic_kappa"] is None:
        scale = "fewer than two classes of the scale can be evaluated, or are said, here"
        yield "quadratic_kappa", scale if ordered else "the classes have no order"
    if result["groups"] < 2:
        yield "intervals", "fewer than two groups"
    rows = {"": (result, AVERAGE_METRICS)}
    for name, row in result["per_class"].items():
        if name not in evaluable:
            yield name, "cannot be evaluated"
        elif row["support"] == 0:
            yield name, "no sample of it here"
        elif row["precision"] is None:
            yield f"precision of {name}", "never predicted"
        rows[f" of {name}"] = (row, PER_CLASS_METRICS)
    for of, (row, names) in rows.items():
        for name in names:
            if row[name] is not None and row["ci95"][name] is None and result["groups"] >= 2:
                yield f"interval of {name}{of}", "rests on one group"
