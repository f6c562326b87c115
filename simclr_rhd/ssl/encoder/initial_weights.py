"""The weights that an encoder begins with: of a file, or torchvision's of ImageNet."""

from pathlib import Path

import torch
import torchvision
from torch import Tensor

from simclr_rhd.core.errors import UserError
from simclr_rhd.runs import checkpoint


def checkpoint_weights(path: str, *, reference: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder in a checkpoint of this program, or in a plain state dict of torchvision's ResNet-18.

    Its projector and the 1000 classes of a plain one are left out; nothing else may differ.

    Args:
        path: of the checkpoint.
        reference: the encoder's state dict.

    Raises:
        UserError: it cannot be read, or names, shapes or types differ, or a number is not finite.
    """
    saved = checkpoint.load(path)
    if isinstance(saved.get("average"), dict):  # of a pretraining that can be gone on with
        saved = saved["average"]
    places = ("encoder", "model", "state_dict")
    tensors = next((saved[name] for name in places if isinstance(saved.get(name), dict)), saved)
    weights = {}
    for name, value in tensors.items():
        name = str(name).removeprefix("module.").removeprefix("encoder.")
        if not name.startswith(("projector.", "fc.")):
            weights[name] = value
    for name, value in reference.items():
        if name.endswith("num_batches_tracked"):  # old files have none, and nothing reads it
            weights.setdefault(name, value)
    shapes = {name: tuple(x.shape) if torch.is_tensor(x) else type(x).__name__ for name, x in weights.items()}
    differences = {
        "missing": [name for name in reference if name not in weights],
        "not of a ResNet-18": [name for name in weights if name not in reference],
        "of another shape": [
            f"{name} is {shapes[name]}, wanted {tuple(reference[name].shape)}"
            for name in reference
            if name in weights and shapes[name] != tuple(reference[name].shape)
        ],
    }
    if any(differences.values()):
        summary = "; ".join(f"{len(n)} {what}: {', '.join(n[:3])}" for what, n in differences.items() if n)
        raise UserError(f"--init {path}: not the weights of a ResNet-18 encoder: {summary}")
    for name, value in weights.items():
        if value.is_floating_point() != reference[name].is_floating_point() or not value.isfinite().all():
            raise UserError(f"--init {path}: {name} is not of finite numbers of its kind")
    return weights


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
