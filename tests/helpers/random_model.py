"""A small classifier on disk, its heads and encoder drawn at random, for tests of what is done with one."""

import numpy as np
import torch
from echo_files import picture

from simclr_rhd.data.decoding.image import letterbox
from simclr_rhd.heads.model import Heads
from simclr_rhd.inference import classifier
from simclr_rhd.inference.model_info import ModelInfo
from simclr_rhd.inference.ood import fit_ood_detector
from simclr_rhd.ssl.encoder.features import extract_with_ood_stats
from simclr_rhd.ssl.encoder.model import build

SIZE = 32
CLASSES = {"view": ["A4C", "PLAX", "PSAX"], "condition": ["MR", "AR"]}
THRESHOLDS = {"view": {"frame": 0.5, "video": 0.4}, "condition: MR": {"frame": 0.9, "video": 0.9}}


def write_model(
    path,
    *,
    multilabel=("condition",),
    thresholds=THRESHOLDS,
    novelty=True,
    synthetic=False,
    scaled=False,
    unproved=None,
    screening=(),
):
    """A model whose frames so far were `picture(seed=0 .. 39)`."""
    encoder = build("random", seed=0).encoder.eval()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training: folding them is then a change
            generator = torch.Generator().manual_seed(module.num_features)
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) / 10)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    torch.manual_seed(1)
    heads = Heads({task: len(names) for task, names in CLASSES.items()}, multilabel=multilabel)
    trained_on = {"split_by": "patient", "leaky": False}
    facts = ModelInfo(CLASSES, SIZE, synthetic, thresholds, unproved or {}, trained_on)
    frames = np.stack([letterbox(picture(seed=seed), facts.stored_side) for seed in range(40)])
    described = extract_with_ood_stats(
        encoder, frames, np.arange(len(frames)), size=SIZE, device=torch.device("cpu")
    )
    heads.mean.copy_(torch.from_numpy(described["features"].mean(axis=0)))
    heads.std.copy_(torch.from_numpy(described["features"].std(axis=0) + 0.05))
    if scaled:  # as after a calibration
        heads.temperature.copy_(torch.tensor([1.5, 0.8]))
        heads.bias.copy_(torch.tensor([1.0, -0.2, -0.8, -1.5, 0.4]))
        heads.prevalence.copy_(torch.tensor([0.8, 0.15, 0.05, 0.2, 0.6], dtype=torch.float64))
    near = (
        fit_ood_detector(described, [str(number // 2) for number in range(40)], seed=0) if novelty else None
    )
    classifier.save(path, classifier.Classifier(encoder, heads, near, facts, None, screening))
    return path


def with_heads_on_the_last_stage(saved):
    """The content of a model's file with heads as of version 4 and older."""
    heads = {
        name: values[..., -512:].clone() if values.shape[-1:] == (960,) else values
        for name, values in saved["heads"].items()
    }
    return saved | {"heads": heads}
