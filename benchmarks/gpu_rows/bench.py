"""The parts that all rows share: the device, the sizes, synthetic frames, a pretraining run, an outcome.

Notation: N frames, S pixels of a stored frame's side, B pairs of a batch.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simclr_rhd.data.decoding.image import COLOR, GREY, storage_size
from simclr_rhd.data.store.shards import Frames, ShardWriter
from simclr_rhd.planning.precision import resolve_precision
from simclr_rhd.ssl.augment import sample_view_params
from simclr_rhd.ssl.batches import Batch, UnlabelledSet
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder.model import SimCLR, build
from simclr_rhd.ssl.loss import nt_xent
from simclr_rhd.ssl.optim import make_optimizer
from simclr_rhd.ssl.step import PRECISIONS, Step
from simclr_rhd.ssl.trainer import Trainer

HOLDS, FAILED, RAN, NOT_RUN = "holds", "FAILED", "ran, not judged", "not run"
COLOUR_SHARE = 0.1  # of the synthetic frames


@dataclass(frozen=True)
class Outcome:
    """The result of a row.

    Attributes:
        status: HOLDS, FAILED, RAN (a speed at tiny sizes) or NOT_RUN.
        text: for people.
        figures: for programs; JSON types.
    """

    status: str
    text: str
    figures: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    """Amounts of a run. `judged`: whether speeds and memory are held against their bars."""

    judged: bool
    image: int  # pixels of a view's side
    image_checked: int  # the same where a GPU is checked against a processor
    batch_checked: int
    batches: tuple[int, ...]  # of the loop against the bare step
    batch: int  # of rows with one batch size
    stored: int  # synthetic frames
    steps: int  # in a timed round
    rounds: int
    halves: int  # steps in bfloat16
    halves_float16: tuple[int, int]  # batch and steps in float16, in which processors are very slow
    micro: tuple[int, int, int]  # a piece, a small and a large batch
    frames_of_mission: int
    labelled_of_mission: int
    batches_of_mission: tuple[int, int]
    growth: tuple[int, int]  # steps between which memory must not grow
    files: int  # of the plain loader and of `predict`
    matrix: int  # side of the multiplied matrices


FULL = Sizes(
    judged=True,
    image=224,
    image_checked=64,
    batch_checked=32,
    batches=(64, 256, 1024),
    batch=256,
    stored=4096,
    steps=20,
    rounds=3,
    halves=30,
    halves_float16=(32, 30),
    micro=(64, 256, 4096),
    frames_of_mission=38_037,
    labelled_of_mission=2655,
    batches_of_mission=(64, 512),
    growth=(50, 500),
    files=1024,
    matrix=8192,
)
TINY = Sizes(
    judged=False,
    image=32,
    image_checked=32,
    batch_checked=16,
    batches=(4, 8),
    batch=8,
    stored=64,
    steps=2,
    rounds=1,
    halves=30,
    halves_float16=(4, 3),
    micro=(4, 8, 16),
    frames_of_mission=64,
    labelled_of_mission=40,
    batches_of_mission=(8, 16),
    growth=(3, 6),
    files=8,
    matrix=256,
)


@dataclass
class Bench:
    """The device, the sizes and the data of the rows.

    Args:
        device: where.
        sizes: how much.
        folder: an empty folder for whatever is written.
        data: a folder in the bucket's layout for the commands; None for the built-in data.
    """

    device: torch.device
    sizes: Sizes
    folder: Path
    data: str | None = None

    @property
    def cuda(self) -> bool:
        """True on a GPU."""
        return self.device.type == "cuda"

    @cached_property
    def precision(self) -> str:
        """The numbers that `--precision auto` trains in here."""
        return resolve_precision("auto", self.device)

    @cached_property
    def color_modes(self) -> np.ndarray:
        """(N,) uint8, a tenth of them in colour."""
        coloured = np.random.default_rng(1).random(self.sizes.stored) < COLOUR_SHARE
        return np.where(coloured, COLOR, GREY).astype(np.uint8)

    @cached_property
    def frames(self) -> Frames:
        """N synthetic frames for views of `sizes.image` pixels, in shards on disk as a run stores them."""
        side, rng = storage_size(self.sizes.image), np.random.default_rng(0)
        folder = self.folder / "frames"
        folder.mkdir()
        writer = ShardWriter(folder)
        for kind in self.color_modes:
            writer.append(rng.integers(0, 256, (1 if kind == GREY else 3, side, side), np.uint8), int(kind))
        writer.finish()
        return Frames(folder, self.color_modes, side)

    def make_run(
        self,
        *,
        batch: int,
        frames: np.ndarray | Frames | None = None,
        steps: int | None = None,
        wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
        **how: Any,
    ) -> Trainer:
        """A pretraining run on the synthetic frames, or on others, of which each is its own video.

        Args:
            batch: pairs.
            frames: others than the synthetic ones.
            steps: of an epoch; None for as many as the frames make.
            wrap: puts the model into a wrapper.
            how: `size`, `precision` and `micro_batch` of the step, where they differ from the defaults.
        """
        frames = self.frames if frames is None else frames
        kinds = np.resize(self.color_modes, len(frames))
        rows = np.arange(len(frames) if steps is None else steps * batch) % len(
            frames
        )  # as often as it takes
        step = self.make_step(wrap(build("random", seed=0).to(self.device)), **how)
        config = PretrainConfig(
            image_size=step.size, view_sizes="full", epochs=10_000, ema_decay=0.99, seed=0
        )
        settings = TrainingSettings(batch_size=batch, warmup_epochs=0.0)
        data = UnlabelledSet(
            frames, kinds, np.arange(len(frames)), rows, [str(row) for row in range(len(frames))]
        )
        return Trainer(config, settings, step, data)

    def make_step(
        self,
        model: nn.Module,
        *,
        size: int | None = None,
        precision: str | None = None,
        micro_batch: int | None = None,
        distributed: bool = False,
    ) -> Step:
        """A step of a model that is on the device."""
        config = PretrainConfig(image_size=size or self.sizes.image)
        settings = TrainingSettings(micro_batch=micro_batch, precision=precision or self.precision)
        return Step(model, config, settings, self.device, distributed=distributed)

    def views(self, batch: int, *, size: int | None = None) -> Tensor:
        """(2B, 3, s, s) of noise on the device, channels last."""
        size = size or self.sizes.image
        generator = torch.Generator().manual_seed(0)
        views = torch.randn(2 * batch, 3, size, size, generator=generator).to(self.device)
        return views.contiguous(memory_format=torch.channels_last)

    def make_trained(self, *, precision: str | None = None) -> tuple[SimCLR, torch.optim.Optimizer]:
        """A model on the device in training mode, and its optimizer."""
        model = build("random", seed=0).to(self.device).train()
        model.precision = PRECISIONS[precision or self.precision]
        return model, make_optimizer(model, "adamw", learning_rate=1e-3, weight_decay=0.01)

    def synchronise(self) -> None:
        """Wait for the GPU."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        """Time of some work, the GPU's included."""
        self.synchronise()
        start = time.perf_counter()
        work()
        self.synchronise()
        return time.perf_counter() - start

    def bare_seconds(self, run: Trainer, views: Tensor, steps: int) -> float:
        """Time of some bare steps of a run's model."""
        return self.seconds(lambda: [bare_step(run.model, run.optimizer, views) for _ in range(steps)])

    def judge(self, holds: bool, text: str, **figures: object) -> Outcome:
        """The outcome of a speed or a memory: not judged at tiny sizes."""
        if not self.sizes.judged:
            return Outcome(RAN, text, figures)
        return Outcome(HOLDS if holds else FAILED, text, figures)


def check(holds: bool, text: str, **figures: object) -> Outcome:
    """The outcome of what must hold at any size."""
    return Outcome(HOLDS if holds else FAILED, text, figures)


def random_batch(n: int, size: int, *, seed: int = 0) -> Batch:
    """`n` pairs of coloured noise for views of `size` pixels."""
    rng, side = np.random.default_rng(seed), storage_size(size)
    frames = torch.from_numpy(rng.integers(0, 256, (n, 3, side, side), np.uint8))
    kinds = torch.full((n,), COLOR, dtype=torch.uint8)
    return Batch(frames, kinds, sample_view_params(seed, 1, np.arange(n))[0], torch.arange(n))


def train_step(step: Step, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """One step through the scaler, as the loop does it; the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss = float(step.backward(batch))
    step.scaler.step(optimizer)
    step.scaler.update()
    return loss


def bare_step(model: nn.Module, optimizer: torch.optim.Optimizer, views: Tensor) -> Tensor:
    """Forward, backward and optimizer on views that lie on the device; the loss."""
    optimizer.zero_grad(set_to_none=True)
    z0, z1 = model(views).chunk(2)
    loss = nt_xent(z0, z1)
    loss.backward()
    optimizer.step()
    return loss.detach()
