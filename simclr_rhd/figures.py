"""Which pictures a run draws, and from what."""

from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd import plots
from simclr_rhd.augment import Strengths, draws, pictures, plain_view, two_views
from simclr_rhd.dataset import Dataset
from simclr_rhd.projection import project

VIEWS = 16  # of one frame, to be looked at


def draw(
    dataset: Dataset,
    features: np.ndarray,
    history: list[dict[str, Any]],
    metrics: dict[str, Any],
    *,
    size: int,
    strengths: Strengths,
    seed: int,
    save_dir: Path,
) -> dict[str, Path]:
    """Draw all pictures of a run.

    Args:
        dataset: the data.
        features: (n, 512) float32 of the labelled frames.
        history: all records of the run's epochs.
        metrics: the content of `metrics.json`.
        size: pixels of a view's side.
        strengths: of the views.
        seed: of t-SNE, UMAP and the views that are shown.
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
    figures = {
        "Pretraining loss": save_dir / "simclr_training_loss.png",
        "Pretraining: is the loss fine?": save_dir / "simclr_diagnostics.png",
        "What the encoder is shown": save_dir / "simclr_views.png",
    }
    loss, diagnostics, views = figures.values()
    plots.simclr_loss(loss, curves["simclr"], note=note)
    plots.simclr_diagnostics(diagnostics, curves["simclr"], note=note)
    frame, of_it = some_views(dataset, size=size, strengths=strengths, seed=seed)
    plots.views(views, frame, of_it, note=note)

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


def some_views(
    dataset: Dataset, *, size: int, strengths: Strengths, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A frame of the pretraining and 16 of its random views.

    Returns:
        (s, s, 3) and (16, s, s, 3) uint8.
    """
    import torch

    rows = dataset.rows("unlabelled")
    row = rows[len(rows) // 2 : len(rows) // 2 + 1]
    frame, kind = torch.from_numpy(dataset.store.frames[row]), torch.from_numpy(dataset.store.kinds[row])
    u = torch.cat([draws(seed, epoch, row)[0] for epoch in range(1, VIEWS // 2 + 1)])
    views = two_views(
        frame.expand(len(u), -1, -1, -1), kind.expand(len(u)), u, size=size, strengths=strengths
    )
    return pictures(plain_view(frame, size=size))[0], pictures(views)
