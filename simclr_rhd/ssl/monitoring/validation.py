"""What is measured after each epoch of pretraining, on frames it does not learn from: is the loss fine?"""

from typing import Any

import numpy as np
import torch

from simclr_rhd.ssl.batches import PositiveSampler, val_batches
from simclr_rhd.ssl.encoder.features import extract
from simclr_rhd.ssl.monitoring.embedding_metrics import (
    alignment,
    effective_rank,
    ideal_loss,
    knn_scores,
    uniformity,
)
from simclr_rhd.ssl.trainer import NonFiniteError, Trainer

VAL_VIEWS_EPOCH = 2**32 - 1  # the watched frames' views are those of this epoch, the same at every call
MAX_KNN_FRAMES = 1024  # labelled frames whose neighbours are looked at


class Validator:
    """Measures a run: the contrastive loss and the geometry of the embeddings, and how neighbours vote.

    All of it is of the moving average of the weights, which is what would be kept.

    Args:
        trainer: the run.
        val_rows: (n,) held-out frames; with fewer than two, frames of the training take their place, and
            there is no held-out loss.
        labelled: rows of the labelled training frames, never of validation or test.
        values: {task: (N,) int64 class indices, -1 = not annotated} of all frames.
        n_classes: {task: number of classes}.
        groups: (N,) groups of all frames; a frame's neighbours come from other groups.
        knn_every: epochs from one vote of the neighbours to the next; 0 for none.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        val_rows: np.ndarray,
        labelled: np.ndarray,
        values: dict[str, np.ndarray],
        n_classes: dict[str, int],
        groups: np.ndarray,
        knn_every: int,
    ) -> None:
        self.trainer, self.held_out = trainer, len(val_rows) >= 2
        rows = val_rows if self.held_out else trainer.rows
        self.batches = val_batches(rows, trainer.batch_size, seed=trainer.seed)
        self.positive_sampler = PositiveSampler(rows, trainer.videos) if trainer.positive_sampler else None
        self.labelled = labelled[
            np.linspace(0, len(labelled) - 1, min(len(labelled), MAX_KNN_FRAMES)).astype(int)
        ]
        self.values = {task: values[task][self.labelled] for task in n_classes}
        self.n_classes, self.groups, self.knn_every = n_classes, groups[self.labelled], knn_every

    def __call__(self, epoch: int) -> dict[str, Any]:
        """The figures of an epoch's record; None for what was not or cannot be measured."""
        step, trainer = self.trainer.step, self.trainer
        losses, logit_counts, embedded = [], [], []
        batches = trainer.load_batches(self.batches, VAL_VIEWS_EPOCH, self.positive_sampler)
        for rows, batch in zip(self.batches, batches, strict=True):
            z0, z1 = step.embed_eval(trainer.average.model, batch)
            if not (z0.isfinite().all() and z1.isfinite().all()):
                raise NonFiniteError(rows, epoch, "the embedding of frames that are watched")
            losses.append(float(step.loss(z0, z1, batch.videos.to(z0.device))))
            logit_counts.append(trainer.n_logits(rows))
            embedded.append((z0.cpu(), z1.cpu()))
        z0, z1 = (torch.cat(views) for views in zip(*embedded, strict=True))
        knn = self._knn() if self.knn_every and (epoch == 1 or epoch % self.knn_every == 0) else None
        scores = [score for score in (knn or {}).values() if score is not None]
        train_logit_counts = np.concatenate([trainer.n_logits(rows) for rows in trainer.batches(epoch)])
        val_loss = float(np.average(losses, weights=list(map(len, logit_counts))))
        return {
            "uniform": float(np.log(train_logit_counts).mean()),
            "perfect": ideal_loss(train_logit_counts, z0.shape[1], step.temperature),
            "val_loss": val_loss if self.held_out else None,
            "val_uniform": float(np.log(np.concatenate(logit_counts)).mean()) if self.held_out else None,
            "alignment": alignment(z0, z1),
            "uniformity": (uniformity(z0) + uniformity(z1)) / 2,
            "rank": effective_rank(torch.cat([z0, z1])),
            "watched": len(z0),
            "knn": knn,
            "knn_mean": float(np.mean(scores)) if scores else None,
        }

    def _knn(self) -> dict[str, float | None]:
        step, encoder = self.trainer.step, self.trainer.average.model.encoder
        features = extract(
            encoder, self.trainer.frames, self.labelled, size=self.trainer.sizes[-1], device=step.device
        )
        return knn_scores(features, self.values, self.n_classes, self.groups)
