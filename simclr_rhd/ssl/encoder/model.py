"""ResNet-18 encoder and SimCLR projector, and the weights that they begin with."""

import copy
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from simclr_rhd.core.errors import UserError
from simclr_rhd.runs import checkpoint
from simclr_rhd.ssl.augment import imagenet_statistics
from simclr_rhd.ssl.encoder.convolution import use_small_map_convolutions

LAYOUT_GRID = 6  # fields across and down in which a frame's brightness is described
FEATURE_DIM = 512  # width of ResNet-18's pooled features
EMBEDDING_DIM = 128  # width of the projector's output, as in SimCLR


class SimCLR(nn.Module):
    """Encoder and projector; heads are trained on the encoder's output (Chen et al. 2020, section 2.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.precision: torch.dtype | None = None  # of faster arithmetic than float32
        self.encoder = torchvision.models.resnet18(weights=None)
        self.encoder.fc = nn.Identity()
        use_small_map_convolutions(self.encoder)
        self.projector = nn.Sequential(
            nn.Linear(FEATURE_DIM, FEATURE_DIM, bias=False),
            nn.BatchNorm1d(FEATURE_DIM),
            nn.ReLU(inplace=True),
            nn.Linear(FEATURE_DIM, EMBEDDING_DIM),
        )

    def forward(self, views: Tensor) -> Tensor:
        """(B, 3, H, W) normalised views -> (B, 128) embeddings, not normalised."""
        # here and not around the call, since DataParallel's threads would not know the precision
        with torch.autocast(views.device.type, self.precision, enabled=self.precision is not None):
            embeddings: Tensor = self.projector(self.encoder(views))
        return embeddings


def forward_with_ood_stats(encoder: nn.Module, views: Tensor) -> dict[str, Tensor]:
    """Features of views, and statistics of the layers before them for out-of-distribution detection.

    Args:
        encoder: torchvision's ResNet-18 with its last layer taken away, or the same with norms folded in.
        views: (B, 3, s, s) normalised.

    Returns:
        {"features": (B, 512), as the encoder gives them; "texture": (B, 128), means and deviations of the
        first layer's channels; "layout": (B, 36), log(1 + level) in 6 x 6 fields}, float32.
    """
    net: Any = encoder
    first = net.bn1(net.conv1(views))  # (B, 64, s/2, s/2)
    flat = first.float().permute(0, 2, 3, 1).flatten(1, 2)  # (B, pixels, 64), as it lies in memory
    mean_of, square_of = flat.mean(dim=1), (flat * flat).mean(dim=1)
    texture = torch.cat([mean_of, (square_of - mean_of**2).clamp(min=0).sqrt()], dim=1)
    x = net.maxpool(net.relu(first))
    x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
    mean, std = imagenet_statistics(views.device)
    levels = ((views.float() * std + mean) * 255).mean(dim=1)  # (B, s, s)
    fields = _pooling_matrix(views.shape[-1]).to(views.device)
    layout = (fields @ levels @ fields.T).clamp(min=0).log1p().flatten(1)
    return {"features": net.avgpool(x).flatten(1).float(), "texture": texture, "layout": layout}


def _pooling_matrix(side: int) -> Tensor:
    """(6, s): means over equal parts of a side."""
    edges = torch.linspace(0, side, LAYOUT_GRID + 1)
    low, high = edges[:-1, None], edges[1:, None]
    pixels = torch.arange(side)[None]
    share = (torch.minimum(high, pixels + 1.0) - torch.maximum(low, pixels + 0.0)).clamp(min=0)
    return share / share.sum(dim=1, keepdim=True)


def fuse_batchnorm(encoder: nn.Module) -> nn.Module:
    """A copy of a ResNet in eval mode, its batch norms folded into the convolutions: the same, faster."""
    copied: Any = copy.deepcopy(encoder).eval()
    for block in copied.modules():
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("0", "1")):
            parts = dict(block.named_children())
            if isinstance(parts.get(conv), nn.Conv2d) and isinstance(parts.get(norm), nn.BatchNorm2d):
                setattr(block, conv, fuse_conv_bn_eval(parts[conv], parts[norm]))
                setattr(block, norm, nn.Identity())
    fused: nn.Module = copied.to(memory_format=torch.channels_last)
    return fused


def build(init: str, *, seed: int) -> SimCLR:
    """A SimCLR model: weights drawn from `seed`, the encoder's then replaced as `init` says.

    Args:
        init: 'random', 'imagenet' (torchvision's weights), or the path of a checkpoint of this program or of
            a ResNet-18 state dict.
        seed: seed of the random weights.

    Raises:
        UserError: the weights cannot be had or do not fit.
    """
    torch.manual_seed(seed)
    model = SimCLR()
    if init == "imagenet":
        model.encoder.load_state_dict(_imagenet_weights(), strict=True)
    elif init != "random":
        model.encoder.load_state_dict(
            _checkpoint_weights(init, reference=model.encoder.state_dict()), strict=True
        )
    return model.to(memory_format=torch.channels_last)


def _checkpoint_weights(path: str, *, reference: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder in a checkpoint of this program, or in a plain state dict of torchvision's ResNet-18.

    Its projector and the 1000 classes of a plain one are left out; nothing else may differ.
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


def _imagenet_weights() -> dict[str, Tensor]:
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    try:
        state = dict(weights.get_state_dict(progress=False, check_hash=True))
    except OSError as error:  # URLError is one
        raise UserError(
            f"--init imagenet: torchvision's weights could not be downloaded ({error}). Put {weights.url} "
            f"into {torch.hub.get_dir()}/checkpoints by hand, or use --init random."
        ) from None
    return {name: value for name, value in state.items() if not name.startswith("fc.")}
