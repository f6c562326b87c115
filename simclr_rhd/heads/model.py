"""The linear heads of all tasks, their predictions and their calibration."""

import copy
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.data.labels.vocabulary import NOT_ANNOTATED
from simclr_rhd.heads.calibration import fit_scaling
from simclr_rhd.heads.losses import WEIGHTING_POWERS, HeadTargets
from simclr_rhd.ssl.encoder.model import FEATURE_DIM


class Heads(nn.Module):
    """One linear classifier per task on standardised features, its logits over a temperature, with a bias.

    The mean and deviation of the training features, the temperatures, the biases of the calibration and the
    prevalences that the probabilities hold for are buffers, so a head travels with its scaling and its
    calibration. Before it is calibrated the classes are taken to be equally frequent.

    Args:
        n_outputs: {task: classes, or lesions}.
        multilabel: the tasks of which each output is a yes or no of its own (a sigmoid, not a softmax).
        dim: D, how many of the last features they see.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor
    bias: Tensor
    prevalence: Tensor

    def __init__(
        self, n_outputs: Mapping[str, int], *, multilabel: Collection[str] = (), dim: int = FEATURE_DIM
    ) -> None:
        super().__init__()
        self.n_outputs, self.multilabel = dict(n_outputs), frozenset(multilabel)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.register_buffer("temperature", torch.ones(len(n_outputs)))
        self.register_buffer("bias", torch.zeros(sum(n_outputs.values())))
        uniform = [
            1 / 2 if task in self.multilabel else 1 / n for task, n in n_outputs.items() for _ in range(n)
        ]
        self.register_buffer("prevalence", torch.tensor(uniform, dtype=torch.float64))
        self.linear = nn.ModuleDict({task: nn.Linear(dim, n) for task, n in n_outputs.items()})

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """(B, 960) features -> {task: (B, C) calibrated logits}."""
        seen, biases = features[:, -len(self.mean) :], self.split_by_task(self.bias)
        scaled = (seen - self.mean) / self.std
        return {
            task: linear(scaled) / temperature + biases[task]
            for (task, linear), temperature in zip(self.linear.items(), self.temperature, strict=True)
        }

    def split_by_task(self, values: Tensor) -> dict[str, Tensor]:
        """{task: (C,) its part} of (K,) values of all outputs of all tasks, as the biases are."""
        return dict(zip(self.n_outputs, values.split(list(self.n_outputs.values())), strict=True))

    def uncalibrate(self) -> None:
        """Take the calibration away."""
        uncalibrated = Heads(self.n_outputs, multilabel=self.multilabel)
        for name in ("temperature", "bias", "prevalence"):
            getattr(self, name).copy_(getattr(uncalibrated, name))

    def probabilities(self, features: Tensor) -> dict[str, Tensor]:
        """(B, 960) features -> {task: (B, C) float64}: of classes that exclude one another, or of lesions."""
        return {
            task: logits.double().sigmoid() if task in self.multilabel else logits.double().softmax(dim=1)
            for task, logits in self(features).items()
        }


@torch.inference_mode()
def predict(heads: Heads, features: np.ndarray) -> dict[str, np.ndarray]:
    """(n, 960) features -> {task: (n, C) float64 probabilities}, and the prevalences that they hold for."""
    exact = copy.deepcopy(heads).double()  # of float32, the last digits depend on how many frames there are
    x = torch.from_numpy(features).double()
    probabilities = {task: table.numpy() for task, table in exact.probabilities(x).items()}
    return probabilities | {
        prevalence_key(task): np.tile(of_task.numpy(), (len(features), 1))
        for task, of_task in heads.split_by_task(heads.prevalence).items()
    }


@torch.inference_mode()
def calibrate(
    heads: Heads,
    features: np.ndarray,
    targets: HeadTargets,
    val: np.ndarray,
    weights: Mapping[str, Tensor],
    weighting: str,
) -> None:
    """Set temperature, biases and prevalence of the tasks whose validation rows have two learnt classes.

    Args:
        heads: not calibrated; changed.
        features: (n, 960) float32.
        targets: in the heads' order; each of their groups counts as one observation.
        val: validation rows.
        weights: {task: `losses.class_weights` of the training rows}.
        weighting: that the heads were trained with.
    """
    logits = heads(torch.from_numpy(features[val]))
    biases, prevalences = heads.split_by_task(heads.bias), heads.split_by_task(heads.prevalence)
    for number, (task, values) in enumerate(targets.values.items()):
        true = values[val]
        known = true != NOT_ANNOTATED
        known = known & (weights[task].numpy()[true] > 0) if true.ndim == 1 else known.all(axis=1)
        if len(np.unique(true[known])) >= 2:
            groups = targets.groups
            n_independent = int(known.sum()) if groups is None else len(np.unique(groups[val][known]))
            scaling = fit_scaling(
                logits[task][known].double().numpy(),
                true[known],
                n_independent=n_independent,
                power=WEIGHTING_POWERS[weighting],
            )
            heads.temperature[number] = scaling.temperature
            biases[task].copy_(torch.from_numpy(scaling.bias))
            prevalences[task].copy_(torch.from_numpy(scaling.prevalence))
