"""Scores of a classifier: per class and averaged, per frame and per video, with intervals over groups.

A figure that cannot be computed is None, never 0; only in averages of the precision a class that is never
predicted counts 0, as in scikit-learn: it must not pay never to say a class. A class counts only if it is
evaluable (it stands in both training and test); frames of other classes are counted and shown, but falsify no
score.

Notation: n samples, C classes, G groups.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

from simclr_rhd.bootstrap import SCORES, bounds, from_confusions, intervals, resampled

AVERAGES = (*SCORES, "auroc_macro")
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
    return result


def margins(
    true: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
    groups: Sequence[str],
    videos: Sequence[str],
    *,
    evaluable: Sequence[int],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """By how much one classifier's balanced accuracy is above another's on the same samples.

    The interval is of the difference, both scored on the same resamples: what they find equally hard cancels.

    Args:
        true: (n,) class indices, no -1.
        ours: (n, C) probabilities.
        theirs: (n, C) probabilities.
        groups: n groups.
        videos: n videos.
        evaluable: indices of the classes that count.
        seed: of the bootstrap.

    Returns:
        {level: {"balanced_accuracy": difference, "ci95": [low, high]}}, None where it cannot be computed.
    """
    found = {}
    for level in ("frame", "video"):
        pooled = [
            (true, p, groups) if level == "frame" else pool_videos(true, p, groups, videos)
            for p in (ours, theirs)
        ]
        of, names = pooled[0][0], np.asarray(pooled[0][2])
        counts = np.isin(of, evaluable)
        shown = np.unique(of[counts]).tolist()
        difference: dict[str, Any] = {"balanced_accuracy": None, "ci95": None}
        if len(shown) >= 2:
            classes = range(ours.shape[1])
            said = [p.argmax(axis=1)[counts] for _, p, _ in pooled]
            once = [
                from_confusions(confusion_matrix(of[counts], s, labels=classes)[None], shown) for s in said
            ]
            difference["balanced_accuracy"] = float(
                once[0]["balanced_accuracy"][0] - once[1]["balanced_accuracy"][0]
            )
            if len(np.unique(names[counts])) >= 2:
                a, b = (resampled(of[counts], s, names[counts], shown, len(classes), seed=seed) for s in said)
                difference["ci95"] = bounds(a["balanced_accuracy"] - b["balanced_accuracy"])
        found[level] = difference
    return found


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
    """Averages over the classes that occur."""

    def macro(name: str) -> float:
        return float(np.mean([row[name] or 0.0 for row in per_class]))

    weighted = precision_recall_fscore_support(
        true, predicted, labels=shown, average="weighted", zero_division=0
    )
    averages = {f"{name}_macro": macro(name) for name in PER_CLASS[1:-1]}
    averages |= dict(
        zip(("precision_weighted", "recall_weighted", "f1_weighted"), map(float, weighted[:3]), strict=True)
    )
    return averages | {
        "accuracy": float(accuracy_score(true, predicted)),
        "balanced_accuracy": averages["recall_macro"],
    }
