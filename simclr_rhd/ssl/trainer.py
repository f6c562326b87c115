"""SimCLR pretraining: the state of a run, one epoch, early stopping, and the loop over epochs.

Everything random is drawn from (seed, epoch, frame), and the state moves from one step's end to the next as a
whole. So a run that is stopped, at whatever moment, is gone on with bit for bit.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core import process
from simclr_rhd.core.errors import RankLost, UserError
from simclr_rhd.core.files import atomic_write
from simclr_rhd.data.store.shards import Frames
from simclr_rhd.runs import checkpoint
from simclr_rhd.ssl.averaging import EMA
from simclr_rhd.ssl.batches import Batch, Batches, PositiveSampler, epoch_batches, prefetch
from simclr_rhd.ssl.encoder.model import SimCLR
from simclr_rhd.ssl.loss import n_logits
from simclr_rhd.ssl.optim import annealed_rate_at
from simclr_rhd.ssl.schedule import annealing_epochs, first_stage_epochs, stable_epochs
from simclr_rhd.ssl.step import Step

logger = logging.getLogger("simclr_rhd")

FORMAT, VERSION = "simclr-rhd-pretraining", 5


class Monitor(NamedTuple):
    """What early stopping goes by.

    Attributes:
        metric: of an epoch's record.
        sign: 1 where less is better, -1 where more is.
        unit: the metric of the record that `min_delta` is a share of; None: it is an absolute difference.
    """

    metric: str
    sign: int = 1
    unit: str | None = None


MONITORS = {
    "held-out-loss": Monitor("val_loss", unit="val_uniform"),
    "training-loss": Monitor("loss", unit="uniform"),
    "alignment": Monitor("alignment"),
    "uniformity": Monitor("uniformity"),
    "rank": Monitor("rank", sign=-1),
    "knn": Monitor("knn_mean", sign=-1),
}
BEST_CHECKPOINT, LAST_CHECKPOINT, BAD_BATCH_FILE = "simclr_best.pt", "simclr_last.pt", "bad_batch.txt"
MAX_NAMES_IN_ERROR = 5  # of a bad batch's frames in the message; all are in the file


STATE_TYPES = {  # of a state's values
    "history": list,
    "best": float,
    "stale": int,
    "stage": int,
    "began": int,
    "annealing": list | None,
    "steps_done": int,
    "total": float,
    "seconds": float,
}

ATTRIBUTES = {"stale": "epochs_without_improvement", "began": "stage_start"}  # by a key of the state


@contextmanager
def _translate_state_errors(name: str) -> Iterator[None]:
    """Say in one sentence that a file's values do not fit.

    Raises:
        UserError: what is inside finds them missing, or of another kind.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{name} does not hold what this run has saved ({reason}); --overwrite starts anew, another "
            "--save-dir leaves it as it is"
        ) from None


def load_best(model: SimCLR, path: Path) -> int:
    """Give a model the weights of the best epoch; the epoch.

    Raises:
        UserError: the file is another one.
    """
    saved = checkpoint.load(path)
    with _translate_state_errors(str(path)):
        model.load_state_dict(saved["model"], strict=True)
        return int(saved["epoch"])


class PendingLoss:
    """A batch's loss on its way from the device, which goes on with the next batch meanwhile.

    Args:
        loss: scalar.
        rows: (B,) the batch's frames.
        epoch: in which.
    """

    def __init__(self, loss: Tensor, rows: np.ndarray, epoch: int) -> None:
        self.loss, self.rows, self.epoch = loss.to("cpu", non_blocking=True), rows, epoch
        self.copied = torch.cuda.current_stream(loss.device).record_event() if loss.is_cuda else None

    def value(self) -> float:
        """The loss; waits for its own batch alone."""
        if self.copied:
            self.copied.synchronize()
        return float(self.loss)


class Trainer:
    """The state of a pretraining run and the steps that change it.

    Args:
        step: what is done with a batch; its model is what is trained.
        optimizer: of the model's parameters.
        frames: (N, C, S, S) uint8.
        color_modes: (N,) uint8.
        videos: (N,) int64 codes.
        rows: (n,) the frames to learn from.
        batch_size: pairs in a batch, of all ranks together, which share it equally.
        learning_rate: the peak.
        epochs: at most.
        warmup_epochs: of these, while the learning rate rises.
        ema_decay: of the moving average of the weights, which is what is measured and kept.
        positive_sampler: where second views come from; None: from the same frame.
        seed: seed.
        num_workers: threads that read ahead.
        sizes: pixels of a view's side from stage to stage; the step's alone if there are none.
    """

    def __init__(
        self,
        step: Step,
        optimizer: torch.optim.Optimizer,
        frames: np.ndarray | Frames,
        color_modes: np.ndarray,
        videos: np.ndarray,
        rows: np.ndarray,
        *,
        batch_size: int,
        learning_rate: float,
        epochs: int,
        warmup_epochs: float,
        ema_decay: float,
        positive_sampler: PositiveSampler | None,
        seed: int,
        num_workers: int,
        sizes: Sequence[int] = (),
    ) -> None:
        self.step, self.optimizer, self.model = step, optimizer, step.model
        self.average = EMA(cast(SimCLR, checkpoint.unwrap(step.model)), ema_decay)
        self.frames, self.color_modes, self.videos, self.rows = frames, color_modes, videos, rows
        self.batch_size, self.learning_rate, self.epochs = batch_size, learning_rate, epochs
        self.warmup_epochs, self.seed, self.num_workers = warmup_epochs, seed, num_workers
        self.positive_sampler, self.sizes = positive_sampler, tuple(sizes) or (step.size,)
        self.history: list[dict[str, Any]] = []
        # of this stage: the monitored figure, lower is better, and epochs since it improved
        self.best, self.epochs_without_improvement = math.inf, 0
        self.stage, self.stage_start = 0, 0  # the number of the size, and the epochs before it
        self.annealing: list[int] | None = None  # the epochs before the learning rate's fall, and its epochs
        self._advance_schedule()
        self.steps_done, self.seconds = 0, 0.0  # of the epoch that is being trained
        self.total: float | Tensor = 0.0  # sum of its batches' losses
        self.buffers = self._copy_buffers()
        self._state_lock = threading.RLock()
        self._pending_loss: PendingLoss | None = None
        self._rows: np.ndarray | None = None  # of the last batch
        self._last_saved: tuple[Path, int, int] | None = None

    def train_epoch(self, after_step: Callable[[], None] = lambda: None) -> float:
        """Go through the epoch's batches, from the first that is not done; the mean loss over pairs.

        Raises:
            NonFiniteError: a batch's loss is not.
        """
        epoch = len(self.history) + 1
        self.step.size = self.sizes[self.stage]
        self.model.train()
        batches = self.batches(epoch)
        rest, start, seconds_before = batches[self.steps_done :], time.perf_counter(), self.seconds
        shards = [ranks.shard(rows) for rows in rest]
        loaded = _progress_bar(
            self.load_batches(shards, epoch, self.positive_sampler), epoch, self.steps_done, len(batches)
        )
        for rows, batch in zip(rest, loaded, strict=True):
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate_at(self.steps_done)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.step.backward(batch)
            with self.atomic_update():
                self.step.scaler.step(self.optimizer)
                self.step.scaler.update()
                self.average.update(cast(SimCLR, checkpoint.unwrap(self.model)))
                self.steps_done += 1
                self.total = self.total + loss
                self.seconds = seconds_before + time.perf_counter() - start
                self.buffers = self._copy_buffers()
            self.check_finite()  # the batch before: its loss is known by now, and a GPU need not wait
            self._pending_loss, self._rows = PendingLoss(loss, rows, epoch), rows
            after_step()
        self.check_finite()
        return float(self.total) / len(batches)

    def learning_rate_at(self, number: int) -> float:
        """The learning rate of a step of the epoch that is being trained."""
        per_epoch = len(self.rows) // self.batch_size
        annealing = None
        if self.annealing:
            annealing = self.annealing[0] * per_epoch, self.annealing[1] * per_epoch
        return annealed_rate_at(
            len(self.history) * per_epoch + number,
            warmup=round(self.warmup_epochs * per_epoch),
            annealing=annealing,
            peak=self.learning_rate,
        )

    def check_finite(self) -> None:
        """Look at the last batch's loss.

        Raises:
            NonFiniteError: it is not finite.
        """
        if self._pending_loss:
            if not math.isfinite(self._pending_loss.value()):
                raise NonFiniteError(self._pending_loss.rows, self._pending_loss.epoch)
            self._pending_loss = None

    def end_epoch(self, record: dict[str, Any]) -> None:
        """Put an epoch's record into the history; the next epoch is the one being trained."""
        self.history.append(record)
        self.steps_done, self.total, self.seconds = 0, 0.0, 0.0
        self._advance_schedule()

    def next_stage(self) -> None:
        """Go on with larger views; what was best with smaller ones counts no longer."""
        self.stage, self.stage_start = self.stage + 1, len(self.history)
        self.best, self.epochs_without_improvement = math.inf, 0

    def in_last_stage(self) -> bool:
        """Whether views have their full size."""
        return self.stage == len(self.sizes) - 1

    def end_stage(self) -> None:
        """Go on with larger views, or where they are of full size already, with the annealing."""
        if not self.in_last_stage():
            self.next_stage()
        elif self.annealing is None and len(self.history) < self.epochs:
            self.start_annealing()

    def start_annealing(self) -> None:
        """Let the learning rate fall to 0 from here on, with views of full size; then the run ends."""
        while not self.in_last_stage():
            self.next_stage()
        epochs_done = len(self.history)
        self.annealing = [epochs_done, min(annealing_epochs(epochs_done), self.epochs - epochs_done)]

    def is_finished(self) -> bool:
        """Whether all epochs are done, or those of the annealing."""
        return len(self.history) >= self.last_epoch()

    def last_epoch(self) -> int:
        """The epoch that ends the run, as far as is known."""
        return sum(self.annealing) if self.annealing else self.epochs

    def schedule_record(self) -> dict[str, Any]:
        """What an epoch's record holds of the run's course."""
        annealing = self.annealing is not None
        return {"size": self.step.size, "annealing": annealing, "last_epoch": self.last_epoch()}

    def _advance_schedule(self) -> None:
        """Begin what it is time for: larger views, or the annealing, so that it ends with the last epoch."""
        if self.annealing is None and stable_epochs(self.epochs) <= len(self.history) < self.epochs:
            self.start_annealing()
        if self.annealing is None:
            self._skip_finished_stages()

    def _skip_finished_stages(self) -> None:
        """Leave the stages whose epochs are used up; those that are left share what epochs are left."""
        while not self.in_last_stage():
            planned_epochs = first_stage_epochs(self.sizes[self.stage :], self.epochs - self.stage_start)
            if len(self.history) < self.stage_start + planned_epochs:
                break
            self.next_stage()

    @contextmanager
    def atomic_update(self) -> Iterator[None]:
        """What is inside moves the state: no signal and no other thread's `save` comes between."""
        with self._state_lock, process.defer_signals():
            yield

    def save(self, path: Path) -> None:
        """Save the state as it was after the last step that was done, if it is not saved yet.

        Raises:
            NonFiniteError: it is not worth it.
        """
        with self.atomic_update():
            position = path, len(self.history), self.steps_done
            if position == self._last_saved:
                return
            self.check_finite()
            if self._rows is not None and not all(p.isfinite().all() for p in self.model.parameters()):
                raise NonFiniteError(self._rows, len(self.history) + 1)
            checkpoint.save(path, self.state())
            self._last_saved = position

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, in tensors and JSON types."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": checkpoint.unwrap(self.model).state_dict() | self.buffers,
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "history": self.history,
            "best": self.best,
            "stale": self.epochs_without_improvement,
            "stage": self.stage,
            "began": self.stage_start,
            "annealing": self.annealing,
            "steps_done": self.steps_done,
            "total": float(self.total),
            "seconds": self.seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a `state`.

        Raises:
            UserError: it is not one of this version, or of another run.
        """
        if state.get("format") != FORMAT or state.get("version") != VERSION:
            raise UserError(
                f"{LAST_CHECKPOINT} is of another version of this program; --overwrite starts anew, another "
                "--save-dir leaves it as it is"
            )
        with _translate_state_errors(LAST_CHECKPOINT):
            checkpoint.unwrap(self.model).load_state_dict(state["model"], strict=True)
            self.average.load_state(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"]:  # there is none where the run went on in other numbers
                self.step.scaler.load_state_dict(state["scaler"])
            for name, kind in STATE_TYPES.items():
                if not isinstance(state[name], kind):
                    raise ValueError(f"{name} is a {type(state[name]).__name__}")
                setattr(self, ATTRIBUTES.get(name, name), state[name])
            if not all(isinstance(row, dict) for row in self.history):
                raise ValueError("its history has other records")
            if not 0 <= self.stage < len(self.sizes) or self.steps_done < 0:
                raise ValueError(f"stage {self.stage}, step {self.steps_done}")
        self.buffers = self._copy_buffers()

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The rows of each batch of an epoch, of all ranks."""
        return epoch_batches(self.rows, self.batch_size, seed=self.seed, epoch=epoch)

    def n_logits(self, rows: np.ndarray) -> np.ndarray:
        """How many rows of a batch each of its rows chooses among: (B,) int64."""
        return n_logits(self.videos[rows] if self.step.mask_same_video else None, len(rows))

    def load_batches(
        self, indices: list[np.ndarray], epoch: int, positive_sampler: PositiveSampler | None
    ) -> Iterator[Batch]:
        """Some batches, read ahead."""
        batches = Batches(
            self.frames,
            self.color_modes,
            self.videos,
            seed=self.seed,
            epoch=epoch,
            positive_sampler=positive_sampler,
        )
        return prefetch(
            batches, indices, workers=self.num_workers, pin_memory=self.step.device.type == "cuda"
        )

    def _copy_buffers(self) -> dict[str, Tensor]:
        """BatchNorm's running statistics, which a forward pass changes before its step is done."""
        return {name: x.clone() for name, x in checkpoint.unwrap(self.model).named_buffers()}


def _progress_bar(batches: Iterator[Batch], epoch: int, done: int, total: int) -> Iterator[Batch]:
    """A progress bar on the leader's terminal."""
    return tqdm(
        batches,
        initial=done,
        total=total,
        unit=" batches",
        desc=f"epoch {epoch}",
        disable=None if ranks.is_main_process() else True,
        leave=False,
    )


class NonFiniteError(Exception):
    """What was computed from some frames is not finite.

    Args:
        rows: (B,) the frames.
        epoch: in which.
        what: was computed.
    """

    def __init__(self, rows: np.ndarray, epoch: int, what: str = "the contrastive loss of a batch") -> None:
        super().__init__(f"epoch {epoch}")
        self.rows, self.epoch, self.what = rows, epoch, what


def fit(
    trainer: Trainer,
    validate: Callable[[int], dict[str, Any]],
    *,
    monitor: str,
    patience: int,
    min_delta: float,
    checkpoint_minutes: float,
    names: Sequence[str],
    save_dir: Path,
    on_epoch: Callable[[list[dict[str, Any]]], None],
    on_checkpoint: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Pretrain until the monitored figure stops getting better, then anneal; the epochs are an upper bound.

    While views are not of full size yet, a figure that stops getting better ends the stage, not the run. With
    views of full size it begins the annealing: the learning rate falls to 0 over a fifth as many epochs as
    were done. A run that uses all its epochs anneals in the last of them. Each epoch of the annealing is kept
    in place of the one before, the last one at the end: the rate's fall brings what a disease is told by
    (`benchmarks/RECIPE.md`).

    The averaged weights of the best epoch go to `simclr_best.pt`; the whole state to `simclr_last.pt`, after
    each epoch, within long ones, and when the process is told to stop. Rank 0 alone measures and writes.

    Args:
        trainer: a fresh or resumed state.
        validate: what else goes into an epoch's record.
        monitor: a key of `MONITORS`.
        patience: epochs without a better figure before the annealing.
        min_delta: by how much it must be better: of a loss, as a share of its uniform value.
        checkpoint_minutes: between two saves within an epoch.
        names: N names of the frames, to name those of a batch whose loss is not finite.
        save_dir: where the checkpoints are.
        on_epoch: called with the history after each epoch, once its state is saved.
        on_checkpoint: called by the leader after each save, but for the last one of a process that must end.

    Returns:
        One record per epoch.

    Raises:
        UserError: the loss is not finite.
    """
    last = save_dir / LAST_CHECKPOINT
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        if ranks.is_main_process():
            trainer.save(last)
        saved = time.monotonic()

    def save_if_due() -> None:
        if time.monotonic() - saved > 60 * checkpoint_minutes:
            save()
            if ranks.is_main_process():
                on_checkpoint()

    with process.on_forced_exit(save):
        while not trainer.is_finished():
            if ranks.is_main_process() and len(trainer.sizes) > 1 and trainer.steps_done == 0:
                _log_view_size(trainer)
            start, seconds_before = time.perf_counter(), trainer.seconds
            try:
                with ranks.translate_dist_errors():
                    record = _run_epoch(trainer, validate, save_if_due)
                criterion = MONITORS[monitor]
                if record[criterion.metric] is None:
                    raise UserError(
                        f"--monitor {monitor}: it cannot be computed from these data; name another"
                    )
                value = criterion.sign * record[criterion.metric]
                min_improvement = min_delta * (record[criterion.unit] if criterion.unit else 1.0)
                with trainer.atomic_update():
                    better = trainer.annealing is not None or value < trainer.best - min_improvement
                    trainer.best, trainer.epochs_without_improvement = (
                        (value, 0) if better else (trainer.best, trainer.epochs_without_improvement + 1)
                    )
                    seconds = round(seconds_before + time.perf_counter() - start, 2)
                    epoch_record = {**record, **trainer.schedule_record(), "best": better, "seconds": seconds}
                    if better and ranks.is_main_process():
                        _save_best(trainer, save_dir / BEST_CHECKPOINT)
                    trainer.end_epoch(epoch_record)
                    if trainer.epochs_without_improvement >= patience:
                        trainer.end_stage()
                    save()
                    on_epoch(trainer.history)
                if ranks.is_main_process():
                    on_checkpoint()
            except (KeyboardInterrupt, process.Terminated, RankLost):
                with suppress(NonFiniteError):  # then the state before it is the one to go on from
                    save()
                raise
            except NonFiniteError as bad:
                raise _non_finite_error(bad, names, save_dir) from None
    return trainer.history


def _run_epoch(
    trainer: Trainer, validate: Callable[[int], dict[str, Any]], after_step: Callable[[], None]
) -> dict[str, Any]:
    """Train one epoch; the leader measures, every rank has the record."""
    epoch, per_epoch = len(trainer.history) + 1, len(trainer.rows) // trainer.batch_size
    record = {"phase": "simclr", "epoch": epoch, "loss": trainer.train_epoch(after_step)}
    if ranks.is_main_process():
        record |= validate(epoch)
        record["averaged"] = trainer.average.decay > 0
        record["learning_rate"] = trainer.learning_rate_at(per_epoch - 1)
        record["frames_per_s"] = round(per_epoch * trainer.batch_size / trainer.seconds, 1)
    return ranks.broadcast(record)


def _log_view_size(trainer: Trainer) -> None:
    """Say it where views grow."""
    size, before = trainer.sizes[trainer.stage], trainer.history[-1]["size"] if trainer.history else None
    if size != before:
        logger.info("views of %d pixels from epoch %d on", size, len(trainer.history) + 1)


def _save_best(trainer: Trainer, path: Path) -> None:
    """Keep the average of the weights after the epoch that is being ended."""
    model = trainer.average.model.state_dict()
    checkpoint.save(path, {"format": FORMAT, "epoch": len(trainer.history) + 1, "model": model})


def _non_finite_error(error: NonFiniteError, names: Sequence[str], save_dir: Path) -> UserError:
    """The error that names the batch's frames."""
    frames = [names[row] for row in error.rows]
    if ranks.is_main_process():
        with atomic_write(save_dir / BAD_BATCH_FILE) as part:
            part.write_text("\n".join(frames) + "\n", encoding="utf-8")
    return UserError(
        f"{error.what} in epoch {error.epoch} is not finite. Its frames are "
        f"{', '.join(frames[:MAX_NAMES_IN_ERROR])} and {max(0, len(frames) - MAX_NAMES_IN_ERROR)} more, "
        f"all in {save_dir / BAD_BATCH_FILE}. The last good state is kept; try a lower --learning-rate "
        "or a higher --temperature, in another --save-dir or with --overwrite"
    )
