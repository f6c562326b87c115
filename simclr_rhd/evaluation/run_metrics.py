"""The metrics of a run: scores beside baselines, calibration, abstention, label efficiency, leakage."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.core.files import write_json, write_rows
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.labelled_set import Probabilities
from simclr_rhd.evaluation import leakage, results
from simclr_rhd.evaluation.config import EvaluationConfig
from simclr_rhd.evaluation.label_efficiency import learning_curves
from simclr_rhd.evaluation.results import FINETUNED
from simclr_rhd.evaluation.selective import evaluate_selective
from simclr_rhd.heads.cross_validation import OURS, CrossValidation
from simclr_rhd.heads.train import TrainedHeads

logger = logging.getLogger("simclr_rhd")


def evaluate(
    config: EvaluationConfig,
    study: CrossValidation,
    trained: Sequence[TrainedHeads],
    predictions: Mapping[str, Sequence[Probabilities]],
    tuned: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """{question: figures} of our heads, of what they are compared with, and of what the flags ask for.

    Args:
        config: of the evaluation.
        study: the labelled frames and their folds.
        trained: the heads of each fold.
        predictions: {method: K tables of probabilities}.
        tuned: the epochs of the fine-tuning, none without it.
    """
    cohort = study.labelled_set
    found = results.evaluate(cohort, predictions, seed=study.config.seed)
    epochs_kept = {row["way"]: row["epoch"] for row in tuned if row["best"]}  # the last one of each
    for name in found if tuned else ():
        found[name][FINETUNED]["epochs_kept"] = list(epochs_kept.values())[-len(cohort.folds) :]
    for name, facts in evaluate_selective(cohort, predictions[OURS]).items():
        found[name]["selective"] = facts
    for name, facts in results.describe_heads(cohort, trained, study.features.per_fold).items():
        found[name]["head"] = facts
    if config.label_fractions:
        for name, points in learning_curves(study, config.label_fractions).items():
            found[name]["label_efficiency"] = points
    if config.show_leak:
        for name, leaky in results.frame_split_scores(study).items():
            found[name]["leak"] = leaky
    return found


def describe_split(dataset: Dataset, init: str) -> dict[str, Any]:
    """The `split` of `metrics.json`: how the frames are divided, and what the encoder has seen.

    Args:
        dataset: the frames.
        init: 'random', 'imagenet' or the file that the pretraining began with.
    """
    foreign = f"; it began with the weights of {Path(init).name}, and what those have seen is not known here"
    return {
        "by": dataset.split_by,
        "leaky": dataset.leaky,
        "folds": len(dataset.folds),
        "parts": dataset.parts(),
        "pretraining": dataset.describe_pretraining() + foreign * (init not in ("random", "imagenet")),
    }


def audit_leakage(dataset: Dataset, study: CrossValidation, save_dir: Path) -> dict[str, Any]:
    """Look for the same patient on two sides: write `leak_audit.csv`; the summary of it."""
    audit = leakage.audit_leakage(
        study.features.per_fold,
        leakage.thumbnails(dataset.store.frames, np.arange(len(dataset.part))),
        dataset.labelled(),
        paths=dataset.store.keys,
        groups=dataset.groups,
        folds=[fold.part for fold in dataset.folds],
    )
    write_rows(save_dir / "leak_audit.csv", leakage.HEADER, audit.rows)
    alike = audit.summary["near_identical"]["found"]
    if alike:
        logger.warning(
            "WARNING %d pairs of frames in different parts look nearly identical (leak_audit.csv): if they "
            "are of one patient, the scores are too good",
            alike,
        )
    return audit.summary


def write_metrics(
    save_dir: Path, metrics: Mapping[str, Any], study: CrossValidation, ours: Sequence[Probabilities]
) -> None:
    """Write `metrics.json` and, of our heads' K tables, `predictions.csv`."""
    write_json(save_dir / "metrics.json", metrics)
    write_rows(
        save_dir / "predictions.csv",
        results.prediction_header(study.labelled_set),
        results.prediction_rows(study.labelled_set, ours),
    )
