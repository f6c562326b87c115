import math

import numpy as np
import pytest
import torch

from simclr_rhd.ssl.loss import n_logits, nt_xent


def explicit(z0, z1, temperature):
    """NT-Xent as the paper writes it: a double loop over views."""
    z = torch.cat([z0, z1])
    z = z / z.norm(dim=1, keepdim=True)
    n, total = len(z0), 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        denominator = sum(torch.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i)
        total += -torch.log(torch.exp(z[i] @ z[j] / temperature) / denominator)
    return total / (2 * n)


def pairs(n, d, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, d, generator=generator, dtype=dtype) for _ in range(2))


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("d", [3, 17])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_equals_the_explicit_double_loop(n, d, temperature):
    z0, z1 = pairs(n, d)
    torch.testing.assert_close(nt_xent(z0, z1, temperature), explicit(z0, z1, temperature))


@pytest.mark.parametrize("n", [2, 5, 11])
def test_all_equal_embeddings_give_the_uniform_value(n):
    z = torch.ones(n, 4)
    assert nt_xent(z, z, 0.3).item() == pytest.approx(math.log(2 * n - 1), abs=1e-6)


def test_orthogonal_pairs_have_a_closed_form():
    n, temperature = 5, 0.5
    z = torch.eye(n)
    expected = math.log(1 + (2 * n - 2) * math.exp(-1 / temperature))
    assert nt_xent(z, z, temperature).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_finite_at_a_small_temperature_and_in_half_precision(dtype):
    z0, z1 = (z.to(dtype).requires_grad_() for z in pairs(9, 6))
    loss = nt_xent(z0, z1, 0.01)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z0.grad).all() and z0.grad.abs().sum() > 0


def test_invariances():
    z0, z1 = pairs(7, 5)
    loss = nt_xent(z0, z1)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    torch.testing.assert_close(nt_xent(z1, z0), loss)
    torch.testing.assert_close(nt_xent(z0[order], z1[order]), loss)
    torch.testing.assert_close(nt_xent(z0 * torch.arange(1, 8)[:, None], z1), loss)
    assert abs(nt_xent(z0[order], z1) - loss) > 1e-3, "another pairing is another loss"


def test_gradient_equals_the_explicit_one():
    z0, z1 = (z.requires_grad_() for z in pairs(3, 4))
    ours = torch.autograd.grad(nt_xent(z0, z1, 0.5), [z0, z1])
    theirs = torch.autograd.grad(explicit(z0, z1, 0.5), [z0, z1])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("z0", "z1", "temperature"),
    [
        (torch.ones(3, 4), torch.ones(2, 4), 0.5),
        (torch.ones(3), torch.ones(3), 0.5),
        (torch.ones(0, 4), torch.ones(0, 4), 0.5),
        (torch.ones(3, 4), torch.ones(3, 4), 0.0),
        (torch.ones(3, 4), torch.ones(3, 4), -1.0),
        (torch.ones(3, 4), torch.ones(3, 4), math.nan),
    ],
)
def test_refuses_what_has_no_meaning(z0, z1, temperature):
    with pytest.raises(ValueError):
        nt_xent(z0, z1, temperature)


def test_frames_of_one_video_are_not_negatives_of_each_other():
    """Against an explicit loop over the rows that may be chosen."""
    z0, z1 = pairs(5, 4)
    video = [0, 1, 0, 2, 1]
    z = torch.nn.functional.normalize(torch.cat([z0, z1]), dim=1)
    total = 0.0
    for i in range(10):
        j = (i + 5) % 10
        among = [k for k in range(10) if k == j or video[k % 5] != video[i % 5]]
        total -= torch.log_softmax(z[among] @ z[i] / 0.4, dim=0)[among.index(j)]
        assert len(among) == n_logits(np.array(video), 5)[i % 5]
    loss = nt_xent(z0, z1, 0.4, videos=torch.tensor(video))
    torch.testing.assert_close(loss, total / 10)
    assert n_logits(None, 5).tolist() == [9] * 5


def test_videos_that_all_differ_change_nothing_and_one_video_leaves_nothing_to_tell():
    z0, z1 = pairs(5, 4)
    torch.testing.assert_close(nt_xent(z0, z1, videos=torch.arange(5)), nt_xent(z0, z1))
    assert nt_xent(z0, z1, videos=torch.zeros(5, dtype=torch.int64)).item() == 0.0
    with pytest.raises(ValueError, match="5 videos"):
        nt_xent(z0, z1, videos=torch.arange(4))


def test_equals_lightly_where_installed():
    lightly = pytest.importorskip("lightly.loss")
    z0, z1 = pairs(13, 8, dtype=torch.float32)
    torch.testing.assert_close(nt_xent(z0, z1, 0.2), lightly.NTXentLoss(temperature=0.2)(z0, z1))
