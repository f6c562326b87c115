"""Convolutions over small maps as matrix products, for training on a processor.

At 64 pixels the maps of ResNet-18's last stages have 8 x 8, 4 x 4 and 2 x 2 pixels. oneDNN's direct
convolutions are slow there. Over 2 x 2 maps they reach a third (float32) to a twentieth (bfloat16, AMX) of
the rate of a matrix product on the same cores; the gradients of the weights in bfloat16 are slow over 8 x 8
maps, too (`benchmarks/step.py --convolutions`). Two other algorithms compute the same:

- *im2col*: each output pixel's 3 x 3 neighbourhood is copied into a row, then one matrix product
  (Chellapilla et al. 2006, "High performance convolutional neural networks for document processing").
- *dense*: where each output pixel sees the whole input map (2 x 2 and 1 x 1 maps), the convolution is a dense
  layer whose matrix is put together of the kernel's taps; taps that would only see padding are left out.

Which algorithm is taken depends on the shapes, the numbers and the processor's instructions alone, so that
a run is repeatable.

Notation: B maps, C input and D output channels, H x W input and P x Q output pixels, k the kernel's side.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_rhd.core.device import has_amx

NATIVE, IM2COL, DENSE = "native", "im2col", "dense"


class Algorithms(NamedTuple):
    """Algorithms for the output and for the two gradients of a convolution."""

    forward: str
    backward: str


class Shape(NamedTuple):
    """Shapes that decide a convolution's algorithm: H, W, P, Q, k."""

    height: int
    width: int
    out_height: int
    out_width: int
    kernel: int


def choose_algorithms(shape: Shape, dtype: torch.dtype, *, amx: bool) -> Algorithms:
    """The fastest algorithms, as measured by `benchmarks/step.py --convolutions`.

    Args:
        shape: of the convolution.
        dtype: of maps and weights.
        amx: whether the processor multiplies bfloat16 matrices by AMX.
    """
    if shape.kernel == 3 and max(shape.height, shape.width) <= 2:
        return Algorithms(DENSE, DENSE)
    pixels = shape.out_height * shape.out_width
    if dtype == torch.bfloat16 and amx:
        return Algorithms(IM2COL if pixels <= 16 else NATIVE, IM2COL if pixels <= 64 else NATIVE)
    smallest = IM2COL if pixels <= (4 if dtype == torch.bfloat16 else 9) else NATIVE
    return Algorithms(smallest, smallest)


class SmallMapConv2d(nn.Conv2d):
    """`nn.Conv2d` that takes the fastest algorithm in training on a processor; elsewhere it is `nn.Conv2d`.

    For square kernels of 1 or 3 pixels, padded by half of that, without a bias, in one group.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        trains = self.training and torch.is_grad_enabled() and input.device.type == "cpu"
        if trains and bias is None and input.ndim == 4 and len(input) > 0:
            if torch.is_autocast_enabled("cpu"):
                dtype = torch.get_autocast_dtype("cpu")
                input, weight = input.to(dtype), weight.to(dtype)
            kernel, stride = self.kernel_size[0], self.stride[0]
            height, width = input.shape[-2:]
            shape = Shape(height, width, (height - 1) // stride + 1, (width - 1) // stride + 1, kernel)
            algorithms = choose_algorithms(shape, weight.dtype, amx=has_amx())
            if algorithms != (NATIVE, NATIVE):
                return convolve(input, weight, stride, algorithms)
        output: Tensor = super()._conv_forward(input, weight, bias)
        return output


def use_small_map_convolutions(model: nn.Module) -> None:
    """Replace the convolutions that can be `SmallMapConv2d`; parameters and their names stay."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _is_replaceable(child):
                replaced = SmallMapConv2d(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size[0],
                    child.stride[0],
                    child.kernel_size[0] // 2,
                    bias=False,
                    device="meta",  # its weights are the other's
                )
                replaced.weight = child.weight
                setattr(module, name, replaced.train(child.training))


def _is_replaceable(conv: nn.Conv2d) -> bool:
    kernel = conv.kernel_size[0]
    return (
        kernel in (1, 3)
        and conv.kernel_size == (kernel, kernel)
        and conv.padding == (kernel // 2, kernel // 2)
        and conv.padding_mode == "zeros"
        and conv.stride[0] == conv.stride[1]
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.bias is None
    )


def convolve(x: Tensor, weight: Tensor, stride: int, algorithms: Algorithms) -> Tensor:
    """`F.conv2d(x, weight, stride=stride, padding=k // 2)`, computed by the given algorithms.

    Args:
        x: (B, C, H, W).
        weight: (D, C, k, k), of the same dtype.
        stride: of both directions.
        algorithms: DENSE needs k = 3 and maps of at most 2 x 2 pixels.

    Returns:
        (B, D, P, Q), channels last.
    """
    output: Tensor = _Convolution.apply(x, weight, stride, algorithms)
    return output


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, algorithms: Algorithms) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.backward_algorithm = stride, algorithms.backward
        if algorithms.forward == NATIVE:
            return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2)
        p, q = ((side - 1) // stride + 1 for side in x.shape[-2:])
        # a tensor of its own and not a view of the product, which could not be changed in place
        y = torch.empty(
            len(x), len(weight), p, q, dtype=x.dtype, device=x.device, memory_format=torch.channels_last
        )
        if algorithms.forward == DENSE:  # (B, H W C) @ (H W C, P Q D)
            torch.mm(
                _to_matrix(x, row_per_map=True),
                _dense_matrix(weight, x.shape, stride).T,
                out=_to_matrix(y, row_per_map=True),
            )
        else:  # (B P Q, k k C) @ (k k C, D)
            torch.mm(_im2col(x, weight.shape[-1], stride), _kernel_matrix(weight).T, out=_to_matrix(y))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        dx, dweight = _GRADIENTS[ctx.backward_algorithm](dy, x, weight, ctx.stride)
        return dx, dweight, None, None


def _native_gradients(dy: Tensor, x: Tensor, weight: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    pad = weight.shape[-1] // 2
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, [True, True, False]
    )
    return dx, dweight


def _im2col_gradients(dy: Tensor, x: Tensor, weight: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    out, channels, k, _ = weight.shape
    dtaps = (_to_matrix(dy).T @ _im2col(x, k, stride)).view(out, k, k, channels)
    if stride == 1:  # the gradient is convolved with the turned kernel
        turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(k * k * out, channels)
        dx = (_im2col(dy, k, 1) @ turned).view(len(x), *x.shape[-2:], channels).permute(0, 3, 1, 2)
    else:
        dx = _col2im(_to_matrix(dy) @ _kernel_matrix(weight), x.shape, k, stride)
    return dx, dtaps.permute(0, 3, 1, 2)


def _dense_gradients(dy: Tensor, x: Tensor, weight: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    out, channels = weight.shape[:2]
    height, width = x.shape[-2:]
    dy = _to_matrix(dy, row_per_map=True)  # (B, P Q D)
    dx = (
        (dy @ _dense_matrix(weight, x.shape, stride))
        .view(len(x), height, width, channels)
        .permute(0, 3, 1, 2)
    )
    windows = _windows(x.shape, stride)
    ddense = (dy.T @ _to_matrix(x, row_per_map=True)).view(len(windows), out, height, width, channels)
    dtaps = weight.new_zeros(out, 3, 3, channels)
    for (rows, columns), dkernel in zip(windows, ddense, strict=True):
        dtaps[:, rows, columns] += dkernel
    return dx, dtaps.permute(0, 3, 1, 2)


_GRADIENTS = {NATIVE: _native_gradients, IM2COL: _im2col_gradients, DENSE: _dense_gradients}


def _to_matrix(x: Tensor, *, row_per_map: bool = False) -> Tensor:
    """(B, C, H, W) -> (B H W, C), or (B, H W C): a row for each map. No copy if it is channels last."""
    x = x.permute(0, 2, 3, 1)
    return x.flatten(1) if row_per_map else x.flatten(0, 2)


def _kernel_matrix(weight: Tensor) -> Tensor:
    """(D, C, k, k) -> (D, k k C). No copy if it is channels last."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _im2col(x: Tensor, k: int, stride: int) -> Tensor:
    """(B, C, H, W) -> (B P Q, k k C): what the kernel sees at each output pixel, zeros outside."""
    x = x.permute(0, 2, 3, 1)
    if k == 1:
        return x[:, ::stride, ::stride].flatten(0, 2)
    x = F.pad(x, (0, 0, *[k // 2] * 4))
    x = x.unfold(1, k, stride).unfold(2, k, stride)  # (B, P, Q, C, k, k)
    return x.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)


def _col2im(dcolumns: Tensor, shape: torch.Size, k: int, stride: int) -> Tensor:
    """The gradient of `_im2col`: (B P Q, k k C) -> (B, C, H, W)."""
    b, channels, height, width = shape
    p, q, pad = (height - 1) // stride + 1, (width - 1) // stride + 1, k // 2
    parts = dcolumns.view(b, p, q, k, k, channels)
    dx = dcolumns.new_zeros(b, height + 2 * pad, width + 2 * pad, channels)
    for i in range(k):
        for j in range(k):
            dx[:, i : i + stride * p : stride, j : j + stride * q : stride] += parts[:, :, :, i, j]
    return dx[:, pad : pad + height, pad : pad + width].permute(0, 3, 1, 2)


def _windows(shape: torch.Size, stride: int) -> list[tuple[slice, slice]]:
    """For each output pixel the rows and columns of a 3 x 3 kernel that lie on the map and not beside it."""
    height, width = shape[-2:]
    return [
        (slice(1 - row, 1 - row + height), slice(1 - column, 1 - column + width))
        for row in range(0, height, stride)
        for column in range(0, width, stride)
    ]


def _dense_matrix(weight: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """(D, C, 3, 3) -> (P Q D, H W C): the matrix that takes whole maps of `shape` to whole maps."""
    taps = weight.permute(0, 2, 3, 1)  # (D, 3, 3, C)
    return torch.cat([taps[:, rows, columns].flatten(1) for rows, columns in _windows(shape, stride)])
