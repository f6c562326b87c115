"""The weights that an encoder begins with: of a file, or torchvision's of ImageNet."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torchvision
from torch import Tensor

from simclr_rhd.core.errors import UserError, reason_of
from simclr_rhd.core.text import printable
from simclr_rhd.runs import checkpoint
from simclr_rhd.ssl.encoder.state_dicts import named_tensors, select_encoder

logger = logging.getLogger("simclr_rhd")

SAFETENSORS_SUFFIX = ".safetensors"
MAX_FILE_BYTES = 2 << 30  # of a ResNet-18's checkpoint, with its optimizer, copy and queue
HEADS = ("fc.", "projector.", "projection_head.", "classifier.")  # what may follow the encoder
SMALL_KERNEL = (3, 3)  # of the first convolution in networks for pictures of 32 pixels
MAX_LISTED = 3  # names in a message
TENSORS_WANTED = "wanted a file of tensors alone, as of torch.save(model.state_dict(), FILE)"


def checkpoint_weights(path: str, *, reference: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder in a file of weights: of this program, or of another that trains torchvision's ResNet-18.

    Which others, and what they call the encoder, is in `state_dicts`. What follows the encoder is left out;
    nothing else may differ.

    Args:
        path: of a checkpoint, or of a file of safetensors.
        reference: the encoder's state dict.

    Returns:
        {name: tensor}, with the names and shapes of `reference`.

    Raises:
        UserError: it cannot be read, or names, shapes or types differ, a number is not finite, or a variance
            is negative.
    """
    tensors = _read_tensors(path)
    table = select_encoder(tensors, reference)
    weights = {name: value for name, value in table.tensors.items() if not name.startswith(HEADS)}
    weights |= {  # old files have none, averaged ones have it in other types, and nothing reads it
        name: value for name, value in reference.items() if name.endswith("num_batches_tracked")
    }
    if differences := "; ".join(_differences(weights, reference)):
        names = f" ({', '.join([*tensors][:MAX_LISTED])}{', ...' * (len(tensors) > MAX_LISTED)})"
        place = f"; those below '{table.prefix}' are the most like it" * bool(table.prefix)
        there = f"The file has {len(tensors)} tensors{names * bool(tensors)}{place}"
        raise UserError(
            f"--init {path}: not the weights of a ResNet-18 encoder: {printable(f'{differences}. {there}')}"
        )
    for name, value in weights.items():
        if value.is_floating_point() != reference[name].is_floating_point():
            raise UserError(f"--init {path}: {name} is of {value.dtype}, wanted {reference[name].dtype}")
        if not _is_finite(value):
            raise UserError(f"--init {path}: {name} has a number that is not finite")
        if name.endswith("running_var") and bool((value.float() < 0).any()):
            raise UserError(f"--init {path}: {name} has a variance below 0")
    if table.others:
        others = ", ".join(f"'{prefix}'" for prefix in table.others[:MAX_LISTED])
        choice = printable(f"'{table.prefix}', not {others}")
        logger.info("--init %s: the file has several encoders; this run begins with %s", path, choice)
    return weights


def _read_tensors(path: str) -> dict[str, Tensor]:
    """The tensors of a file, their names joined by dots."""
    try:
        if Path(path).stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"larger than {MAX_FILE_BYTES >> 30} GiB, so no checkpoint of a ResNet-18")
        is_safetensors = path.lower().endswith(SAFETENSORS_SUFFIX)
        return named_tensors(_read_safetensors(path) if is_safetensors else _read_pickled(path))
    except OSError as error:
        raise UserError(f"--init {path}: cannot be read ({error.strerror})") from None
    except (UserError, ValueError) as error:
        reason = printable(str(error)).removeprefix(f"{path}: ")
        raise UserError(f"--init {path}: {reason}; {TENSORS_WANTED}") from None


def _read_safetensors(path: str) -> Mapping[str, Tensor]:
    content = Path(path).read_bytes()  # a mapped file that is cut off while it is read ends the process
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # on foreign bytes the loader raises whatever it stumbles over
        raise ValueError(f"no file of safetensors, or damaged{reason_of(error)}") from None


def _read_pickled(path: str) -> Mapping[str, Any]:
    saved = checkpoint.load(path)
    average = saved.get("average")  # of a pretraining that can be gone on with
    return average if isinstance(average, dict) else saved


def _is_finite(value: Tensor) -> bool:
    """Return True if all numbers are finite; those of 8 bits are looked at as longer ones."""
    return bool((value.float() if value.is_floating_point() else value).isfinite().all())


def _differences(weights: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> Iterator[str]:
    """The differences of names and shapes, in words."""
    first = weights.get("conv1.weight")
    if first is not None and first.shape[2:] == SMALL_KERNEL:
        yield "its first convolution is 3 x 3, as for pictures of 32 pixels (CIFAR), wanted 7 x 7"
    names = {
        "missing": [name for name in reference if name not in weights],
        "not of a ResNet-18": [name for name in weights if name not in reference],
        "of another shape": [
            f"{name} is {tuple(weights[name].shape)}, wanted {tuple(value.shape)}"
            for name, value in reference.items()
            if name in weights and weights[name].shape != value.shape
        ],
    }
    yield from (f"{len(of)} {what}: {', '.join(of[:MAX_LISTED])}" for what, of in names.items() if of)


def imagenet_weights_cached() -> bool:
    """Return True if torchvision's weights are on this machine, so that nothing must be fetched."""
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    return Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1]).is_file()


def imagenet_weights() -> dict[str, Tensor]:
    """Torchvision's weights of ImageNet-1k for a ResNet-18 without its last layer.

    Raises:
        UserError: they cannot be downloaded.
    """
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    try:
        state = dict(weights.get_state_dict(progress=False, check_hash=True))
    except OSError as error:  # URLError is one
        raise UserError(
            f"--init imagenet: torchvision's weights could not be downloaded ({error}). Put {weights.url} "
            f"into {torch.hub.get_dir()}/checkpoints by hand, or use --init random."
        ) from None
    return {name: value for name, value in state.items() if not name.startswith("fc.")}
