"""Scores of a classifier: per class and averaged, per frame and per video, with intervals over groups.

A figure that cannot be computed is None, never 0. A class counts only if it is evaluable (it stands in both
training and test); frames of other classes are counted and shown, but falsify no score.

Notation: n samples, C classes, G groups, R bootstrap resamples.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

RESAMPLES = 2000

AVERAGES = (
    "accuracy",
    "balanced_accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "specificity_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "auroc_macro",
)
PER_CLASS = ("accuracy", "precision", "recall", "f1", "specificity", "auroc", "support")


def levels(
    true: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    groups: Sequence[str],
    videos: Sequence[str],
    *,
    evaluable: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    """`{"frame": SCORES, "video": SCORES}`; a video has the mean probability of its annotated frames.

    Args:
        true: (n,) class indices, no -1.
        probabilities: (n, C), rows sum to 1.
        classes: C names.
        groups: n groups, the units of the intervals.
        videos: n videos.
        evaluable: indices of the classes that count.
        seed: of the bootstrap.
    """
    by_video = pool_videos(true, probabilities, groups, videos)
    return {
        "frame": scores(true, probabilities, classes, groups, evaluable=evaluable, seed=seed),
        "video": scores(*by_video[:2], classes, by_video[2], evaluable=evaluable, seed=seed),
    }


def pool_videos(
    true: np.ndarray, probabilities: np.ndarray, groups: Sequence[str], videos: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """One row per video: its most frequent class (the first in order on a tie), mean probabilities, group."""
    names, first, video = np.unique(videos, return_index=True, return_inverse=True)
    votes = np.zeros((len(names), probabilities.shape[1]))
    np.add.at(votes, (video, true), 1)
    sums = np.zeros_like(votes)
    np.add.at(sums, video, probabilities)
    frames = np.bincount(video, minlength=len(names))[:, None]
    return votes.argmax(axis=1), sums / np.maximum(frames, 1), [groups[index] for index in first]


def scores(
    true: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    groups: Sequence[str],
    *,
    evaluable: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    """SCORES of the metrics file; see `levels` for the arguments.

    With fewer than two evaluable classes among the samples every score is None and "reason" says why.
    """
    predicted = probabilities.argmax(axis=1) if len(true) else np.zeros(0, dtype=np.int64)
    confusion = (
        confusion_matrix(true, predicted, labels=range(len(classes)))
        if len(true)
        else (np.zeros((len(classes), len(classes)), dtype=np.int64))
    )
    counts = np.isin(true, evaluable)
    shown = [number for number in evaluable if (true == number).any()]
    result: dict[str, Any] = {"n": int(counts.sum()), "groups": len(set(np.asarray(groups)[counts].tolist()))}
    result |= dict.fromkeys(AVERAGES)
    result["ci95"] = {}
    result["per_class"] = {
        name: dict.fromkeys(PER_CLASS) | {"support": int((true == number).sum())}
        for number, name in enumerate(classes)
    }
    result["confusion"] = confusion.tolist()
    if len(shown) < 2:
        found = ", ".join(classes[number] for number in shown) or "none"
        result["reason"] = f"fewer than two classes can be evaluated here ({found})"
        return result
    true, predicted, probabilities = true[counts], predicted[counts], probabilities[counts]
    for number in shown:
        result["per_class"][classes[number]] |= _one_class(true, predicted, probabilities, number)
    result |= _averages(true, predicted, [result["per_class"][classes[number]] for number in shown], shown)
    result["ci95"] = intervals(true, predicted, np.asarray(groups)[counts], shown, len(classes), seed=seed)
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in result.items()
    }


def _one_class(
    true: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, number: int
) -> dict[str, float | None]:
    """One class against the rest; precision is None where nothing was predicted so."""
    is_so, said_so = true == number, predicted == number
    precision, recall, f1, _ = precision_recall_fscore_support(
        is_so, said_so, average="binary", zero_division=np.nan
    )
    values = {
        "accuracy": accuracy_score(is_so, said_so),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "specificity": (~is_so & ~said_so).sum() / (~is_so).sum(),
        "auroc": roc_auc_score(is_so, probabilities[:, number]),
    }
    return {name: None if np.isnan(value) else float(value) for name, value in values.items()}


def _averages(
    true: np.ndarray, predicted: np.ndarray, per_class: list[dict[str, Any]], shown: list[int]
) -> dict[str, float]:
    """Averages over the classes that occur; macro: over those where the figure is defined."""

    def macro(name: str) -> float:
        values = [row[name] for row in per_class if row[name] is not None]
        return float(np.mean(values)) if values else math.nan

    weighted = precision_recall_fscore_support(
        true, predicted, labels=shown, average="weighted", zero_division=np.nan
    )
    averages = {f"{name}_macro": macro(name) for name in PER_CLASS[1:-1]}
    averages |= dict(
        zip(("precision_weighted", "recall_weighted", "f1_weighted"), map(float, weighted[:3]), strict=True)
    )
    return averages | {
        "accuracy": float(accuracy_score(true, predicted)),
        "balanced_accuracy": averages["recall_macro"],
    }


def intervals(
    true: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    shown: Sequence[int],
    n_classes: int,
    *,
    seed: int,
) -> dict[str, list[float] | None]:
    """95 % percentile intervals by a bootstrap over groups, computed from each group's confusion matrix.

    Frames of a patient are not independent, so whole groups are drawn. None with fewer than two groups.

    Returns:
        {score: [low, high]} for the scores that follow from a confusion matrix.
    """
    names, group = np.unique(groups, return_inverse=True)
    of_groups = np.zeros((len(names), n_classes, n_classes))
    np.add.at(of_groups, (group, true, predicted), 1)
    if len(names) < 2:
        return dict.fromkeys(score for score in AVERAGES if score != "auroc_macro")
    drawn = np.random.default_rng([seed, 6]).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES
    )  # (R, G) how often each group
    confusions = np.einsum("rg,gtp->rtp", drawn, of_groups)
    found = from_confusions(confusions, shown)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a score undefined in every resample stays NaN
        return {name: _bounds(values) for name, values in found.items()}


def _bounds(values: np.ndarray) -> list[float] | None:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return None if np.isnan(low) else [float(low), float(high)]


def from_confusions(confusions: np.ndarray, shown: Sequence[int]) -> dict[str, np.ndarray]:
    """Scores of R confusion matrices at once: (R, C, C), true by predicted -> {score: (R,)}.

    Classes without samples in a resample do not count in its averages.
    """
    shown = list(shown)
    total = confusions.sum(axis=(1, 2))[:, None]
    support = confusions.sum(axis=2)[:, shown]  # (R, C')
    said = confusions.sum(axis=1)[:, shown]
    hits = np.einsum("rcc->rc", confusions)[:, shown]
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = hits / support
        precision = np.where(support > 0, hits / said, np.nan)
        f1 = np.where(support > 0, 2 * hits / (support + said), np.nan)
        specificity = np.where(support > 0, (total - support - said + hits) / (total - support), np.nan)

    def macro(values: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.nanmean(values, axis=1)

    def weighted(values: np.ndarray) -> np.ndarray:
        weight = np.where(np.isnan(values), 0, support)
        with np.errstate(invalid="ignore"):
            return (np.nan_to_num(values) * weight).sum(axis=1) / weight.sum(axis=1)

    return {
        "accuracy": hits.sum(axis=1) / total[:, 0],
        "balanced_accuracy": macro(recall),
        "precision_macro": macro(precision),
        "recall_macro": macro(recall),
        "f1_macro": macro(f1),
        "specificity_macro": macro(specificity),
        "precision_weighted": weighted(precision),
        "recall_weighted": weighted(recall),
        "f1_weighted": weighted(f1),
    }
