"""SimCLR pretraining: schedule, one epoch, the watched loss, early stopping, and the loop over epochs.

Everything random is drawn from (seed, epoch), so a run that is resumed at an epoch's end goes on bit for bit.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from simclr_rhd import checkpoint
from simclr_rhd.augment import Strengths, two_views
from simclr_rhd.batches import Batch, Batches, epoch_batches, read_ahead, watched_batches
from simclr_rhd.errors import UserError
from simclr_rhd.loss import nt_xent, uniform_loss
from simclr_rhd.process import duration
from simclr_rhd.shards import Frames

logger = logging.getLogger("simclr_rhd")

WEIGHT_DECAY = 0.01  # AdamW's own default
WARMUP_SHARE, WARMUP_MOST = 0.1, 10  # warm up over a tenth of the epochs, at most 10
WATCHED_EPOCH = 2**32 - 1  # the watched frames' views are those of this epoch, the same at every call


def learning_rate_at(step: int, *, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up to `peak`, then a half cosine to 0 (Loshchilov & Hutter 2017, equation 5)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Pretraining:
    """The state of a pretraining run and the steps that change it.

    Args:
        model: SimCLR, wrapped for its devices.
        frames: (N, C, S, S) uint8.
        kinds: (N,) uint8.
        batch_size: N of NT-Xent.
        learning_rate: the peak.
        epochs: at most.
        temperature: of NT-Xent.
        size: pixels of a view's side.
        strengths: of the views.
        seed: seed.
        num_workers: threads that read ahead.
        device: where the model is.
    """

    def __init__(
        self,
        model: nn.Module,
        frames: np.ndarray | Frames,
        kinds: np.ndarray,
        *,
        batch_size: int,
        learning_rate: float,
        epochs: int,
        temperature: float,
        size: int,
        strengths: Strengths,
        seed: int,
        num_workers: int,
        device: torch.device,
    ) -> None:
        self.model, self.frames, self.kinds = model, frames, kinds
        self.batch_size, self.learning_rate, self.epochs = batch_size, learning_rate, epochs
        self.temperature, self.size, self.strengths, self.seed = temperature, size, strengths, seed
        self.num_workers, self.device = num_workers, device
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        half = device.type == "cuda" and not torch.cuda.is_bf16_supported()
        self.scaler = torch.amp.GradScaler(device.type, enabled=half)
        self.precision = torch.float16 if half else torch.bfloat16
        self.history: list[dict[str, Any]] = []
        self.best_loss, self.stale = math.inf, 0

    def loss(self, frames: Tensor, kinds: Tensor, u: Tensor) -> Tensor:
        """NT-Xent of one batch; both views go through the model in one pass."""
        frames, kinds, u = (tensor.to(self.device, non_blocking=True) for tensor in (frames, kinds, u))
        views = two_views(frames, kinds, u, size=self.size, strengths=self.strengths)
        with self._autocast():
            z0, z1 = self.model(views).chunk(2)
        return nt_xent(z0, z1, self.temperature)

    def train_epoch(self, rows: np.ndarray, epoch: int) -> tuple[float, float]:
        """One pass over the training rows: mean loss over frames, and the last step's learning rate."""
        self.model.train()
        batches = epoch_batches(rows, self.batch_size, seed=self.seed, epoch=epoch)
        steps, warmup = self.epochs * len(batches), self._warmup_epochs() * len(batches)
        total = torch.zeros((), device=self.device)
        lr = 0.0
        for number, batch in enumerate(
            tqdm(
                self._load(batches, epoch),
                total=len(batches),
                unit=" batches",
                desc=f"epoch {epoch}",
                disable=None,
                leave=False,
            )
        ):
            lr = learning_rate_at(
                (epoch - 1) * len(batches) + number, steps=steps, warmup=warmup, peak=self.learning_rate
            )
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(*batch)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            total += loss.detach()
        return float(total) / len(batches), lr

    @torch.inference_mode()
    def watched_loss(self, rows: np.ndarray) -> float | None:
        """Mean NT-Xent of the watched rows' fixed views in eval mode; None without at least two rows."""
        if len(rows) < 2:
            return None
        self.model.eval()
        batches = watched_batches(rows, self.batch_size)
        losses = [
            float(self.loss(*batch)) * len(some)
            for some, batch in zip(batches, self._load(batches, WATCHED_EPOCH), strict=True)
        ]
        return sum(losses) / sum(map(len, batches))

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, in tensors and JSON types."""
        return {
            "model": checkpoint.unwrapped(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": self.history,
            "best_loss": self.best_loss,
            "stale": self.stale,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        checkpoint.unwrapped(self.model).load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.history, self.best_loss, self.stale = state["history"], state["best_loss"], state["stale"]

    def _warmup_epochs(self) -> int:
        return min(WARMUP_MOST, round(WARMUP_SHARE * self.epochs))

    def _load(self, indices: list[np.ndarray], epoch: int) -> Iterator[Batch]:
        batches = Batches(self.frames, self.kinds, seed=self.seed, epoch=epoch)
        return read_ahead(batches, indices, workers=self.num_workers, pin=self.device.type == "cuda")

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, self.precision, enabled=self.device.type == "cuda")


def fit(
    run: Pretraining,
    rows: np.ndarray,
    watched: np.ndarray,
    *,
    patience: int,
    min_delta: float,
    save_dir: Path,
    on_epoch: Callable[[list[dict[str, Any]]], None],
) -> list[dict[str, Any]]:
    """Pretrain until the watched loss stops falling or the epochs are used up.

    The best epoch's weights go to `simclr_best.pt`, the whole state after each epoch to `simclr_last.pt`.

    Args:
        run: a fresh or resumed state.
        rows: training frames.
        watched: held-out frames whose loss decides; without them the training loss does.
        patience: epochs without a better loss before stopping.
        min_delta: by how much a loss must be lower to be better.
        save_dir: where the checkpoints are.
        on_epoch: called with the history after each epoch, once its state is saved.

    Returns:
        One record per epoch.

    Raises:
        UserError: the loss is not finite.
    """
    for epoch in range(len(run.history) + 1, run.epochs + 1):
        if run.stale >= patience:
            break
        start = time.perf_counter()
        loss, lr = run.train_epoch(rows, epoch)
        trained = time.perf_counter() - start
        watched_loss = run.watched_loss(watched)
        deciding = loss if watched_loss is None else watched_loss
        if not math.isfinite(loss) or not math.isfinite(deciding):
            raise UserError(
                f"the contrastive loss of epoch {epoch} is not finite ({loss}); the last good "
                "state is kept. Try a lower --learning-rate or a higher --temperature"
            )
        better = deciding < run.best_loss - min_delta
        run.best_loss, run.stale = (deciding, 0) if better else (run.best_loss, run.stale + 1)
        seen = len(rows) // run.batch_size * run.batch_size
        run.history.append(
            {
                "phase": "simclr",
                "epoch": epoch,
                "loss": loss,
                "val_loss": watched_loss,
                "uniform": uniform_loss(run.batch_size),
                "val_uniform": _watched_uniform(watched, run.batch_size),
                "learning_rate": lr,
                "best": better,
                "frames_per_s": round(seen / trained, 1),
                "seconds": round(time.perf_counter() - start, 2),
            }
        )
        if better:
            checkpoint.save(
                save_dir / "simclr_best.pt",
                {
                    "format": "simclr-rhd-pretraining",
                    "epoch": epoch,
                    "loss": deciding,
                    "model": checkpoint.unwrapped(run.model).state_dict(),
                },
            )
        checkpoint.save(save_dir / "simclr_last.pt", run.state())
        on_epoch(run.history)
    return run.history


def _watched_uniform(watched: np.ndarray, batch_size: int) -> float | None:
    if len(watched) < 2:
        return None
    sizes = [len(batch) for batch in watched_batches(watched, batch_size)]
    return sum(size * uniform_loss(size) for size in sizes) / sum(sizes)


def epoch_line(history: list[dict[str, Any]], epochs: int) -> str:
    """One readable line for the log, from the last record."""
    last = history[-1]
    left = (epochs - last["epoch"]) * sum(row["seconds"] for row in history) / len(history)
    best = " best" if last["best"] else ""
    held_out = (
        ""
        if last["val_loss"] is None
        else (f", held-out {last['val_loss']:.4f} (uniform {last['val_uniform']:.4f}){best}")
    )
    return (
        f"simclr epoch {last['epoch']}/{epochs}: loss {last['loss']:.4f} (uniform ln(2N-1) = "
        f"{last['uniform']:.4f}){held_out}, {last['frames_per_s']:.0f} frames/s, "
        f"{duration(last['seconds'])}, at most {duration(left)} left"
    )
