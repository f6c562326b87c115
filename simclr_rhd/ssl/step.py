"""One training step up to its gradients: views, embeddings, loss; in one go or in pieces.

Notation: B pairs of a batch, D the embeddings' dimension.
"""

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from simclr_rhd.core import distributed as ranks
from simclr_rhd.runs.checkpoint import unwrap
from simclr_rhd.ssl.augment import two_views
from simclr_rhd.ssl.batches import Batch
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings, strengths
from simclr_rhd.ssl.encoder.model import SimCLR
from simclr_rhd.ssl.loss import nt_xent

EVAL_MICRO_BATCH = 64  # pairs that go through the model at once where no gradient is wanted

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}  # for autocast


class Step:
    """The gradients of a batch.

    In pieces (gradient caching, Gao et al. 2021) the embeddings of all pieces are computed without keeping
    what the backward pass needs, then the loss and its gradient at the embeddings, then each piece once more
    to bring that gradient to the parameters. The memory is that of a piece, the negatives are those of the
    whole batch. BatchNorm's statistics are those of each piece.

    Args:
        model: SimCLR, wrapped for its devices.
        config: size and strength of the views, temperature.
        settings: pairs of a piece, positives, precision.
        device: where the model is.
        distributed: a batch is shared by all ranks, whose negatives are those of all.

    Attributes:
        size: pixels of a view's side.
    """

    def __init__(
        self,
        model: nn.Module,
        config: PretrainConfig,
        settings: TrainingSettings,
        device: torch.device,
        *,
        distributed: bool = False,
    ) -> None:
        self.model, self.device, self.distributed = model, device, distributed
        self.size, self.augment_config, self.temperature = config.size, strengths(config), config.temperature
        self.micro_batch, self.mask_same_video = settings.micro_batch, settings.positives == "video"
        precision = PRECISIONS[settings.precision]
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        cast(SimCLR, unwrap(model)).precision = precision

    def backward(self, batch: Batch) -> Tensor:
        """Add a batch's gradients to the parameters' own; the loss of all ranks' batches, detached."""
        batch = batch.map(lambda x: x.to(self.device, non_blocking=self.device.type == "cuda"))
        n = len(batch.view_params)
        if self.micro_batch is None or n <= self.micro_batch:
            loss = self.loss(*self.embed(batch), batch.videos, gather_negatives=self.distributed)
            self.scaler.scale(loss).backward()
            return self._mean_over_ranks(loss)
        count = -(-n // self.micro_batch)
        bounds = [number * n // count for number in range(count + 1)]  # as even as can be, for BatchNorm
        pieces = [batch.micro_batch(first, end - first) for first, end in pairwise(bounds)]
        z0, z1 = self._embed_without_graph(pieces)
        loss = self.loss(z0, z1, batch.videos, gather_negatives=self.distributed)
        self.scaler.scale(loss).backward()
        for piece, (first, end) in zip(pieces, pairwise(bounds), strict=True):
            rows = slice(first, end)
            with self._no_sync(is_last=end == n):
                torch.autograd.backward(self.embed(piece), [z0.grad[rows], z1.grad[rows]])  # type: ignore[index]
        return self._mean_over_ranks(loss)

    def _mean_over_ranks(self, loss: Tensor) -> Tensor:
        return ranks.all_reduce_mean(loss.detach()) if self.distributed else loss.detach()

    def views(self, batch: Batch) -> Tensor:
        """(2B, 3, s, s) the first views, then the second ones; see `augment.two_views`."""
        return two_views(
            batch.frames,
            batch.color_modes,
            batch.view_params,
            size=self.size,
            augment_config=self.augment_config,
        )

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, D) embeddings of the first and of the second views, which go through the model in one pass."""
        views = self.views(batch)
        if not isinstance(self.model, nn.DataParallel):
            z0, z1 = self.model(views).chunk(2)
            return z0, z1
        # both views of a frame to the same GPU; one GPU takes what cannot be shared equally
        shared = len(batch.view_params) % max(1, len(self.model.device_ids)) == 0
        views = views.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)
        views = views.contiguous(memory_format=torch.channels_last)
        z = (self.model if shared else self.model.module)(views)
        z0, z1 = z.unflatten(0, (-1, 2)).unbind(1)
        return z0, z1

    def loss(self, z0: Tensor, z1: Tensor, videos: Tensor, *, gather_negatives: bool = False) -> Tensor:
        """NT-Xent of a batch's embeddings."""
        masked_videos = videos if self.mask_same_video else None
        return nt_xent(z0, z1, self.temperature, videos=masked_videos, gather_negatives=gather_negatives)

    @torch.no_grad()
    def _embed_without_graph(self, pieces: list[Batch]) -> tuple[Tensor, Tensor]:
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        embedded = [self.embed(piece) for piece in pieces]
        for name, buffer in self.model.named_buffers():  # each piece counts once in BatchNorm's running means
            buffer.copy_(buffers[name])
        z0, z1 = (torch.cat(parts).requires_grad_() for parts in zip(*embedded, strict=True))
        return z0, z1

    def _no_sync(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Make ranks average their gradients once, with the last piece."""
        if is_last or not isinstance(self.model, nn.parallel.DistributedDataParallel):
            return nullcontext()
        no_sync: AbstractContextManager[None] = self.model.no_sync()
        return no_sync

    @torch.inference_mode()
    def embed_eval(self, model: SimCLR, batch: Batch) -> tuple[Tensor, Tensor]:
        """`embed` by a model in evaluation mode and float32, in this process alone; nothing is changed."""
        was_training, precision = model.training, model.precision
        model.eval()
        model.precision = None
        parts = []
        for first in range(0, len(batch.view_params), EVAL_MICRO_BATCH):
            piece = batch.micro_batch(first, EVAL_MICRO_BATCH).map(lambda x: x.to(self.device))
            parts.append(model(self.views(piece)).chunk(2))
        model.train(was_training)
        model.precision = precision
        z0, z1 = (torch.cat(views) for views in zip(*parts, strict=True))
        return z0, z1


class PendingLoss:
    """A batch's loss on its way from the device; CUDA, which orders copies, goes on with the next batch.

    Args:
        loss: scalar.
        rows: (B,) the batch's frames.
        epoch: in which.
    """

    def __init__(self, loss: Tensor, rows: np.ndarray, epoch: int) -> None:
        self.loss, self.rows, self.epoch = loss.to("cpu", non_blocking=loss.is_cuda), rows, epoch
        self.copied = torch.cuda.current_stream(loss.device).record_event() if loss.is_cuda else None

    def value(self) -> float:
        """The loss; waits for its own batch alone."""
        if self.copied:
            self.copied.synchronize()
        return float(self.loss)


class NonFiniteError(Exception):
    """A value computed from some frames is not finite.

    Args:
        rows: (B,) the frames.
        epoch: in which.
        what: was computed.
    """

    def __init__(self, rows: np.ndarray, epoch: int, what: str = "the contrastive loss of a batch") -> None:
        super().__init__(f"epoch {epoch}")
        self.rows, self.epoch, self.what = rows, epoch, what
