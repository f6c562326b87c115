"""Which pictures a run draws, and from what."""

from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd import plots
from simclr_rhd.dataset import Dataset
from simclr_rhd.projection import project


def draw(
    dataset: Dataset,
    features: np.ndarray,
    history: list[dict[str, Any]],
    metrics: dict[str, Any],
    *,
    seed: int,
    save_dir: Path,
) -> dict[str, Path]:
    """Draw all pictures of a run.

    Args:
        dataset: the data.
        features: (n, 512) float32 of the labelled frames.
        history: all records of the run's epochs.
        metrics: the content of `metrics.json`.
        seed: of t-SNE and UMAP.
        save_dir: where the pictures go.

    Returns:
        {title: path}, in the order of the report.
    """
    marks = {
        "SYNTHETIC demo data": metrics["synthetic"],
        "LEAKY split: says nothing about new patients": metrics["split"]["leaky"],
    }
    note = " · ".join(text for text, holds in marks.items() if holds)
    curves = {
        phase: [row for row in history if row["phase"] == phase] for phase in ("simclr", *metrics["tasks"])
    }
    figures = {"Pretraining loss": save_dir / "simclr_training_loss.png"}
    plots.simclr_loss(figures["Pretraining loss"], curves["simclr"], note=note)

    rows = dataset.rows("train", "val", "test")
    videos = np.array(dataset.labels.videos)[rows].tolist()
    points = dict(zip(("t-SNE", "UMAP"), project(features, seed=seed), strict=True))
    for task, result in metrics["tasks"].items():
        if "skipped" in result:
            continue
        loss, confusion = (
            save_dir / name for name in (f"classifier_{task}_loss.png", f"confusion_matrix_{task}.png")
        )
        plots.head_loss(loss, task, curves[task], note=note)
        plots.confusion(
            confusion,
            task,
            result["test"]["frame"]["confusion"],
            result["classes"],
            level="frames of the test part",
            note=note,
            not_evaluable=[row["class"] for row in result["not_evaluable"]],
        )
        figures |= {f"{task}: head loss": loss, f"{task}: confusion matrix": confusion}
        for method, xy in points.items():
            path = save_dir / f"{method.lower().replace('-', '')}_{task}.png"
            plots.embedding(
                path,
                method,
                xy,
                task,
                dataset.labels.values[task][rows],
                result["classes"],
                videos,
                parts=dataset.part[rows].tolist(),
                note=note,
            )
            figures[f"{task}: {method} of the features"] = path
    return figures
