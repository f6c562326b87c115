"""Comparison of exported models with PyTorch on real frames.

Notation: B frames at once, S pixels of a prepared frame's side.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from simclr_rhd.heads.model import Heads
from simclr_rhd.inference.classifier import Classifier
from simclr_rhd.inference.model_info import ModelInfo
from simclr_rhd.runs.checkpoint import load_strict
from simclr_rhd.ssl.encoder.model import SimCLR

FRAMES_INPUT, NOVELTY_OUTPUT, PROBABILITIES_SUFFIX = "frames", "novelty", "_probabilities"
METADATA_KEY = "simclr_rhd"  # of the facts in an exported file
ENCODER_PREFIX, HEADS_PREFIX = "encoder.", "heads."  # of the names in a file of safetensors
BATCH_SIZE = 32  # frames at once

Runner = Callable[[np.ndarray], dict[str, np.ndarray]]  # (B, S, S, 3) uint8 -> {output: (B, ...)}


def output_names(classifier: Classifier) -> list[str]:
    """Names of an exported model's outputs: `<task>_probabilities`, and 'novelty' if that is known."""
    names = [f"{task}{PROBABILITIES_SUFFIX}" for task in classifier.heads.n_outputs]
    return names if classifier.novelty is None else [*names, NOVELTY_OUTPUT]


def run_onnx(path: Path) -> Runner:
    """A function that runs an ONNX file."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda pixels: dict(zip(names, session.run(names, {FRAMES_INPUT: pixels}), strict=True))


def run_pt2(path: Path, names: Sequence[str]) -> Runner:
    """A function that runs a `.pt2` file."""
    with suppress_warnings():
        net = torch.export.load(path).module()

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            outputs = net(torch.from_numpy(pixels))
            return {name: value.numpy() for name, value in zip(names, outputs, strict=True)}

    return run


def run_safetensors(path: Path) -> Runner:
    """A function that runs the encoder and the heads of a `.safetensors` file; it has no novelty."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()[METADATA_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    n_outputs = {task: len(names) for task, names in facts["classes"].items()}
    dim = len(tensors[f"{HEADS_PREFIX}mean"])
    encoder, heads = SimCLR().encoder, Heads(n_outputs, multilabel=facts["multilabel"], dim=dim)
    for prefix, part in ((ENCODER_PREFIX, encoder), (HEADS_PREFIX, heads)):
        named = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
        load_strict(part, named, prefix)
    info = ModelInfo(facts["classes"], facts["preprocessing"]["image_size"])
    encoder = encoder.to(memory_format=torch.channels_last)
    return _pytorch_runner(Classifier(encoder, heads, None, info).eval())


@dataclass(frozen=True)
class ParityCheck:
    """Difference between an exported model and PyTorch on real frames.

    Attributes:
        name: of its file.
        frames: how many.
        max_difference: difference of a probability.
        agreement: {task: share of frames with the same prediction, "novelty": that both mark, or neither,
            where the exported model has it}.
    """

    name: str
    frames: int
    max_difference: float
    agreement: dict[str, float]


class ParityChecker:
    """The classifier's own predictions, to compare those of exported models with.

    Args:
        classifier: a trained one.
        frames: (n, 3, S, S) uint8 real frames.
    """

    def __init__(self, classifier: Classifier, frames: np.ndarray) -> None:
        self.tasks = classifier.task_outputs()
        self.pixels = np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
        self.expected = _run_batches(_pytorch_runner(classifier), self.pixels)

    def check(self, name: str, run: Runner) -> ParityCheck:
        """Compare the model that `run` runs; `name` is that of its file."""
        outputs = _run_batches(run, self.pixels)
        differences, agreement = [], {}
        for output, expected in self.expected.items():
            if output == NOVELTY_OUTPUT:
                if output in outputs:
                    agreement[output] = float(((outputs[output] > 1) == (expected > 1)).mean())
                continue
            actual = outputs[output]
            task = output.removesuffix(PROBABILITIES_SUFFIX)
            predicted = self.tasks[task].predicted
            differences.append(np.abs(actual - expected).max())
            agreement[task] = float(np.mean(np.equal(predicted(actual), predicted(expected))))
        return ParityCheck(name, len(self.pixels), float(np.max(differences)), agreement)  # NaN stays NaN


def _pytorch_runner(classifier: Classifier) -> Runner:
    @torch.inference_mode()
    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        outputs = classifier(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))))
        names = output_names(classifier)
        return {name: outputs[name.removesuffix(PROBABILITIES_SUFFIX)].numpy() for name in names}

    return run


def _run_batches(run: Runner, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs for any number of frames, which are run in batches."""
    parts = [run(pixels[first : first + BATCH_SIZE]) for first in range(0, len(pixels), BATCH_SIZE)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Hide the hints that libraries give their own developers."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
