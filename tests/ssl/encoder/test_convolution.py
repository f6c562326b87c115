"""Convolutions as matrix products against `F.conv2d`, and when they are used."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from simclr_rhd.core import device
from simclr_rhd.ssl.encoder import convolution
from simclr_rhd.ssl.encoder.convolution import (
    DENSE,
    IM2COL,
    NATIVE,
    Algorithms,
    Shape,
    SmallMapConv2d,
    choose_algorithms,
    convolve,
)
from simclr_rhd.ssl.encoder.model import build

# height, width, kernel, stride
SHAPES = [(2, 2, 3, 1), (1, 1, 3, 1), (2, 2, 3, 2), (1, 2, 3, 1), (5, 3, 3, 2), (4, 7, 3, 1), (7, 4, 1, 2)]


def problem(height, width, kernel, stride, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, height, width, generator=generator, dtype=dtype)
    weight = torch.randn(4, 5, kernel, kernel, generator=generator, dtype=dtype)
    out = F.conv2d(x, weight, None, stride, kernel // 2)
    return x, weight, torch.randn(out.shape, generator=generator, dtype=dtype)


def results(call, x, weight, dy):
    """The output and the gradients of both inputs."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = call(x, weight)
    return y, *torch.autograd.grad(y, (x, weight), dy)


def ways_of(height, width, kernel):
    return [NATIVE, IM2COL] + [DENSE] * (kernel == 3 and max(height, width) <= 2)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("height", "width", "kernel", "stride"), SHAPES)
def test_each_way_gives_the_output_and_the_gradients_of_conv2d(height, width, kernel, stride, channels_last):
    tensors = problem(height, width, kernel, stride)
    if channels_last:
        tensors = tuple(x.contiguous(memory_format=torch.channels_last) for x in tensors)
    wanted = results(lambda x, w: F.conv2d(x, w, None, stride, kernel // 2), *tensors)
    for forward in ways_of(height, width, kernel):
        for backward in ways_of(height, width, kernel):
            found = results(lambda x, w: convolve(x, w, stride, Algorithms(forward, backward)), *tensors)  # noqa: B023
            for one, other in zip(found, wanted, strict=True):
                torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("height", "width", "kernel", "stride"), SHAPES)
def test_in_bfloat16_each_way_is_as_near_to_the_exact_result_as_conv2d(height, width, kernel, stride):
    exact = problem(height, width, kernel, stride)
    rounded = [x.bfloat16() for x in exact]
    wanted = results(lambda x, w: F.conv2d(x, w, None, stride, kernel // 2), *(x.double() for x in rounded))
    for way in ways_of(height, width, kernel):
        found = results(lambda x, w: convolve(x, w, stride, Algorithms(way, way)), *rounded)  # noqa: B023
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == torch.bfloat16
            assert (one - other).norm() <= 0.01 * other.norm()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_output_can_be_changed_in_place(size):
    """As ReLU does where a norm between has been folded away."""
    conv = SmallMapConv2d(3, 4, 3, padding=1, bias=False).train()
    x = torch.randn(2, 3, size, size)
    F.relu(conv(x), inplace=True).sum().backward()
    wanted = F.relu(F.conv2d(x, conv.weight, padding=1)).sum()
    torch.testing.assert_close(conv.weight.grad, torch.autograd.grad(wanted, conv.weight)[0])


def test_what_conv2d_takes_beyond_maps_is_left_to_it():
    conv = SmallMapConv2d(3, 4, 3, padding=1).train()
    x = torch.randn(2, 3, 2, 2)
    for given in (x, x[0], x[:0]):  # with a bias; without a batch; of no maps
        torch.testing.assert_close(conv(given), F.conv2d(given, conv.weight, conv.bias, padding=1))


def test_the_library_can_be_forbidden_amx(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text("flags\t: avx512f amx_bf16\n")
    monkeypatch.setattr(device, "CPUINFO", tmp_path / "cpuinfo")
    for allowed, expected in ((None, True), ("AVX512_CORE_BF16", False), ("AVX512_CORE_AMX", True)):
        monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
        if allowed:
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", allowed)
        assert device.has_amx.__wrapped__() is expected
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(device, "CPUINFO", tmp_path / "none")
    assert device.has_amx.__wrapped__() is False


def test_a_wrong_gradient_would_be_seen():
    """The gradient by finite differences, of a shape that goes through both kinds of matrix products."""
    x, weight, _ = problem(2, 2, 3, 1)
    x, weight = x.requires_grad_(), weight.requires_grad_()
    for way in (IM2COL, DENSE):
        assert torch.autograd.gradcheck(lambda x, w: convolve(x, w, 1, Algorithms(way, way)), (x, weight))  # noqa: B023


def plain(model):
    """The same model with PyTorch's own convolutions."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, SmallMapConv2d):
                channels = child.in_channels, child.out_channels
                conv = nn.Conv2d(*channels, child.kernel_size, child.stride, child.padding, bias=False)
                conv.weight = child.weight
                setattr(module, name, conv)
    return model


@pytest.mark.parametrize("size", [32, 48, 64])
def test_a_training_pass_of_the_model_is_that_with_conv2d(size):
    ours = build("random", seed=2).train()
    theirs = plain(ours).train()
    views = torch.randn(6, 3, size, size, generator=torch.Generator().manual_seed(1))
    for model in (ours, theirs):
        model(views).square().mean().backward()
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        difference, size_of = (one.grad - other.grad).norm(), other.grad.norm()
        assert difference <= 1e-3 * size_of, name


def test_every_three_by_three_and_one_by_one_convolution_of_the_encoder_is_replaced():
    model = build("random", seed=0)
    kinds = [type(m) for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert kinds.count(SmallMapConv2d) == 19 and kinds.count(nn.Conv2d) == 1, "the stem's kernel is 7 x 7"
    assert set(model.state_dict()) == set(plain(model).state_dict())


def test_matrix_products_are_used_in_training_alone(monkeypatch):
    calls = []
    monkeypatch.setattr(convolution, "convolve", lambda *given: calls.append(given) or convolve(*given))
    model, views = build("random", seed=0), torch.randn(4, 3, 64, 64)
    model.eval()(views)
    with torch.no_grad():
        model.train()(views)
    assert not calls
    model.train()(views)
    assert calls


@pytest.mark.parametrize(
    ("shape", "dtype", "amx", "ways"),
    [
        ((2, 2, 2, 2, 3), torch.float32, False, (DENSE, DENSE)),
        ((2, 2, 1, 1, 3), torch.bfloat16, True, (DENSE, DENSE)),
        ((2, 2, 1, 1, 1), torch.float32, False, (IM2COL, IM2COL)),
        ((4, 4, 4, 4, 3), torch.float32, True, (NATIVE, NATIVE)),
        ((4, 4, 4, 4, 3), torch.bfloat16, True, (IM2COL, IM2COL)),
        ((4, 4, 4, 4, 3), torch.bfloat16, False, (NATIVE, NATIVE)),
        ((8, 8, 8, 8, 3), torch.bfloat16, True, (NATIVE, IM2COL)),
        ((16, 16, 16, 16, 3), torch.bfloat16, True, (NATIVE, NATIVE)),
    ],
)
def test_the_way_depends_on_shape_numbers_and_processor(shape, dtype, amx, ways):
    assert choose_algorithms(Shape(*shape), dtype, amx=amx) == ways
