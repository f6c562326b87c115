"""The state of a pretraining run, and the steps that change it.

Everything random is drawn from (seed, epoch, frame), and the state moves from one step's end to the next as a
whole. So a run that is stopped, at whatever moment, is gone on with bit for bit.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor
from tqdm import tqdm

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core import signals
from simclr_rhd.core.device import default_workers
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import LAST_CHECKPOINT
from simclr_rhd.runs import checkpoint
from simclr_rhd.runs.checkpoint import typed_value
from simclr_rhd.ssl.batches import Batch, Batches, PositiveSampler, UnlabelledSet, epoch_batches, prefetch
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder.model import SimCLR
from simclr_rhd.ssl.loss import n_logits
from simclr_rhd.ssl.monitoring.epoch_record import EpochRecord
from simclr_rhd.ssl.optim import EMA, compute_ema_decay, make_optimizer
from simclr_rhd.ssl.schedule import Schedule, annealed_rate_at, sizes_of
from simclr_rhd.ssl.step import NonFiniteError, PendingLoss, Step

FORMAT, VERSION = "simclr-rhd-pretraining", 6


class Trainer:
    """The state of a pretraining run and the steps that change it.

    Args:
        config: of the pretraining.
        settings: what the data and the machine decided.
        step: what is done with a batch, which all ranks share equally; its model is what is trained.
        data: the frames.

    Attributes:
        average: moving average of the weights, which is what is measured and kept.
        history: one record per epoch.
        steps_done: of the epoch that is being trained.
        total: sum of the losses of those steps.
        seconds: that they took.
        buffers: BatchNorm's running statistics after the last step; a forward pass changes the model's own.
    """

    def __init__(
        self, config: PretrainConfig, settings: TrainingSettings, step: Step, data: UnlabelledSet
    ) -> None:
        self.config, self.settings, self.step, self.data = config, settings, step, data
        self.model, self.unwrapped = step.model, cast(SimCLR, checkpoint.unwrap(step.model))
        self.optimizer = make_optimizer(
            self.model,
            config.optimizer,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        decay = config.ema_decay
        self.average = EMA(
            self.unwrapped, compute_ema_decay(self.steps_per_epoch) if isinstance(decay, str) else decay
        )
        from_video = settings.positives == "video"
        self.positive_sampler = PositiveSampler(data.rows, data.videos) if from_video else None
        self.schedule = Schedule(config.epochs, sizes_of(config))
        self.history: list[EpochRecord] = []
        self.steps_done, self.seconds = 0, 0.0
        self.total: float | Tensor = 0.0
        self.buffers = self._copy_buffers()
        self._state_lock = threading.RLock()
        self._pending_loss: PendingLoss | None = None
        self._rows: np.ndarray | None = None  # of the last batch
        self._last_saved: tuple[Path, int, int, int] | None = None

    @property
    def epoch(self) -> int:
        """Number of the epoch that is being trained, from 1."""
        return len(self.history) + 1

    @property
    def steps_per_epoch(self) -> int:
        """Full batches of an epoch."""
        return len(self.data.rows) // self.settings.batch_size

    def train_epoch(self, after_step: Callable[[], None] = lambda: None) -> float:
        """Go through the epoch's batches, from the first that is not done; the mean loss over pairs.

        Raises:
            NonFiniteError: a batch's loss is not.
        """
        epoch = self.epoch
        self.step.size = self.schedule.size
        self.model.train()
        batches = self.batches(epoch)
        rest, start, seconds_before = batches[self.steps_done :], time.perf_counter(), self.seconds
        shards = [ranks.shard(rows) for rows in rest]
        loaded = tqdm(
            self.load_batches(shards, epoch, self.positive_sampler),
            initial=self.steps_done,
            total=len(batches),
            unit=" batches",
            desc=f"epoch {epoch}",
            disable=None if ranks.is_main_process() else True,
            leave=False,
        )
        for rows, batch in zip(rest, loaded, strict=True):
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate_at(self.steps_done)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.step.backward(batch)
            with self.atomic_update():
                self.step.scaler.step(self.optimizer)
                self.step.scaler.update()
                self.average.update(self.unwrapped)
                self.steps_done += 1
                self.total = self.total + loss
                self.seconds = seconds_before + time.perf_counter() - start
                self.buffers = self._copy_buffers()
            self.check_finite()  # the batch before: its loss is known by now, and a GPU need not wait
            self._pending_loss, self._rows = PendingLoss(loss, rows, epoch), rows
            after_step()
        self.check_finite()
        return float(self.total) / len(batches)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step of the epoch that is being trained."""
        per_epoch, annealing = self.steps_per_epoch, self.schedule.annealing
        return annealed_rate_at(
            len(self.history) * per_epoch + step,
            warmup=round(self.settings.warmup_epochs * per_epoch),
            annealing=(annealing[0] * per_epoch, annealing[1] * per_epoch) if annealing else None,
            peak=self.settings.learning_rate,
        )

    def check_finite(self) -> None:
        """Check the last batch's loss.

        Raises:
            NonFiniteError: it is not finite.
        """
        if self._pending_loss:
            if not math.isfinite(self._pending_loss.value()):
                raise NonFiniteError(self._pending_loss.rows, self._pending_loss.epoch)
            self._pending_loss = None

    def end_epoch(self, record: EpochRecord) -> None:
        """Put an epoch's record into the history; the next epoch is the one being trained."""
        self.history.append(record)
        self.steps_done, self.total, self.seconds = 0, 0.0, 0.0
        self.schedule.end_epoch()

    @contextmanager
    def atomic_update(self) -> Iterator[None]:
        """Block in which the state changes: no signal and no other thread's `save` comes between."""
        with self._state_lock, signals.defer_signals():
            yield

    def save(self, path: Path) -> None:
        """Save the state as it was after the last step that was done, if it is not saved yet.

        Raises:
            NonFiniteError: the last loss, or a weight.
        """
        with self.atomic_update():
            position = path, len(self.history), self.steps_done, self.schedule.epochs
            if position == self._last_saved:
                return
            self.check_finite()
            if self._rows is not None and not all(p.isfinite().all() for p in self.model.parameters()):
                raise NonFiniteError(self._rows, self.epoch)
            checkpoint.save(path, self.state())
            self._last_saved = position

    def save_best(self, path: Path) -> None:
        """Save the average of the weights after the epoch that is being trained."""
        checkpoint.save(
            path, {"format": FORMAT, "epoch": self.epoch, "model": self.average.model.state_dict()}
        )

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, in tensors and JSON types."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.unwrapped.state_dict() | self.buffers,
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "history": [record.to_json() for record in self.history],
            **self.schedule.state(),
            "steps_done": self.steps_done,
            "total": float(self.total),
            "seconds": self.seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a `state`.

        Raises:
            UserError: it is of another version.
            KeyError, TypeError, ValueError, AttributeError, RuntimeError: it is of another run.
        """
        if state.get("format") != FORMAT or state.get("version") != VERSION:
            raise UserError(
                f"{LAST_CHECKPOINT} is of another version of this program; --overwrite starts anew, another "
                "--save-dir leaves it as it is"
            )
        self.unwrapped.load_state_dict(state["model"], strict=True)
        self.average.load_state(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # there is none where the run went on in other numbers
            self.step.scaler.load_state_dict(state["scaler"])
        self.history = [EpochRecord.from_json(record) for record in typed_value(state, "history", list)]
        self.schedule.load_state(state, epochs_done=len(self.history))
        self.total, self.seconds = typed_value(state, "total", float), typed_value(state, "seconds", float)
        self.steps_done = typed_value(state, "steps_done", int)
        if self.steps_done < 0:
            raise ValueError(f"step {self.steps_done}")
        self.buffers = self._copy_buffers()

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The rows of each batch of an epoch, of all ranks."""
        return epoch_batches(self.data.rows, self.settings.batch_size, seed=self.config.seed, epoch=epoch)

    def n_logits(self, rows: np.ndarray) -> np.ndarray:
        """Number of rows of a batch that each of its rows chooses among: (B,) int64."""
        return n_logits(self.data.videos[rows] if self.step.mask_same_video else None, len(rows))

    def load_batches(
        self, indices: list[np.ndarray], epoch: int, positive_sampler: PositiveSampler | None
    ) -> Iterator[Batch]:
        """Some batches, read ahead."""
        data, workers = self.data, self.config.num_workers
        batches = Batches(data, seed=self.config.seed, epoch=epoch, positive_sampler=positive_sampler)
        pin_memory, default = self.step.device.type == "cuda", default_workers()
        return prefetch(
            batches, indices, workers=default if workers is None else workers, pin_memory=pin_memory
        )

    def _copy_buffers(self) -> dict[str, Tensor]:
        return {name: x.clone() for name, x in self.unwrapped.named_buffers()}
