"""ResNet-18 encoder and SimCLR projector."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from simclr_rhd.ssl.augment import imagenet_statistics
from simclr_rhd.ssl.encoder.convolution import use_small_map_convolutions
from simclr_rhd.ssl.encoder.initial_weights import checkpoint_weights, imagenet_weights

LAYOUT_GRID = 6  # fields across and down in which a frame's brightness is described
STAGE_DIMS = (64, 128, 256, 512)  # channels of ResNet-18's four stages
FEATURE_DIM = sum(STAGE_DIMS)  # of what the heads see: the means over the map of each stage
EMBEDDING_DIM = 128  # width of the projector's output, as in SimCLR


class SimCLR(nn.Module):
    """Encoder and projector (Chen et al. 2020, section 2.1).

    The projector sees the encoder's last stage; heads see all four, `stage_features`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.precision: torch.dtype | None = None  # of faster arithmetic than float32
        self.encoder = torchvision.models.resnet18(weights=None)
        self.encoder.fc = nn.Identity()
        use_small_map_convolutions(self.encoder)
        self.projector = nn.Sequential(
            nn.Linear(STAGE_DIMS[-1], STAGE_DIMS[-1], bias=False),
            nn.BatchNorm1d(STAGE_DIMS[-1]),
            nn.ReLU(inplace=True),
            nn.Linear(STAGE_DIMS[-1], EMBEDDING_DIM),
        )

    def forward(self, views: Tensor) -> Tensor:
        """(B, 3, H, W) normalised views -> (B, 128) embeddings, not normalised."""
        # here and not around the call, since DataParallel's threads would not know the precision
        with torch.autocast(views.device.type, self.precision, enabled=self.precision is not None):
            embeddings: Tensor = self.projector(self.encoder(views))
        return embeddings


def stage_features(encoder: nn.Module, views: Tensor) -> Tensor:
    """Means over the maps of all stages: small signs of disease fade in the last one, which pairs shape most.

    Args:
        encoder: torchvision's ResNet-18 with its last layer taken away, or the same with norms folded in.
        views: (B, 3, s, s) normalised.

    Returns:
        (B, 960) float32, the first stage first.
    """
    return _means(stage_maps(encoder, views))


def stage_maps(encoder: nn.Module, views: Tensor) -> list[Tensor]:
    """The maps of the four stages, (B, 64, s/4, s/4) to (B, 512, s/32, s/32)."""
    net: Any = encoder
    return _stages(net, net.bn1(net.conv1(views)))


def _stages(net: Any, first: Tensor) -> list[Tensor]:
    x, maps = net.maxpool(net.relu(first)), []
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = stage(x)
        maps.append(x)
    return maps


def _means(maps: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.mean(dim=(2, 3)).float() for x in maps], dim=1)


def forward_with_ood_stats(encoder: nn.Module, views: Tensor) -> dict[str, Tensor]:
    """Features of views, and statistics of the layers before them for out-of-distribution detection.

    Args:
        encoder: torchvision's ResNet-18 with its last layer taken away, or the same with norms folded in.
        views: (B, 3, s, s) normalised.

    Returns:
        {"features": (B, 960), as of `stage_features`; "texture": (B, 128), means and deviations of the
        first layer's channels; "layout": (B, 36), log(1 + level) in 6 x 6 fields}, float32.
    """
    net: Any = encoder
    first = net.bn1(net.conv1(views))  # (B, 64, s/2, s/2)
    flat = first.float().permute(0, 2, 3, 1).flatten(1, 2)  # (B, pixels, 64), as it lies in memory
    mean_of, square_of = flat.mean(dim=1), (flat * flat).mean(dim=1)
    texture = torch.cat([mean_of, (square_of - mean_of**2).clamp(min=0).sqrt()], dim=1)
    mean, std = imagenet_statistics(views.device)
    levels = ((views.float() * std + mean) * 255).mean(dim=1)  # (B, s, s)
    fields = _pooling_matrix(views.shape[-1]).to(views.device)
    layout = (fields @ levels @ fields.T).clamp(min=0).log1p().flatten(1)
    return {"features": _means(_stages(net, first)), "texture": texture, "layout": layout}


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
        init: 'random', 'imagenet' (torchvision's weights), or the path of a ResNet-18's weights, of this
            program or of another.
        seed: seed of the random weights.

    Raises:
        UserError: the weights cannot be had or do not fit.
    """
    torch.manual_seed(seed)
    model = SimCLR()
    if init == "imagenet":
        model.encoder.load_state_dict(imagenet_weights(), strict=True)
    elif init != "random":
        model.encoder.load_state_dict(
            checkpoint_weights(init, reference=model.encoder.state_dict()), strict=True
        )
    return model.to(memory_format=torch.channels_last)
