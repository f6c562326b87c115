"""Checkpoints: tensors and JSON types only, saved whole or not at all, loaded without running code."""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from simclr_rhd.errors import UserError
from simclr_rhd.files import replacing


def save(path: Path, payload: dict[str, Any]) -> None:
    """Write `payload` to `path`; a crash in the middle leaves the old file good."""
    content = io.BytesIO()
    torch.save(payload, content)  # straight into a file it would not say that the disk is full
    with replacing(path) as part:
        with part.open("wb") as stream:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())  # the move must not reach the disk before the bytes do


def load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: the file cannot be read or is not a checkpoint of tensors and plain types.
    """
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on foreign bytes the loader raises whatever it stumbles over
        if isinstance(error, OSError) and error.filename:  # else it looks for what a cut-off file lacks
            raise UserError(f"{path}: {error.strerror or error}") from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # whose own text advises to run what is in the file
            reason = "it holds more than tensors and plain values"
        raise UserError(f"{path}: not a checkpoint of this program, or damaged ({reason})") from None
    if not isinstance(payload, dict):
        raise UserError(f"{path}: not a checkpoint of this program (it holds a {type(payload).__name__})")
    return payload


def digest(model: nn.Module) -> str:
    """A hash of all parameters and buffers: equal before and after means that nothing moved."""
    content = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        content.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside a wrapper for several devices, so that saved names carry no `module.` prefix."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return cast(nn.Module, model.module)
    return model
