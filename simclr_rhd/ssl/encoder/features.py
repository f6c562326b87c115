"""Frozen extraction: each labelled frame goes through the encoder once."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from simclr_rhd.data.store.shards import Frames
from simclr_rhd.ssl.augment import eval_view
from simclr_rhd.ssl.encoder.model import forward_with_ood_stats, stage_features

EXTRACTION_BATCH_SIZE = 64


def extract(
    encoder: nn.Module, frames: np.ndarray | Frames, rows: np.ndarray, *, size: int, device: torch.device
) -> np.ndarray:
    """Features of the plain views of some frames.

    Args:
        encoder: a ResNet-18; used in eval mode, its mode is put back.
        frames: (N, C, S, S) uint8 store.
        rows: (n,) which of them.
        size: s, pixels of a view's side.
        device: where the encoder is.

    Returns:
        (n, 960) float32, as of `model.stage_features`; a frame's do not depend on the others.
    """
    return _extract(
        encoder, lambda views: {"": stage_features(encoder, views)}, frames, rows, size=size, device=device
    )[""]


def extract_with_ood_stats(
    encoder: nn.Module, frames: np.ndarray | Frames, rows: np.ndarray, *, size: int, device: torch.device
) -> dict[str, np.ndarray]:
    """{description: (n, D) float32}, as of `model.forward_with_ood_stats`, the features as of `extract`."""
    return _extract(
        encoder, lambda views: forward_with_ood_stats(encoder, views), frames, rows, size=size, device=device
    )


@torch.inference_mode()
def _extract(
    encoder: nn.Module,
    forward: Callable[[Tensor], dict[str, Tensor]],
    frames: np.ndarray | Frames,
    rows: np.ndarray,
    *,
    size: int,
    device: torch.device,
) -> dict[str, np.ndarray]:
    was_training = encoder.training
    encoder.eval()
    outputs: dict[str, list[Tensor]] = {}
    for first in range(0, len(rows), EXTRACTION_BATCH_SIZE):
        batch = torch.from_numpy(frames[rows[first : first + EXTRACTION_BATCH_SIZE]]).to(device)
        for name, values in forward(eval_view(batch, size=size)).items():
            outputs.setdefault(name, []).append(values.float().cpu())
    encoder.train(was_training)
    return {name: torch.cat(values).numpy() for name, values in outputs.items()}
