"""Which pictures a run draws, and from what."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.data.dataset import Dataset
from simclr_rhd.report.charts import evaluation as plots_evaluation
from simclr_rhd.report.charts import pretraining as plots_pretraining
from simclr_rhd.report.charts import tasks as plots_tasks
from simclr_rhd.report.charts.style import short_names
from simclr_rhd.report.summary import (
    METHOD_NAMES,
    baseline_scores,
    chance_accuracy,
    label_curves,
    primary_level,
)
from simclr_rhd.ssl.augment import eval_view, sample_view_params, to_uint8, two_views
from simclr_rhd.ssl.config import AugmentConfig

N_VIEWS = 16  # of one frame, to be looked at


def draw_charts(
    dataset: Dataset,
    history: list[dict[str, Any]],
    metrics: dict[str, Any],
    views: tuple[np.ndarray, np.ndarray],
    *,
    save_dir: Path,
) -> None:
    """Draw all pictures of a run but the maps.

    Args:
        dataset: the data.
        history: all records of the run's epochs.
        metrics: the content of `metrics.json`.
        views: of `sample_views`.
        save_dir: where the pictures go.
    """
    note = warning_note(metrics)
    epochs = [row for row in history if row["phase"] == "simclr"]
    plots_pretraining.plot_simclr_loss(save_dir / "simclr_training_loss.png", epochs, note=note)
    plots_pretraining.plot_simclr_diagnostics(save_dir / "simclr_diagnostics.png", epochs, note=note)
    plots_pretraining.plot_views(save_dir / "simclr_views.png", *views, note=note)
    for task, result in metrics["tasks"].items():
        if "skipped" in result:
            continue
        of_head = [row for row in history if row["phase"] == task]
        plots_tasks.plot_head_loss(save_dir / f"classifier_{task}_loss.png", task, of_head, note=note)
        tested = "frames of all folds" if len(dataset.folds) > 1 else "frames of the test part"
        draw = _draw_lesions if "lesions" in result else _draw_task
        draw(task, result, tested, save_dir=save_dir, note=note)
    if by_groups := label_curves(metrics):
        path = save_dir / "label_efficiency.png"
        plots_evaluation.plot_label_efficiency(path, by_groups, level="video", note=note)


def warning_note(metrics: dict[str, Any]) -> str:
    """What must stand on every picture of a run."""
    marks = {
        "SYNTHETIC demo data": metrics["synthetic"],
        "LEAKY split: says nothing about new patients": metrics["split"]["leaky"],
    }
    return " · ".join(text for text, holds in marks.items() if holds)


def _draw_task(task: str, result: dict[str, Any], tested: str, *, save_dir: Path, note: str) -> None:
    confusion = save_dir / f"confusion_matrix_{task}.png"
    plots_tasks.plot_confusion(
        confusion,
        task,
        result["test"]["frame"]["confusion"],
        result["classes"],
        level=tested,
        note=note,
        not_evaluable=[row["class"] for row in result["not_evaluable"]],
    )
    _draw_targets(task, {"": result}, save_dir=save_dir, note=note)


def _draw_lesions(task: str, result: dict[str, Any], tested: str, *, save_dir: Path, note: str) -> None:
    path = save_dir / f"confusion_matrix_{task}.png"
    plots_evaluation.plot_lesions(
        path,
        {name: of_lesion["test"]["frame"]["confusion"] for name, of_lesion in result["lesions"].items()},
        level=tested,
        not_evaluable=[row["class"] for row in result["not_evaluable"]],
        note=note,
    )
    shorts = dict(zip(short_names(list(result["lesions"])), result["lesions"].values(), strict=True))
    _draw_targets(task, shorts, save_dir=save_dir, note=note)


def _draw_targets(task: str, targets: dict[str, dict[str, Any]], *, save_dir: Path, note: str) -> None:
    """What must be beaten, and how reliable probabilities are: of a task, or of its lesions together."""
    known = {name: result for name, result in targets.items() if primary_level(result)}
    if not known:
        return
    comparison, reliability = (save_dir / f"{name}_{task}.png" for name in ("comparison", "reliability"))
    level = primary_level(next(iter(known.values()))) or ""
    rows: list[tuple[str, float | None, float | None, float | None]] = []
    ours, chances = [], []
    for question, result in known.items():
        ours.append(len(rows))
        rows += [
            (f"{question}: {name}" if question else name, *_score_and_interval(of))
            for name, of in _compared_scores(result, level)
        ]
        chances.append(chance_accuracy(result, level))
    plots_evaluation.plot_forest(
        comparison, task, rows, ours=ours, chance=chances[0], level=f"per {level}", note=note
    )
    first = next(iter(known.values()))
    before, after = (
        _pool_calibration([of["calibration"][when] for of in known.values()]) for when in ("before", "after")
    )
    plots_evaluation.plot_reliability(
        reliability, task, before, after, temperatures=first["head"]["temperature"], note=note
    )


def _compared_scores(result: dict[str, Any], level: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and scores of the model and of what it is compared with."""
    rows = [("this program", result["test"][level])]
    rows += [("fine-tuned", result["finetuned"]["test"][level])] if "finetuned" in result else []
    return rows + [
        (METHOD_NAMES.get(who, who), baseline_scores(result, who, level)) for who in result["baselines"]
    ]


def _score_and_interval(scores: dict[str, Any]) -> tuple[float | None, float | None, float | None]:
    low, high = scores["ci95"].get("balanced_accuracy") or (None, None)
    return scores["balanced_accuracy"], low, high


def _pool_calibration(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The reliability of several questions' predictions: means over all of a bin."""
    counts = np.array([part["count"] for part in parts])  # (questions, bins)

    def mean(name: str) -> list[float | None]:
        values = np.array([[value or 0.0 for value in part[name]] for part in parts])
        sums, n = (values * counts).sum(axis=0), counts.sum(axis=0)
        return [float(total / k) if k else None for total, k in zip(sums, n, strict=True)]

    found = {name: mean(name) for name in ("confidence", "accuracy")}
    gaps = [
        abs(a - c)
        for a, c in zip(found["accuracy"], found["confidence"], strict=True)
        if a is not None and c is not None
    ]
    used = counts.sum(axis=0)[counts.sum(axis=0) > 0]
    ece = float(np.dot(gaps, used) / used.sum()) if len(used) else None
    return found | {"count": counts.sum(axis=0).tolist(), "ece": ece}


def draw_maps(
    dataset: Dataset,
    maps: Mapping[str, np.ndarray],
    mapped: np.ndarray,
    metrics: dict[str, Any],
    *,
    save_dir: Path,
) -> None:
    """Draw the maps of the features.

    Args:
        dataset: the data.
        maps: {method: (m, 2)}.
        mapped: (m,) which of the labelled frames the points are.
        metrics: the content of `metrics.json`.
        save_dir: where the pictures go.
    """
    rows, labels = dataset.labelled()[mapped], dataset.labels
    for task in (task for task, result in metrics["tasks"].items() if "skipped" not in result):
        for method, points in maps.items():
            plots_tasks.plot_embedding(
                save_dir / f"{method.lower().replace('-', '')}_{task}.png",
                method,
                points,
                task,
                labels.values[task][rows],
                labels.classes[task],
                np.array(labels.videos)[rows].tolist(),
                parts=dataset.part[rows].tolist(),
                left_out=len(dataset.labelled()) - len(rows),
                note=warning_note(metrics),
            )


def sample_views(
    dataset: Dataset, *, size: int, augment_config: AugmentConfig, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A frame of the pretraining and 16 of its random views.

    Returns:
        (s, s, 3) and (16, s, s, 3) uint8.
    """
    import torch

    rows = dataset.rows("unlabelled")
    row = rows[len(rows) // 2 : len(rows) // 2 + 1]
    frame, kind = (
        torch.from_numpy(dataset.store.frames[row]),
        torch.from_numpy(dataset.store.color_modes[row]),
    )
    u = torch.cat([sample_view_params(seed, epoch, row)[0] for epoch in range(1, N_VIEWS // 2 + 1)])
    views = two_views(
        frame.expand(len(u), -1, -1, -1), kind.expand(len(u)), u, size=size, augment_config=augment_config
    )
    return to_uint8(eval_view(frame, size=size))[0], to_uint8(views)
