import copy
import math

import pytest
import torch
from torch import nn

from simclr_rhd.ssl.optim import EMA, compute_ema_decay


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def wander(model, g):
    """A step of a random walk; where it leads to."""
    model(torch.randn(8, 3, generator=g))  # moves BatchNorm's statistics
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=g))
    return copy.deepcopy(model.state_dict())


def averaged(model, decay, steps):
    """The average of a random walk, where it began and its steps."""
    average, seen = EMA(model, decay), []
    begun, g = copy.deepcopy(model.state_dict()), torch.Generator().manual_seed(1)
    for _ in range(steps):
        seen.append(wander(model, g))
        average.update(model)
    return average, begun, seen


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_it_is_the_sum_of_what_was_seen_by_its_shares(decay):
    average, wanted, seen = averaged(small_model(), decay, 7)
    for n, state in enumerate(seen, 1):
        keep = min(decay, (1 + n) / (10 + n))
        wanted = {name: keep * x + (1 - keep) * state[name] for name, x in wanted.items()}
    for name, x in average.model.state_dict().items():
        if x.is_floating_point():
            torch.testing.assert_close(x, wanted[name])
    assert average.model.state_dict()["1.num_batches_tracked"] == 7


def test_without_decay_it_is_the_model():
    model = small_model()
    average = averaged(model, 0.0, 3)[0]
    for name, x in model.state_dict().items():
        assert torch.equal(x, average.model.state_dict()[name])


def test_it_soon_forgets_where_a_training_began():
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 1000.0)
    average = EMA(model, 0.99)
    nn.init.zeros_(model.weight)
    for _ in range(20):
        average.update(model)
    assert abs(float(average.model.weight)) < 1, "a fixed decay of 0.99 would leave 818"


def test_it_is_no_part_of_the_training():
    model = small_model().train()
    average = EMA(model, 0.9)
    average.update(model)
    assert not average.model.training and not any(p.requires_grad for p in average.model.parameters())
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_a_state_goes_on_as_if_it_had_not_been_left():
    model = small_model()
    average = averaged(model, 0.99, 3)[0]
    again = EMA(small_model(), 0.99)
    again.load_state(copy.deepcopy(average.state()))
    g = torch.Generator().manual_seed(2)
    for _ in range(2):
        wander(model, g)
        average.update(model)
        again.update(model)
    for name, x in average.model.state_dict().items():
        assert torch.equal(x, again.model.state_dict()[name])


def test_the_average_is_of_as_many_epochs_whatever_their_length():
    for steps in (11, 594):
        decay = compute_ema_decay(steps)
        assert decay ** (10 * steps) == pytest.approx(math.exp(-1), rel=0.01)
    assert compute_ema_decay(0) == 0.0
