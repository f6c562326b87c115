"""Frozen extraction: each labelled frame goes through the encoder once."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from simclr_rhd.data.store.shards import Frames
from simclr_rhd.ssl.augment import plain_view
from simclr_rhd.ssl.model import describe

EXTRACTION_BATCH = 64


def extract(
    encoder: nn.Module, frames: np.ndarray | Frames, rows: np.ndarray, *, size: int, device: torch.device
) -> np.ndarray:
    """Features of the plain views of some frames.

    Args:
        encoder: (B, 3, s, s) -> (B, 512); used in eval mode, its mode is put back.
        frames: (N, C, S, S) uint8 store.
        rows: (n,) which of them.
        size: s, pixels of a view's side.
        device: where the encoder is.

    Returns:
        (n, 512) float32; a frame's features do not depend on the others.
    """
    return _all(encoder, lambda views: {"": encoder(views)}, frames, rows, size=size, device=device)[""]


def extract_described(
    encoder: nn.Module, frames: np.ndarray | Frames, rows: np.ndarray, *, size: int, device: torch.device
) -> dict[str, np.ndarray]:
    """{description: (n, D) float32}, what `model.describe` tells; the features as `extract` gives them."""
    return _all(encoder, lambda views: describe(encoder, views), frames, rows, size=size, device=device)


@torch.inference_mode()
def _all(
    encoder: nn.Module,
    tell: Callable[[Tensor], dict[str, Tensor]],
    frames: np.ndarray | Frames,
    rows: np.ndarray,
    *,
    size: int,
    device: torch.device,
) -> dict[str, np.ndarray]:
    was_training = encoder.training
    encoder.eval()
    found: dict[str, list[Tensor]] = {}
    for first in range(0, len(rows), EXTRACTION_BATCH):
        some = torch.from_numpy(frames[rows[first : first + EXTRACTION_BATCH]]).to(device)
        for name, values in tell(plain_view(some, size=size)).items():
            found.setdefault(name, []).append(values.float().cpu())
    encoder.train(was_training)
    return {name: torch.cat(values).numpy() for name, values in found.items()}
