"""Measurements after each epoch of pretraining, on frames it does not learn from."""

from dataclasses import dataclass

import numpy as np
import torch

from simclr_rhd.ssl.batches import PositiveSampler, val_batches
from simclr_rhd.ssl.encoder.features import extract
from simclr_rhd.ssl.encoder.model import STAGE_DIMS
from simclr_rhd.ssl.monitoring.embedding_metrics import (
    alignment,
    effective_rank,
    ideal_loss,
    knn_scores,
    uniformity,
)
from simclr_rhd.ssl.monitoring.epoch_record import Measurements
from simclr_rhd.ssl.step import NonFiniteError
from simclr_rhd.ssl.trainer import Trainer

VAL_VIEWS_EPOCH = 2**32 - 1  # views of the validation frames are those of this epoch, the same at every call
MAX_KNN_FRAMES = 1024  # labelled frames that the neighbours vote among


@dataclass(frozen=True)
class KnnFrames:
    """Labelled frames that the nearest neighbours vote among.

    Attributes:
        rows: (n,) of the labelled training frames, never of validation or test.
        values: {task: (n,) int64 class indices, -1 = not annotated}.
        n_classes: {task: number of classes}.
        groups: (n,) codes of groups; a frame's neighbours come from other groups.
    """

    rows: np.ndarray
    values: dict[str, np.ndarray]
    n_classes: dict[str, int]
    groups: np.ndarray


class Validator:
    """Measures a run: the contrastive loss and the geometry of the embeddings, and the neighbours' vote.

    All of it is of the moving average of the weights, which is what would be kept.

    Args:
        trainer: the run.
        val_rows: (n,) held-out frames; with fewer than two, frames of the training take their place, and
            there is no held-out loss.
        labelled: the frames that neighbours vote among.
    """

    def __init__(self, trainer: Trainer, val_rows: np.ndarray, labelled: KnnFrames) -> None:
        self.trainer, self.has_val_frames = trainer, len(val_rows) >= 2
        rows = val_rows if self.has_val_frames else trainer.data.rows
        self.batches = val_batches(rows, trainer.settings.batch_size, seed=trainer.config.seed)
        from_video = trainer.positive_sampler is not None
        self.positive_sampler = PositiveSampler(rows, trainer.data.videos) if from_video else None
        n_knn = min(len(labelled.rows), MAX_KNN_FRAMES)
        self.voters = np.linspace(0, len(labelled.rows) - 1, n_knn).astype(int)
        self.labelled = labelled

    def __call__(self, epoch: int) -> Measurements:
        """The figures of an epoch."""
        step, trainer, knn_every = self.trainer.step, self.trainer, self.trainer.config.knn_every
        losses, logit_counts, embedded = [], [], []
        batches = trainer.load_batches(self.batches, VAL_VIEWS_EPOCH, self.positive_sampler)
        for rows, batch in zip(self.batches, batches, strict=True):
            z0, z1 = step.embed_eval(trainer.average.model, batch)
            if not (z0.isfinite().all() and z1.isfinite().all()):
                raise NonFiniteError(rows, epoch, "the embedding of held-out frames")
            losses.append(float(step.loss(z0, z1, batch.videos.to(z0.device))))
            logit_counts.append(trainer.n_logits(rows))
            embedded.append((z0.cpu(), z1.cpu()))
        z0, z1 = (torch.cat(views) for views in zip(*embedded, strict=True))
        knn = self._knn() if knn_every and (epoch == 1 or epoch % knn_every == 0) else None
        scores = [score for score in (knn or {}).values() if score is not None]
        train_logit_counts = np.concatenate([trainer.n_logits(rows) for rows in trainer.batches(epoch)])
        val_loss = float(np.average(losses, weights=list(map(len, logit_counts))))
        val_uniform = float(np.log(np.concatenate(logit_counts)).mean())
        return Measurements(
            uniform=float(np.log(train_logit_counts).mean()),
            perfect=ideal_loss(train_logit_counts, z0.shape[1], step.temperature),
            val_loss=val_loss if self.has_val_frames else None,
            val_uniform=val_uniform if self.has_val_frames else None,
            alignment=alignment(z0, z1),
            uniformity=(uniformity(z0) + uniformity(z1)) / 2,
            rank=effective_rank(torch.cat([z0, z1])),
            measured_frames=len(z0),
            knn=knn,
            knn_mean=float(np.mean(scores)) if scores else None,
        )

    def _knn(self) -> dict[str, float | None]:
        trainer, labelled, voters = self.trainer, self.labelled, self.voters
        features = extract(  # of the last stage, which is what pretraining shapes
            trainer.average.model.encoder,
            trainer.data.frames,
            labelled.rows[voters],
            size=trainer.schedule.sizes[-1],
            device=trainer.step.device,
        )[:, -STAGE_DIMS[-1] :]
        values = {task: labelled.values[task][voters] for task in labelled.n_classes}
        return knn_scores(features, values, labelled.n_classes, labelled.groups[voters])
