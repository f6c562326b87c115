"""A network over several devices: all ranks, or all GPUs of this machine.

BatchNorm takes its statistics over all ranks' samples, so that W ranks compute what one would.

Notation: W ranks, C channels.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_rhd.core import distributed as ranks


def to_devices(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` on `device`: over all ranks, else over all GPUs of this machine, else as it is."""
    model = model.to(device)
    if ranks.world_size() > 1:
        devices = [device] if device.type == "cuda" else None
        model = convert_sync_batchnorm(model, device)
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)
    if device.type == "cuda" and torch.cuda.device_count() > 1 and ranks.launched_world_size() == 1:
        return nn.DataParallel(model)
    return model


def convert_sync_batchnorm(model: nn.Module, device: torch.device) -> nn.Module:
    """Let BatchNorm take its statistics over all ranks' samples, so that W ranks compute what one would."""
    if device.type == "cuda":
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return synchronised
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                synchronised = _SyncBatchNorm(child.num_features, child.eps, child.momentum).to(
                    child.weight.dtype
                )
                synchronised.load_state_dict(child.state_dict())
                setattr(module, name, synchronised.train(child.training))
    return model


class _SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """`nn.SyncBatchNorm` for the CPU, where PyTorch has none; every rank has equally many samples."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        y: Tensor
        y, mean, var = _Normalise.apply(input, self.weight, self.bias, self.eps)
        n = input.numel() // input.shape[1] * ranks.world_size()
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            assert self.running_mean is not None and self.running_var is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(var * n / max(1, n - 1), self.momentum or 0.0)
        return y


class _Normalise(torch.autograd.Function):
    """Batch normalisation by the statistics of all ranks (Ioffe & Szegedy 2015), and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        dims = [d for d in range(x.ndim) if d != 1]
        exact = x.to(torch.promote_types(x.dtype, torch.float32))  # statistics of bfloat16 are not in it
        var, mean = torch.var_mean(exact, dims, correction=0)  # (C,) of this rank
        parts = torch.empty(ranks.world_size(), 2, len(mean), dtype=mean.dtype)
        dist.all_gather(list(parts.unbind()), torch.stack([mean, var]))
        mean = parts[:, 0].mean(dim=0)
        var = (parts[:, 1] + (parts[:, 0] - mean).square()).mean(dim=0)
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt())
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), mean, var

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale = ctx.saved_tensors
        dims = [d for d in range(x.ndim) if d != 1]
        shape = [-1 if d == 1 else 1 for d in range(x.ndim)]
        dy = dy.to(mean.dtype)
        normal = (x - mean.view(shape)) * scale.view(shape)
        own = torch.stack([dy.sum(dims), (dy * normal).sum(dims)])  # (2, C) gradients of bias and weight
        total = own.clone()
        dist.all_reduce(total)
        total /= x.numel() // x.shape[1] * ranks.world_size()
        dx = (weight * scale).view(shape) * (dy - total[0].view(shape) - normal * total[1].view(shape))
        return dx.to(x.dtype), own[1], own[0], None
