"""The optimizers: AdamW, and LARS for large batches; and the moving average of the weights.

A parameter of two dimensions or more is a weight. Biases and the norms' scales and shifts have one; they get
no weight decay and, in LARS, no rate of their own, as in SimCLR's published code.

While the learning rate is high, weights jump about a good place, and their average lies nearer to it than
they do (Polyak & Juditsky 1992; of self-supervised encoders: Caron et al. 2021, DINO, section 5.2;
BatchNorm's statistics averaged with the weights: Cai et al. 2021). So figures by epoch jump less, and an
early stop, which comes while the rate is high, comes later (`benchmarks/RECIPE.md`).
"""

import copy
from collections.abc import Callable, Iterable
from itertools import compress
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)

HORIZON_EPOCHS = 10.0  # that the average is of


class OptimizerDefaults(NamedTuple):
    """A peak rate that suits one batch size, the power of the batch size by which it grows, and the decay."""

    learning_rate: float
    batch_size: int
    power: float
    weight_decay: float


DEFAULTS = {
    # by the square root (Krizhevsky 2014; for Adam: Malladi et al. 2022); the decay is AdamW's own default
    "adamw": OptimizerDefaults(1e-3, 64, 0.5, 0.01),
    "lars": OptimizerDefaults(0.3, 256, 1.0, 1e-6),  # Chen et al. 2020, section 2.3
}


class LARS(torch.optim.Optimizer):
    """Momentum SGD with a rate for each layer (You et al. 2017, equation 6, with SimCLR's constants).

    A parameter w with gradient g, weight decay included, moves as if its gradient were g · trust · ‖w‖ / ‖g‖:
    by a share of its own length, whatever the gradient's. As in SimCLR's code the decay counts in ‖g‖ as it
    acts, where equation 6 adds up the two norms. The rate multiplies the velocity, as in `torch.optim.SGD`.

    Args:
        params: parameters or groups of them; a group may set any of what follows for itself.
        lr: learning rate.
        momentum: share of the velocity that is kept, in [0, 1).
        weight_decay: times w is added to the gradient.
        trust: trust coefficient, η in the paper.
        adapt: False makes it plain SGD with momentum.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        adapt: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"trust": trust, "adapt": adapt})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient once.

        Args:
            closure: computes the loss and its gradients anew.

        Returns:
            What `closure` returned; None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                g = w.grad.add(w, alpha=group["weight_decay"])
                if group["adapt"]:
                    g *= _trust_ratio(w, g, group["trust"])
                state = self.state[w]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(w)
                velocity = state["velocity"].mul_(group["momentum"]).add_(g)
                w.sub_(velocity, alpha=group["lr"])
        return loss


def _trust_ratio(w: Tensor, g: Tensor, trust: float) -> Tensor:
    """The factor trust · ‖w‖ / ‖g‖, or 1 where a norm is 0; without an `if`, which would wait for the GPU."""
    w_norm, g_norm = torch.linalg.vector_norm(w), torch.linalg.vector_norm(g)
    return torch.where((w_norm > 0) & (g_norm > 0), trust * w_norm / g_norm, 1.0)


def make_optimizer(
    model: nn.Module, name: str, *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimizer of all parameters that are not frozen: the weights in one group, the rest in another.

    Args:
        model: whose parameters.
        name: 'adamw' or 'lars'.
        learning_rate: of both groups.
        weight_decay: of the weights; the rest has none.

    Raises:
        ValueError: no optimizer has this name.
    """
    _defaults(name)
    used = [p for p in model.parameters() if p.requires_grad]
    weights = {"params": [p for p in used if p.ndim >= 2], "weight_decay": weight_decay}
    rest = {"params": [p for p in used if p.ndim < 2], "weight_decay": 0.0}
    if name == "lars":
        return LARS([weights | {"adapt": True}, rest | {"adapt": False}], lr=learning_rate)
    return torch.optim.AdamW([weights, rest], lr=learning_rate, fused=True)


def default_learning_rate(name: str, batch_size: int) -> float:
    """The peak rate for batches of `batch_size` frames, by the optimizer's own rule.

    Raises:
        ValueError: no optimizer has this name.
    """
    default = _defaults(name)
    return float(default.learning_rate * (batch_size / default.batch_size) ** default.power)


def default_weight_decay(name: str) -> float:
    """The weights' decay.

    Raises:
        ValueError: no optimizer has this name.
    """
    return _defaults(name).weight_decay


def _defaults(name: str) -> OptimizerDefaults:
    if name not in DEFAULTS:
        raise ValueError(f"wanted an optimizer out of {', '.join(DEFAULTS)}, got {name!r}")
    return DEFAULTS[name]


def compute_ema_decay(steps_per_epoch: int) -> float:
    """The decay of a step with which the average is of `HORIZON_EPOCHS` epochs of so many steps.

    A decay that does not depend on the epoch's length would average ten epochs of 740 frames and a sixth of
    an epoch of 38,000.
    """
    return 1 - 1 / max(1.0, HORIZON_EPOCHS * steps_per_epoch)


class EMA(Generic[Model]):
    """An exponential moving average of a model's parameters and of BatchNorm's running statistics.

    The n-th step's share is 1 - min(decay, (1 + n) / (10 + n)), so that the weights a training began with are
    soon forgotten (as in TensorFlow's `ExponentialMovingAverage`). `torch.optim.swa_utils.AveragedModel`
    gives n to its function as a tensor on the model's device: computing the share would wait for the GPU.

    Args:
        model: what is to be averaged.
        decay: share of the average that a step leaves, in [0, 1); 0 for the weights as they are.

    Attributes:
        model: the average, in evaluation mode.
        steps: how many it is of.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, model: Model) -> None:
        """Take in the model as it is after a step."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        averages, values = ([*of.parameters(), *of.buffers()] for of in (self.model, model))
        real = [average.is_floating_point() for average in averages]
        # all at once, since a GPU takes as long to begin each small operation as to do it
        torch._foreach_lerp_(list(compress(averages, real)), list(compress(values, real)), weight)
        for average, x, is_real in zip(averages, values, real, strict=True):
            if not is_real:
                average.copy_(x)

    def state(self) -> dict[str, Any]:
        """The average and its steps, for `load_state`."""
        return {"steps": self.steps, "model": self.model.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["model"], strict=True)
