"""BatchNorm over ranks, here over a world of one: it must be BatchNorm."""

import pytest
import torch
from torch import nn

from simclr_rhd.ssl.encoder import parallel


@pytest.fixture(autouse=True)
def one_rank(monkeypatch):
    monkeypatch.setattr(parallel.dist, "all_gather", lambda parts, mine: parts[0].copy_(mine))
    monkeypatch.setattr(parallel.dist, "all_reduce", lambda x: None)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_it_is_batch_norm_in_single_and_in_half_precision(dtype, atol):
    x = torch.randn(6, 5, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    dy = torch.randn(6, 5, 3, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    theirs = nn.Sequential(nn.BatchNorm2d(5)).train()
    ours = parallel.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(5)).train(), torch.device("cpu"))
    found = []
    for model in (ours, theirs):
        given = x.clone().requires_grad_()
        y = model(given)
        y.backward(dy)
        found.append([y, given.grad, *(p.grad for p in model.parameters()), *model.buffers()])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, atol=atol, rtol=atol)
