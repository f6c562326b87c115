"""The trained classifier: frames in, probabilities out; and as one file, `model.pt`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simclr_rhd.core.errors import UserError, reason_of
from simclr_rhd.evaluation.screening.fit import ScreeningTest
from simclr_rhd.heads.model import Heads
from simclr_rhd.inference.external.training_record import TrainingRecord
from simclr_rhd.inference.model_info import ALL_STAGES_VERSION, OLDEST_VERSION, VERSION, ModelInfo, validate
from simclr_rhd.inference.ood import OODDetector
from simclr_rhd.inference.screening import from_saved, to_saved
from simclr_rhd.inference.task_output import TaskOutput
from simclr_rhd.runs import checkpoint
from simclr_rhd.ssl.augment import IMAGENET_MEAN, IMAGENET_STD, eval_view
from simclr_rhd.ssl.encoder.model import FEATURE_DIM, STAGE_DIMS, SimCLR, forward_with_ood_stats

FORMAT = "simclr-rhd-model"
SHARE_TOLERANCE = 1e-3  # by which shares may miss their sum
SMOKE_TEST_SIZE = 64  # pixels of the view that a file is tried with
WANTED_FILE = "wanted the model.pt that a run of this program wrote"


class Classifier(nn.Module):
    """Encoder, heads and novelty.

    Args:
        encoder: a ResNet-18.
        heads: on its features.
        novelty: None where too few frames were learnt from to tell.
        facts: its description.
        record: of what it has learnt from; None in files of older versions.
        screening: its screening tests; none in files of older versions.
    """

    def __init__(
        self,
        encoder: nn.Module,
        heads: Heads,
        novelty: OODDetector | None,
        facts: ModelInfo,
        record: TrainingRecord | None = None,
        screening: Sequence[ScreeningTest] = (),
    ) -> None:
        super().__init__()
        self.encoder, self.heads, self.novelty = encoder, heads, novelty
        self.facts, self.record, self.screening = facts, record, screening

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Classify frames.

        Args:
            frames: (B, C, S, S) uint8, squares of `facts.stored_side` pixels, C 1 or 3.

        Returns:
            {task: (B, C) float64 probabilities}, "features": (B, 960), and "novelty": (B,), above 1 for a
            frame that is unlike those learnt from, NaN where that is not known.
        """
        return self.classify(self.describe(frames))

    def describe(self, frames: Tensor) -> dict[str, Tensor]:
        """{description: (B, D)} of frames, as of `model.forward_with_ood_stats`; frames as of `forward`."""
        return forward_with_ood_stats(self.encoder, eval_view(frames, size=self.facts.image_size))

    def classify(self, described: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Classify frames by their descriptions; results as of `forward`."""
        features = described["features"]
        unknown = torch.full_like(features[:, 0], torch.nan)
        return self.heads.probabilities(features) | {
            "features": features,
            "novelty": unknown if self.novelty is None else self.novelty(described),
        }

    def task_outputs(self) -> dict[str, TaskOutput]:
        """{task: meaning of its probabilities}."""
        prevalence = self.heads.split_by_task(self.heads.prevalence)
        return {
            task: TaskOutput(classes, task in self.heads.multilabel, prevalence[task].cpu().numpy())
            for task, classes in self.facts.classes.items()
        }


def save(path: Path, classifier: Classifier) -> None:
    """Write all that it takes to classify a new frame."""
    heads, novelty, facts = classifier.heads, classifier.novelty, classifier.facts
    checkpoint.save(
        path,
        {
            "format": FORMAT,
            "encoder": classifier.encoder.state_dict(),
            "heads": heads.state_dict(),
            "multilabel": sorted(heads.multilabel),
            "novelty": None if novelty is None else novelty.state_dict(),
            "preprocessing": preprocessing(facts),
            "record": classifier.record and classifier.record.to_saved(),
            "screening": to_saved(classifier.screening),
            **asdict(facts),  # with the version: a model that was read is written as it was
        },
    )


def load(path: str | Path) -> Classifier:
    """Read a `model.pt`; in eval mode, on the CPU. Nothing that is in the file is run.

    Raises:
        UserError: it cannot be read, is of another version, or is no classifier of this program.
    """
    saved = checkpoint.load(path)
    if saved.get("format") != FORMAT:
        is_checkpoint = "optimizer" in saved or "model" in saved
        kind = "a checkpoint of the pretraining" if is_checkpoint else "another file"
        raise UserError(f"{path}: is {kind}; {WANTED_FILE}")
    if type(saved.get("version")) is not int or saved["version"] not in range(OLDEST_VERSION, VERSION + 1):
        raise UserError(
            f"{path}: is a model of version {saved.get('version')!s:.20}, and this program reads versions "
            f"{OLDEST_VERSION} to {VERSION}. Write it anew: the run's own command with "
            "--evaluate-again, or take the program that wrote it"
        )
    try:
        return _build(saved)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path}: damaged, or of another architecture{reason_of(error)}; {WANTED_FILE}"
        ) from None


def _build(saved: Mapping[str, Any]) -> Classifier:
    older = saved["version"] == OLDEST_VERSION
    facts = ModelInfo(
        **{name.name: saved[name.name] for name in fields(ModelInfo) if name.name in saved or not older}
    )
    validate(facts)
    multilabel = saved["multilabel"]
    if not isinstance(multilabel, list) or not all(task in facts.classes for task in multilabel):
        raise ValueError("multilabel names other tasks")
    if saved["preprocessing"] != preprocessing(facts):
        raise ValueError("it wants frames to be prepared in a way that this program does not know")
    n_outputs = {task: len(names) for task, names in facts.classes.items()}
    dim = FEATURE_DIM if saved["version"] >= ALL_STAGES_VERSION else STAGE_DIMS[-1]
    heads = Heads(n_outputs, multilabel=multilabel, dim=dim)
    novelty = None if saved["novelty"] is None else OODDetector()
    encoder = SimCLR().encoder.to(memory_format=torch.channels_last)
    if older:
        bare = {name: value for name, value in heads.named_buffers() if name in ("bias", "prevalence")}
        saved = {**saved, "heads": bare | saved["heads"]}
    for name, part in {"encoder": encoder, "heads": heads, "novelty": novelty}.items():
        if part is not None:
            checkpoint.load_strict(part, saved[name], name)
    record = saved.get("record") and TrainingRecord.from_saved(saved["record"])
    screening = from_saved(saved.get("screening", []), facts.classes, heads.multilabel, dim=dim)
    classifier = Classifier(encoder, heads, novelty, facts, record, screening).eval()
    _smoke_test(classifier)
    return classifier


def preprocessing(facts: ModelInfo) -> dict[str, object]:
    """Describe how a frame becomes a view."""
    return {
        "pad": "square",
        "stored_side": facts.stored_side,
        "image_size": facts.image_size,
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
    }


@torch.inference_mode()
def _smoke_test(classifier: Classifier) -> None:
    """Make sure that it gives numbers, of a small frame: a large one would take gigabytes."""
    encoder, heads, novelty = classifier.encoder, classifier.heads, classifier.novelty
    facts = replace(classifier.facts, image_size=min(classifier.facts.image_size, SMOKE_TEST_SIZE))
    side = facts.stored_side
    frame = torch.arange(3 * side * side).remainder(251).to(torch.uint8).view(1, 3, side, side)
    for name, values in Classifier(encoder, heads, novelty, facts)(frame).items():
        if not torch.isfinite(values).all() and not (name == "novelty" and novelty is None):
            raise ValueError(f"its {name} are no numbers")
    positive = {"temperature": heads.temperature, "deviation of the features": heads.std}
    positive["prevalence"] = heads.prevalence
    if novelty is not None:
        positive |= {name: limit for name, limit in novelty.named_buffers() if name.endswith("_limit")}
    for name, values in positive.items():
        if not (values > 0).all():
            raise ValueError(f"its {name} must be above 0")
    for task, output in classifier.task_outputs().items():
        whole = output.multilabel or abs(output.prevalence.sum() - 1) <= SHARE_TOLERANCE
        if not whole or output.prevalence.max() > 1:
            raise ValueError(f"its prevalence of {task} is no shares of one whole")
