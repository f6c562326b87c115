"""SimCLR pretraining and linear classification of heart ultrasound frames (rheumatic heart disease)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simclr_rhd.core import __version__

if TYPE_CHECKING:  # it takes seconds to import
    from simclr_rhd.inference.predictor import Model

__all__ = ["__version__", "load_model"]


def load_model(path: str | Path, *, device: str = "auto") -> Model:
    """The model that a run has written, ready for `model.predict(images)`.

    Args:
        path: a `model.pt`.
        device: 'auto', 'cpu', 'cuda' or 'mps'.

    Raises:
        UserError: the file is no model of this program and version, or is damaged.
    """
    from simclr_rhd.inference.predictor import Model

    return Model(path, device=device)
