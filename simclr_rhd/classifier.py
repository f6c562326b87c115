"""The trained classifier as one file, `model.pt`: all that it takes to classify a new frame."""

from pathlib import Path
from typing import Any

from torch import nn

from simclr_rhd import checkpoint
from simclr_rhd.augment import MEAN, STD
from simclr_rhd.model import Heads
from simclr_rhd.store import stored_side

FORMAT, VERSION = "simclr-rhd-model", 2  # 1 had no temperatures and no lesions


def save(
    path: Path,
    encoder: nn.Module,
    heads: Heads,
    *,
    classes: dict[str, list[str]],
    image_size: int,
    synthetic: bool,
    trained_on: dict[str, Any],
) -> None:
    """Write encoder, heads, class names and preprocessing.

    Args:
        path: the file.
        encoder: (B, 3, s, s) -> (B, 512).
        heads: on its features.
        classes: names of each task's classes, or lesions, in the order of the logits.
        image_size: s, pixels of a view's side.
        synthetic: whether it learnt from the built-in data.
        trained_on: the data's fingerprint and how they were split.
    """
    checkpoint.save(
        path,
        {
            "format": FORMAT,
            "version": VERSION,
            "synthetic": synthetic,
            "encoder": encoder.state_dict(),
            "heads": heads.state_dict(),
            "classes": classes,
            "multilabel": sorted(heads.multilabel),
            "preprocessing": {
                "pad": "square",
                "stored_side": stored_side(image_size),
                "image_size": image_size,
                "mean": list(MEAN),
                "std": list(STD),
            },
            "trained_on": trained_on,
        },
    )
