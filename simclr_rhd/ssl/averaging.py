"""The moving average of the weights over a training's steps.

While the learning rate is high, weights jump about a good place, and their average lies nearer to it than
they do (Polyak & Juditsky 1992; of self-supervised encoders: Caron et al. 2021, DINO, section 5.2;
BatchNorm's statistics averaged with the weights: Cai et al. 2021). So figures by epoch jump less, and an
early stop, which comes while the rate is high, comes later (`benchmarks/RECIPE.md`).
"""

import copy
from itertools import compress
from typing import Any, Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


HORIZON_EPOCHS = 10.0  # that the average is of


def compute_ema_decay(steps_per_epoch: int) -> float:
    """The decay of a step with which the average is of `HORIZON_EPOCHS` epochs of so many steps.

    A decay that does not depend on the epoch's length would average ten epochs of 740 frames and a sixth of
    an epoch of 38,000.
    """
    return 1 - 1 / max(1.0, HORIZON_EPOCHS * steps_per_epoch)


class EMA(Generic[Model]):
    """An exponential moving average of a model's parameters and of BatchNorm's running statistics.

    The n-th step's share is 1 - min(decay, (1 + n) / (10 + n)), so that the weights a training began with are
    soon forgotten (as in TensorFlow's `ExponentialMovingAverage`).

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
        """What `load_state` needs."""
        return {"steps": self.steps, "model": self.model.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["model"], strict=True)
