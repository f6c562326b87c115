"""The screening tests of a model: as they stand in `model.pt`, and on new exams.

Notation: n frames of U exams, D features, V other outputs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from simclr_rhd.core.file_names import MAX_QUESTIONS
from simclr_rhd.data.labelled_set import Probabilities
from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.evaluation.config import PrevalenceConfig
from simclr_rhd.evaluation.screening.attention import AttentionPooling
from simclr_rhd.evaluation.screening.exams import ExamScorer, exam_unit, frame_evidence, make_exams
from simclr_rhd.evaluation.screening.fit import ScreeningTest
from simclr_rhd.evaluation.screening.pooling import FIXED_POOLINGS, FrameEvidence, Pooling, concatenate
from simclr_rhd.evaluation.screening.positives import ScreeningQuestion
from simclr_rhd.evaluation.screening.records import ScreeningResult
from simclr_rhd.evaluation.screening.result import FoldScores, screening_result
from simclr_rhd.heads.calibration import MAX_TEMPERATURE, Scaling
from simclr_rhd.inference.external.external_set import ExternalSet

MAX_THRESHOLDS = 100  # in a file that is not damaged
VECTORS = ("centre", "scale", "weights", "attention")  # of an attention


def to_saved(tests: Sequence[ScreeningTest]) -> list[dict[str, object]]:
    """The tests as `model.pt` holds them."""
    return [
        {
            "task": test.question.task,
            "positive": list(test.question.positive),
            "negative": list(test.question.negative),
            "pooling": test.scorer.pooling.name,
            "attention": _attention_to_saved(test.scorer.pooling),
            "temperature": float(test.scorer.scaling.temperature),
            "bias": float(test.scorer.scaling.bias[0]),
            "prevalence": float(test.scorer.scaling.prevalence[0]),
            "thresholds": test.thresholds,
        }
        for test in tests
    ]


def _attention_to_saved(pooling: Pooling) -> dict[str, object] | None:
    if not isinstance(pooling, AttentionPooling):
        return None
    vectors = {
        name: torch.from_numpy(np.asarray(getattr(pooling, name), dtype=np.float64)) for name in VECTORS
    }
    return vectors | {"offset": pooling.offset, "sharpness": pooling.sharpness}


def from_saved(
    saved: object, classes: Mapping[str, list[str]], multilabel: frozenset[str], *, dim: int
) -> list[ScreeningTest]:
    """The tests of a `model.pt`.

    Args:
        saved: what stands in the file.
        classes: {task: names of the model's classes or lesions}.
        multilabel: tasks of lesions.
        dim: D.

    Raises:
        ValueError: they are damaged.
    """
    if not isinstance(saved, list) or len(saved) > MAX_QUESTIONS:
        raise ValueError("its screening tests are no list")
    return [_test_from_saved(one, classes, multilabel, dim) for one in saved]


def _test_from_saved(
    saved: Mapping[str, Any], classes: Mapping[str, list[str]], multilabel: frozenset[str], dim: int
) -> ScreeningTest:
    task, positive, negative = saved["task"], saved["positive"], saved["negative"]
    if task not in classes or not positive or not {*positive, *negative} <= {*classes[task]}:
        raise ValueError("a screening test of other classes")
    if len({*positive, *negative}) < len(positive) + len(negative):  # a probability would be added twice
        raise ValueError("a screening test has a class twice")
    question = ScreeningQuestion(
        task, tuple(positive), tuple(negative), tuple(classes[task]), task in multilabel
    )
    temperature, bias, prevalence = (saved[name] for name in ("temperature", "bias", "prevalence"))
    if not _is_number(bias) or not all(map(_is_number, (temperature, prevalence))):
        raise ValueError("the calibration of a screening test")
    if not 1 / MAX_TEMPERATURE <= temperature * (1 + 1e-9) or not 0 < prevalence < 1:
        raise ValueError("the calibration of a screening test")
    thresholds = saved["thresholds"]
    if not isinstance(thresholds, dict) or len(thresholds) > MAX_THRESHOLDS:
        raise ValueError("the thresholds of a screening test")
    for goal, threshold in thresholds.items():
        if not (isinstance(goal, str) and goal.isprintable()) or not (
            threshold is None or _is_number(threshold)
        ):
            raise ValueError("the thresholds of a screening test")
    others = sum(len(names) for name, names in classes.items() if name != task)
    pooling = _pooling_from_saved(saved, dim, others)
    scaling = Scaling(temperature, np.array([bias]), np.array([prevalence]))
    return ScreeningTest(question, ExamScorer(pooling, scaling), thresholds)


def _pooling_from_saved(saved: Mapping[str, Any], dim: int, others: int) -> Pooling:
    if saved["attention"] is None:
        fixed = {pooling.name: pooling for pooling in FIXED_POOLINGS}
        if saved["pooling"] not in fixed:
            raise ValueError("a screening test puts frames together in a way that this program does not know")
        return fixed[saved["pooling"]]
    attention = saved["attention"]
    lengths = dict(zip(VECTORS, (dim, dim, dim, others), strict=True))
    vectors = {name: attention[name].numpy() for name in VECTORS}
    for name, vector in vectors.items():
        if vector.shape != (lengths[name],) or not np.isfinite(vector).all():
            raise ValueError(f"the {name} of a screening test's attention")
    offset, sharpness = attention["offset"], attention["sharpness"]
    if (
        not _is_number(offset)
        or not _is_number(sharpness)
        or sharpness <= 0
        or not (vectors["scale"] > 0).all()
    ):
        raise ValueError("a screening test's attention")
    return AttentionPooling(
        vectors["centre"], vectors["scale"], vectors["weights"], offset, sharpness, vectors["attention"]
    )


def _is_number(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def evaluate_tests(
    config: PrevalenceConfig,
    tests: Sequence[ScreeningTest],
    labelled_set: ExternalSet,
    table: Probabilities,
    features: np.ndarray,
    *,
    seed: int,
) -> dict[str, ScreeningResult]:
    """{question: result} of a model's tests on labelled frames that it has not learnt from.

    Args:
        config: of the prevalences.
        tests: of the model, with the thresholds that it came with.
        labelled_set: the frames, in the model's classes.
        table: the model's probabilities of these.
        features: (n, D) of its encoder.
        seed: of the bootstrap.
    """
    results, tasks = {}, [task for task in table if prevalence_key(task) in table]
    videos, rows = np.asarray(labelled_set.videos), np.arange(len(labelled_set.paths))
    for test in tests:
        if test.question.task in labelled_set.values:
            exams = make_exams(labelled_set, test.question, rows, labelled_set.undecided(test.question))
            evidence = frame_evidence(test.question, table, tasks, videos=videos, features=features)
            scores = exams.scores(test.scorer.score(evidence, exams))
            fold = FoldScores(scores, test.scorer.pooling.name, test.thresholds, exams.left_out)
            unit = exam_unit(labelled_set)
            result = screening_result(config, test.question, [fold], {}, unit=unit, seed=seed)
            results[test.question.name] = replace(result, undecided=exams.undecided)
    return results


ExamKey = tuple[bool, str]  # whether it is a patient, and the name of the patient or of the video


@dataclass(frozen=True)
class ScreeningPrediction:
    """A test's prediction for an exam.

    Attributes:
        question: of the screening, as `--positive` takes it.
        probability: that the exam is positive, for the share of positive validation exams.
        sent_on: {goal: whether it is sent on at the threshold that was chosen for it}.
    """

    question: str
    probability: float
    sent_on: dict[str, bool]


class ExamStream:
    """Screening tests on exams whose frames come in batches, in any order.

    Of a frame only what the tests read stays in memory: some numbers, not its features.

    Args:
        tests: of the model.
        tasks: of the model.
    """

    def __init__(self, tests: Sequence[ScreeningTest], tasks: Sequence[str]) -> None:
        self.tests, self.tasks = tests, tasks
        self.numbers: dict[ExamKey, int] = {}
        self.exam: list[int] = []
        self.evidence: list[list[FrameEvidence]] = [[] for _ in tests]

    def add(
        self, exams: Sequence[ExamKey], videos: Sequence[str], table: Probabilities, features: np.ndarray
    ) -> None:
        """Take in frames.

        Args:
            exams: n keys of what the frames are of.
            videos: n names.
            table: their probabilities, with the prevalence of each task.
            features: (n, D) float32.
        """
        self.exam += [self.numbers.setdefault(key, len(self.numbers)) for key in exams]
        names = np.array(videos)
        for test, parts in zip(self.tests, self.evidence, strict=True):
            evidence = frame_evidence(test.question, table, self.tasks, videos=names, features=features)
            parts.append(_compact(test.scorer.pooling, evidence))

    def predictions(self) -> dict[ExamKey, list[ScreeningPrediction]]:
        """{exam: the prediction of each test}."""
        predictions: dict[ExamKey, list[ScreeningPrediction]] = {key: [] for key in self.numbers}
        for test, parts in zip(self.tests, self.evidence, strict=True):
            scorer = replace(test.scorer, pooling=_on_compact(test.scorer.pooling))
            probabilities = scorer.probability(concatenate(parts), np.array(self.exam))
            for of_exam, p in zip(predictions.values(), probabilities.tolist(), strict=True):
                sent_on = {goal: p >= limit for goal, limit in test.thresholds.items() if limit is not None}
                of_exam.append(ScreeningPrediction(test.question.name, p, sent_on))
        return predictions


def _compact(pooling: Pooling, frames: FrameEvidence) -> FrameEvidence:
    """The evidence without features; of an attention with its score and weight in their place."""
    if isinstance(pooling, AttentionPooling):
        score, attention = pooling.score(frames)
        return replace(frames, features=score[:, None], others=attention[:, None])
    none = np.zeros((len(frames.probability), 0))
    return replace(frames, features=none, others=none)


def _on_compact(pooling: Pooling) -> Pooling:
    """The pooling for compact evidence."""
    if not isinstance(pooling, AttentionPooling):
        return pooling
    one = np.ones(1)
    return AttentionPooling(np.zeros(1), one, one, 0.0, pooling.sharpness, one)
