"""The record of an epoch of pretraining, a line of `history.jsonl`."""

from dataclasses import dataclass
from typing import Any

FRAMES_KEY = "watched"  # of `measured_frames` in JSON


@dataclass(frozen=True)
class Measurements:
    """The figures measured after an epoch; None for what was not or cannot be measured.

    Attributes:
        uniform: loss of evenly spread embeddings that say nothing, of the training batches.
        perfect: loss of perfect embeddings.
        val_loss: loss of the held-out frames.
        val_uniform: as `uniform`, of the held-out batches.
        alignment: as of `embedding_metrics.alignment`.
        uniformity: as of `embedding_metrics.uniformity`.
        rank: as of `embedding_metrics.effective_rank`.
        measured_frames: frames that these were measured on.
        knn: {task: score of the nearest neighbours' vote}.
        knn_mean: mean of those scores.
    """

    uniform: float
    perfect: float
    val_loss: float | None
    val_uniform: float | None
    alignment: float
    uniformity: float
    rank: float
    measured_frames: int
    knn: dict[str, float | None] | None
    knn_mean: float | None


@dataclass(frozen=True)
class EpochRecord(Measurements):
    """An epoch of pretraining.

    Attributes:
        epoch: from 1.
        loss: mean over the training pairs.
        averaged: whether the moving average of the weights was measured, not the weights.
        learning_rate: of the last step.
        frames_per_s: frames trained on in a second.
        size: pixels of a view's side.
        annealing: whether the learning rate was falling to 0.
        last_epoch: the epoch that ends the run, as far as was known.
        best: whether its weights are the best so far.
        seconds: of the epoch and what is measured after it.
    """

    epoch: int
    loss: float
    averaged: bool
    learning_rate: float
    frames_per_s: float
    size: int
    annealing: bool
    last_epoch: int
    best: bool = False
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The record in JSON's types, the phase, epoch and loss first."""
        fields = {FRAMES_KEY if key == "measured_frames" else key: value for key, value in vars(self).items()}
        return {"phase": "simclr", "epoch": self.epoch, "loss": self.loss, **fields}

    @classmethod
    def from_json(cls, record: Any) -> "EpochRecord":
        """Read what `to_json` gave.

        Raises:
            KeyError, TypeError: fields are missing, or there are others.
            ValueError: it is no record.
        """
        if not isinstance(record, dict):
            raise ValueError("its history has other records")
        fields = {key: value for key, value in record.items() if key not in ("phase", FRAMES_KEY)}
        return cls(**fields, measured_frames=record[FRAMES_KEY])
