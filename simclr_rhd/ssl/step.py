"""One training step up to its gradients: views, embeddings, loss; in one go or in pieces.

Notation: B pairs of a batch, D the embeddings' dimension.
"""

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from simclr_rhd.core import distributed as ranks
from simclr_rhd.runs.checkpoint import unwrap
from simclr_rhd.ssl.augment import AugmentConfig, two_views
from simclr_rhd.ssl.batches import Batch
from simclr_rhd.ssl.encoder.model import SimCLR
from simclr_rhd.ssl.loss import nt_xent

EVAL_MICRO_BATCH = 64  # pairs that go through the model at once where no gradient is wanted

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}  # for autocast


class Step:
    """What is done with a batch.

    In pieces (gradient caching, Gao et al. 2021) the embeddings of all pieces are computed without keeping
    what the backward pass needs, then the loss and its gradient at the embeddings, then each piece once more
    to bring that gradient to the parameters. The memory is that of a piece, the negatives are those of the
    whole batch. BatchNorm's statistics are those of each piece.

    Args:
        model: SimCLR, wrapped for its devices.
        size: pixels of a view's side.
        augment_config: of the views.
        temperature: of NT-Xent.
        device: where the model is.
        micro_batch: pairs of a piece; None for one piece.
        mask_same_video: pairs of one video are not negatives of each other.
        gather_negatives: the negatives are those of all ranks.
        precision: of the network's arithmetic in training; None for float32.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int,
        augment_config: AugmentConfig,
        temperature: float,
        device: torch.device,
        micro_batch: int | None = None,
        mask_same_video: bool = False,
        gather_negatives: bool = False,
        precision: torch.dtype | None = None,
    ) -> None:
        self.model, self.size, self.augment_config = model, size, augment_config
        self.temperature, self.device, self.micro_batch = temperature, device, micro_batch
        self.mask_same_video, self.gather_negatives = mask_same_video, gather_negatives
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        cast(SimCLR, unwrap(model)).precision = precision

    def backward(self, batch: Batch) -> Tensor:
        """Add a batch's gradients to the parameters' own; the loss of all ranks' batches, detached."""
        batch = batch.map(lambda x: x.to(self.device, non_blocking=True))
        n = len(batch.view_params)
        if self.micro_batch is None or n <= self.micro_batch:
            loss = self.loss(*self.embed(batch), batch.videos, gather_negatives=self.gather_negatives)
            self.scaler.scale(loss).backward()
            return ranks.all_reduce_mean(loss.detach())
        count = -(-n // self.micro_batch)
        bounds = [number * n // count for number in range(count + 1)]  # as even as can be, for BatchNorm
        pieces = [batch.micro_batch(first, end - first) for first, end in pairwise(bounds)]
        z0, z1 = self._embed_without_graph(pieces)
        loss = self.loss(z0, z1, batch.videos, gather_negatives=self.gather_negatives)
        self.scaler.scale(loss).backward()
        for piece, (first, end) in zip(pieces, pairwise(bounds), strict=True):
            rows = slice(first, end)
            with self._no_sync(is_last=end == n):
                torch.autograd.backward(self.embed(piece), [z0.grad[rows], z1.grad[rows]])  # type: ignore[index]
        return ranks.all_reduce_mean(loss.detach())

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, D) embeddings of the first and of the second views, which go through the model in one pass."""
        views = two_views(
            batch.frames,
            batch.color_modes,
            batch.view_params,
            size=self.size,
            augment_config=self.augment_config,
        )
        if not isinstance(self.model, nn.DataParallel):
            z0, z1 = self.model(views).chunk(2)
            return z0, z1
        # both views of a frame to the same GPU; one GPU takes what cannot be shared equally
        shared = len(batch.view_params) % max(1, len(self.model.device_ids)) == 0
        views = views.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)
        views = views.contiguous(memory_format=torch.channels_last)
        z = (self.model if shared else self.model.module)(views)
        return z.unflatten(0, (-1, 2)).unbind(1)

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

    def _no_sync(self, *, is_last: bool) -> AbstractContextManager:
        """Ranks average their gradients once, with the last piece."""
        if is_last or not isinstance(self.model, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.model.no_sync()

    @torch.inference_mode()
    def embed_eval(self, model: SimCLR, batch: Batch) -> tuple[Tensor, Tensor]:
        """`embed` by a model in evaluation mode and float32, in this process alone; nothing is changed."""
        was_training, precision = model.training, model.precision
        model.eval()
        model.precision = None
        parts = []
        for first in range(0, len(batch.view_params), EVAL_MICRO_BATCH):
            piece = batch.micro_batch(first, EVAL_MICRO_BATCH).map(lambda x: x.to(self.device))
            views = two_views(
                piece.frames,
                piece.color_modes,
                piece.view_params,
                size=self.size,
                augment_config=self.augment_config,
            )
            parts.append(model(views).chunk(2))
        model.train(was_training)
        model.precision = precision
        z0, z1 = (torch.cat(views) for views in zip(*parts, strict=True))
        return z0, z1
