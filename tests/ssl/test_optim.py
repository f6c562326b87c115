"""The optimizers against hand-written steps, and the moving average of the weights."""

import copy
import math

import pytest
import torch
from torch import nn

from simclr_rhd.ssl import optim
from simclr_rhd.ssl.encoder.model import SimCLR
from simclr_rhd.ssl.optim import EMA, LARS, compute_ema_decay, make_optimizer


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def regress(model, optimizer, *, steps, lr):
    """Some steps of a regression, three rates in turn; the losses."""
    x = torch.randn(17, 7, generator=torch.Generator().manual_seed(1))
    y = x[:, :3] + 0.5 * x[:, 3:6]
    losses = []
    for number in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 + number % 3) / 3
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def explicit(weights, gradients, *, rates, momentum, decay, trust, adapt):
    """Where LARS takes one parameter: its first value and the gradient and rate of each step."""
    w, v = weights.clone(), 0
    for gradient, rate in zip(gradients, rates, strict=True):
        g = gradient + decay * w
        if adapt and w.norm() > 0 and g.norm() > 0:
            g = g * trust * w.norm() / g.norm()
        v = momentum * v + g
        w = w - rate * v
    return w


@pytest.mark.parametrize(("adapt", "decay"), [(True, 0.0), (True, 0.1), (False, 0.1)])
def test_lars_equals_the_explicit_steps(adapt, decay):
    generator = torch.Generator().manual_seed(0)
    rates, shapes = [0.3, 0.7, 0.7, 0.05], [(3, 5), (7,), (1, 1, 2, 3)]
    first = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    gradients = [torch.randn(4, *s, generator=generator, dtype=torch.float64) for s in shapes]
    how = {"momentum": 0.8, "trust": 0.02, "adapt": adapt}
    ours = [nn.Parameter(w.clone()) for w in first]
    optimizer = LARS(ours, lr=0.0, weight_decay=decay, **how)
    for number, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        for w, g in zip(ours, gradients, strict=True):
            w.grad = g[number].clone()
        optimizer.step()
    for w, start, g in zip(ours, first, gradients, strict=True):
        torch.testing.assert_close(w.detach(), explicit(start, g, rates=rates, decay=decay, **how))


def test_without_adaptation_lars_is_sgd_with_momentum():
    ours, theirs, how = small_model(), small_model(), {"momentum": 0.9, "weight_decay": 0.01, "lr": 0.0}
    regress(ours, LARS(ours.parameters(), adapt=False, **how), steps=7, lr=0.05)
    regress(theirs, torch.optim.SGD(theirs.parameters(), **how), steps=7, lr=0.05)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_zero_weights_learn_and_zero_gradients_do_no_harm():
    zero, still, unused = (nn.Parameter(torch.full((2, 3), value)) for value in (0.0, 1.0, 1.0))
    zero.grad, still.grad = torch.ones(2, 3), torch.zeros(2, 3)
    assert LARS([zero, still, unused], lr=0.5).step(lambda: 7.0) == 7.0, "the closure's loss is handed on"
    assert torch.equal(zero, torch.full((2, 3), -0.5)), "a ratio of 1"
    assert torch.equal(still, torch.ones(2, 3)) and torch.equal(unused, torch.ones(2, 3))


def test_an_overflow_in_half_precision_leaves_the_weights_alone():
    w = nn.Parameter(torch.ones(2, 2))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(w.sum() * math.inf).backward()
    scaler.step(LARS([w], lr=0.5))
    scaler.update()
    assert torch.equal(w, torch.ones(2, 2)) and scaler.get_scale() == 2.0


@pytest.mark.parametrize("name", ["adamw", "lars"])
def test_every_parameter_is_once_in_a_group_and_only_weights_decay(name):
    model = SimCLR()
    model.encoder.conv1.weight.requires_grad_(False)
    groups = make_optimizer(model, name, learning_rate=0.1, weight_decay=0.03).param_groups
    group_of = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(group_of), "once"
    assert group_of.keys() == {id(p) for p in model.parameters() if p.requires_grad}
    for module in model.modules():
        for part, p in module.named_parameters(recurse=False):
            weight = part == "weight" and isinstance(module, nn.Conv2d | nn.Linear)
            if p.requires_grad:
                assert group_of[id(p)]["weight_decay"] == (0.03 if weight else 0.0), (module, part)
                assert name == "adamw" or group_of[id(p)]["adapt"] == weight, (module, part)


@pytest.mark.parametrize("name", ["adamw", "lars"])
def test_goes_on_bit_for_bit_after_saving_and_loading(name, tmp_path):
    model = small_model()
    optimizer = make_optimizer(model, name, learning_rate=0.1, weight_decay=0.01)
    regress(model, optimizer, steps=4, lr=0.1)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other, third = copy.deepcopy(model), copy.deepcopy(model)
    resumed = make_optimizer(other, name, learning_rate=9.0, weight_decay=9.0)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    losses = regress(model, optimizer, steps=5, lr=0.1)
    assert regress(other, resumed, steps=5, lr=0.1) == losses
    assert all(torch.equal(w, other.state_dict()[key]) for key, w in model.state_dict().items())
    forgetful = make_optimizer(third, name, learning_rate=9.0, weight_decay=0.01)
    assert regress(third, forgetful, steps=5, lr=0.1) != losses


@pytest.mark.parametrize(("name", "lr"), [("adamw", 0.03), ("lars", 0.5)])
def test_both_learn_a_regression(name, lr):
    model = small_model()
    optimizer = make_optimizer(model, name, learning_rate=lr, weight_decay=0.0)
    losses = regress(model, optimizer, steps=300, lr=lr)
    assert losses[-1] < losses[0] / 2


def test_default_rates_follow_the_batch_size():
    assert [optim.default_learning_rate("adamw", n) for n in (64, 256)] == pytest.approx([1e-3, 2e-3])
    assert [optim.default_learning_rate("lars", n) for n in (256, 4096)] == pytest.approx([0.3, 4.8])
    assert [optim.default_weight_decay(name) for name in ("adamw", "lars")] == [0.01, 1e-6]


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="adamw, lars, got 'sgd'"):
        make_optimizer(small_model(), "sgd", learning_rate=0.1, weight_decay=0.0)
    with pytest.raises(ValueError, match="adamw, lars, got 'sgd'"):
        optim.default_learning_rate("sgd", 64)


def averaged_model():
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
    initial, g = copy.deepcopy(model.state_dict()), torch.Generator().manual_seed(1)
    for _ in range(steps):
        seen.append(wander(model, g))
        average.update(model)
    return average, initial, seen


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_it_is_the_sum_of_what_was_seen_by_its_shares(decay):
    average, wanted, seen = averaged(averaged_model(), decay, 7)
    for n, state in enumerate(seen, 1):
        keep = min(decay, (1 + n) / (10 + n))
        wanted = {name: keep * x + (1 - keep) * state[name] for name, x in wanted.items()}
    for name, x in average.model.state_dict().items():
        if x.is_floating_point():
            torch.testing.assert_close(x, wanted[name])
    assert average.model.state_dict()["1.num_batches_tracked"] == 7


def test_without_decay_it_is_the_model():
    model = averaged_model()
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
    model = averaged_model().train()
    average = EMA(model, 0.9)
    average.update(model)
    assert not average.model.training and not any(p.requires_grad for p in average.model.parameters())
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_a_state_goes_on_as_if_it_had_not_been_left():
    model = averaged_model()
    average = averaged(model, 0.99, 3)[0]
    again = EMA(averaged_model(), 0.99)
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
