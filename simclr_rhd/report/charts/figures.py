"""The pictures of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.core import file_names
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.evaluation.results import RunResults, TargetResult, TaskResult
from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.evaluation.target_details import Reliability
from simclr_rhd.report.charts import evaluation as plots_evaluation
from simclr_rhd.report.charts import pretraining as plots_pretraining
from simclr_rhd.report.charts import tasks as plots_tasks
from simclr_rhd.report.charts.confusion import plot_confusion, plot_lesions
from simclr_rhd.report.charts.screening import plot_screening
from simclr_rhd.report.charts.style import short_names
from simclr_rhd.report.wording import method_name
from simclr_rhd.ssl.augment import eval_view, sample_view_params, to_uint8, two_views
from simclr_rhd.ssl.config import AugmentConfig

N_VIEWS = 16  # of one frame, to be looked at


@dataclass(frozen=True)
class _Pictures:
    """Pictures of a run: their folder, and what must stand on each of them."""

    save_dir: Path
    note: str

    def draw_task(self, task: str, result: TaskResult, tested: str) -> None:
        """Draw what is predicted, what must be beaten, and how reliable probabilities are."""
        path = self.save_dir / file_names.CONFUSION_MATRIX.format(task)
        missing = [row["class"] for row in result.not_evaluable]
        confusions = {name: of.test["frame"].confusion for name, of in result.targets.items()}
        if result.multilabel:
            plot_lesions(path, dict(confusions), level=tested, not_evaluable=missing, note=self.note)
            names = short_names(list(result.targets))
        else:
            title = f"{task.capitalize()}: confusion matrix, {tested}"
            (matrix,) = confusions.values()
            plot_confusion(path, title, matrix, result.classes, not_evaluable=missing, note=self.note)
            names = [""]
        targets = dict(zip(names, result.targets.values(), strict=True))
        if known := {name: target for name, target in targets.items() if target.primary_level}:
            self._draw_comparison(task, known)
            self._draw_reliability(task, list(known.values()))

    def _draw_comparison(self, task: str, targets: Mapping[str, TargetResult]) -> None:
        first = next(iter(targets.values()))
        level = first.primary_level or ""
        rows: list[tuple[str, Score]] = []
        ours = []
        for target, result in targets.items():
            ours.append(len(rows))
            rows += [
                (f"{target}: {name}" if target else name, score)
                for name, score in _compared_scores(result, level)
            ]
        plots_evaluation.plot_forest(
            self.save_dir / file_names.COMPARISON.format(task),
            f"{task.capitalize()}: the model and what it must beat, per {level}",
            rows,
            ours=ours,
            chance=first.chance_accuracy(level),
            note=self.note,
        )

    def _draw_reliability(self, task: str, targets: Sequence[TargetResult]) -> None:
        calibrations = [target.calibration for target in targets if target.calibration]
        head = targets[0].head
        plots_evaluation.plot_reliability(
            self.save_dir / file_names.RELIABILITY.format(task),
            task,
            _pool_reliability([of.before for of in calibrations]),
            _pool_reliability([of.after for of in calibrations]),
            temperatures=head.temperature if head else [],
            note=self.note,
        )


def draw_charts(
    dataset: Dataset,
    history: list[dict[str, Any]],
    results: RunResults,
    views: tuple[np.ndarray, np.ndarray],
    *,
    save_dir: Path,
) -> None:
    """Draw all pictures of a run but the maps.

    Args:
        dataset: the data.
        history: all records of the run's epochs.
        results: of the run.
        views: of `sample_views`.
        save_dir: where the pictures go.
    """
    note = warning_note(results)
    epochs = [row for row in history if row["phase"] == "simclr"]
    plots_pretraining.plot_simclr_loss(save_dir / file_names.TRAINING_LOSS, epochs, note=note)
    plots_pretraining.plot_simclr_diagnostics(save_dir / file_names.DIAGNOSTICS, epochs, note=note)
    plots_pretraining.plot_views(save_dir / file_names.VIEWS, *views, note=note)
    tested = "frames of all folds" if len(dataset.folds) > 1 else "frames of the test part"
    for task in learnt_tasks(results):
        of_head = [row for row in history if row["phase"] == task]
        plots_tasks.plot_head_loss(
            save_dir / file_names.CLASSIFIER_LOSS.format(task), task, of_head, note=note
        )
        _Pictures(save_dir, note).draw_task(task, results.tasks[task], tested)
    for number, result in enumerate(results.screening.values(), start=1):
        if not result.reason:
            plot_screening(save_dir / file_names.SCREENING.format(number), result, note=note)
    if curves := efficiency_curves(results):
        path = save_dir / file_names.LABEL_EFFICIENCY
        plots_evaluation.plot_label_efficiency(path, curves, level="video", note=note)


def warning_note(results: RunResults) -> str:
    """Note that stands on every picture of a run."""
    marks = {
        "SYNTHETIC demo data": results.synthetic,
        "LEAKY split: no estimate for new patients": results.split.leaky,
    }
    return " · ".join(text for text, holds in marks.items() if holds)


def learnt_tasks(results: RunResults) -> list[str]:
    """The tasks that were not skipped."""
    return [task for task in results.tasks if task not in results.skipped]


def efficiency_curves(results: RunResults) -> dict[str, plots_evaluation.EfficiencyCurves]:
    """{target: {method in words: points}} of the label efficiency, where it was computed."""
    return {
        name: {method_name(method): points for method, points in result.label_efficiency.items()}
        for name, result in results.targets.items()
        if result.label_efficiency is not None
    }


def _compared_scores(result: TargetResult, level: str) -> list[tuple[str, Score]]:
    """Balanced accuracy of the model and of what it is compared with."""
    ours = {"this program": result.test} | ({"fine-tuned": result.finetuned.test} if result.finetuned else {})
    return [(name, levels[level]["balanced_accuracy"]) for name, levels in ours.items()] + [
        (method_name(baseline), result.baseline_score(baseline, level)) for baseline in result.baselines
    ]


def _pool_reliability(parts: Sequence[Reliability]) -> Reliability:
    """The reliability of several targets' predictions: means over all of a bin."""
    counts = np.array([part.count for part in parts])  # (targets, bins)
    n = counts.sum(axis=0)

    def mean(values: Sequence[Sequence[float | None]]) -> list[float | None]:
        known = np.array([[value or 0.0 for value in of_part] for of_part in values])
        sums = (known * counts).sum(axis=0)
        return [float(total / k) if k else None for total, k in zip(sums, n, strict=True)]

    confidence, accuracy = mean([part.confidence for part in parts]), mean([part.accuracy for part in parts])
    gaps = [abs(a - c) for a, c in zip(accuracy, confidence, strict=True) if a is not None and c is not None]
    used = n[n > 0]
    ece = float(np.dot(gaps, used) / used.sum()) if len(used) else None
    return Reliability(ece, confidence, accuracy, n.tolist())


def draw_maps(
    dataset: Dataset,
    maps: Mapping[str, np.ndarray],
    mapped: np.ndarray,
    results: RunResults,
    *,
    save_dir: Path,
) -> None:
    """Draw the maps of the features.

    Args:
        dataset: the data.
        maps: {method: (m, 2)}.
        mapped: (m,) which of the labelled frames the points are.
        results: of the run.
        save_dir: where the pictures go.
    """
    rows, labels = dataset.labelled()[mapped], dataset.labels
    for task in learnt_tasks(results):
        frames = plots_tasks.MappedFrames(
            labels.values[task][rows],
            labels.classes[task],
            np.array(labels.videos)[rows],
            dataset.part[rows],
            left_out=len(dataset.labelled()) - len(rows),
        )
        for method, points in maps.items():
            path = save_dir / file_names.EMBEDDING_MAPS[method].format(task)
            plots_tasks.plot_embedding(path, task, method, points, frames, note=warning_note(results))


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
    view_params = torch.cat([sample_view_params(seed, epoch, row)[0] for epoch in range(1, N_VIEWS // 2 + 1)])
    views = two_views(
        frame.expand(len(view_params), -1, -1, -1),
        kind.expand(len(view_params)),
        view_params,
        size=size,
        augment_config=augment_config,
    )
    return to_uint8(eval_view(frame, size=size))[0], to_uint8(views)
