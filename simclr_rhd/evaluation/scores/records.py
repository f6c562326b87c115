"""Scores as values: of a level, of its classes, and of a difference between two classifiers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeVar, get_type_hints

import numpy as np

from simclr_rhd.core.file_names import METRICS
from simclr_rhd.core.records import JsonObject, empty_value, is_fraction, is_number

Interval = list[float] | None  # low and high

AVERAGED_METRICS = ("precision", "recall", "f1", "specificity", "auroc", "average_precision")
PER_CLASS_METRICS = ("accuracy", *AVERAGED_METRICS)
AVERAGE_METRICS = (
    "accuracy",
    "balanced_accuracy",
    *(f"{name}_{how}" for name in AVERAGED_METRICS for how in ("macro", "weighted")),
    *("kappa", "quadratic_kappa", "brier", "ece"),
)
_FRACTION = "balanced_accuracy"  # other metrics may be below 0, or above 1 by a rounding error


class Record:
    """Base of a dataclass that is an object in JSON, its fields the keys.

    A field with the default None stands there only where it is known. Keys that are not `required` may be
    missing in the file of an older version.
    """

    required: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """The object, in JSON's types."""
        return {
            of.name: as_json(value)
            for of in fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, of.name)) is not None or of.default is not None
        }

    @classmethod
    def from_json(cls, value: object, where: str = METRICS) -> Self:
        """The value of an object.

        Args:
            value: the object.
            where: its file, and the place in it.

        Raises:
            UserError: a required key is missing, or a value is of another type.
        """
        record, kinds = JsonObject(value, where), get_type_hints(cls, include_extras=True)
        present = {*record.fields, *cls.required}
        return cls(
            **{
                of.name: record.typed(of.name, kinds[of.name])
                if of.name in present
                else empty_value(kinds[of.name])
                for of in fields(cls)  # type: ignore[arg-type]
            }
        )


def as_json(value: Any) -> Any:
    """Records, and lists and tables of them, as JSON."""
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Score(Record):
    """A figure with its 95 % interval; None where it cannot be computed."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float | None, interval: Interval = None) -> Self:
        """A figure and [low, high]."""
        return cls(value, *(interval or ()))

    @property
    def interval(self) -> Interval:
        """[low, high]; None without one."""
        return None if self.low is None or self.high is None else [self.low, self.high]

    def to_json(self) -> dict[str, float | None]:
        """The object; what is infinite is null, as JSON has no word for it."""
        return {name: x if x is not None and math.isfinite(x) else None for name, x in vars(self).items()}


def _figures(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: score.value for name, score in scores.items()}


def _intervals(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {"ci95": {name: score.interval for name, score in scores.items()}}


def _parse_scores(record: JsonObject, names: Iterable[str]) -> dict[str, Score]:
    intervals = record.object("ci95") if record.fields.get("ci95") is not None else JsonObject({}, "")
    return {name: _parse_score(record, intervals, name) for name in names}


def _parse_score(record: JsonObject, intervals: JsonObject, name: str) -> Score:
    if name == _FRACTION:
        value, is_bound, wanted = record.fraction(name), is_fraction, "two numbers from 0 to 1, or null"
    else:
        value, is_bound, wanted = record.number(name), is_number, "two numbers, or null"

    def is_interval(ends: Any) -> bool:
        return ends is None or (
            isinstance(ends, list) and len(ends) == 2 and None not in ends and all(map(is_bound, ends))
        )

    return Score.of(value, intervals.get(name, is_interval, wanted))


@dataclass(frozen=True)
class ClassScores(Record):
    """Scores of one class against the rest.

    Attributes:
        support: its samples.
        scores: of PER_CLASS_METRICS.
    """

    support: int
    scores: dict[str, Score]

    def __getitem__(self, metric: str) -> Score:
        return self.scores[metric]

    def to_json(self) -> dict[str, Any]:
        """The figures, their intervals under "ci95"."""
        return _figures(self.scores) | {"support": self.support} | _intervals(self.scores)

    @classmethod
    def from_json(cls, value: object, where: str = METRICS) -> Self:
        """The scores of a class in `metrics.json`."""
        record = JsonObject(value, where)
        scores = _parse_scores(record, PER_CLASS_METRICS)
        return replace(super().from_json({**record.fields, "scores": {}}, where), scores=scores)


@dataclass(frozen=True)
class Scores(Record):
    """Scores per frame, video or patient.

    Attributes:
        n: samples of classes that count.
        groups: of these samples.
        averages: of AVERAGE_METRICS.
        per_class: {class: its scores}.
        confusion: counts of all samples, true by predicted; means of counts over several draws.
        reasons: {what cannot be computed: why}, as of "quadratic_kappa", "precision of Normal" or, for all of
            a class's figures, "Normal"; None where only some draws of a mean have one.
        reason: why nothing can be computed.
        left_out: known patients without a class of their own, of scores per patient.
    """

    n: int
    groups: int
    averages: dict[str, Score]
    per_class: dict[str, ClassScores]
    confusion: list[list[float]]
    reasons: dict[str, str | None]
    reason: str | None = None
    left_out: int | None = None

    def __getitem__(self, metric: str) -> Score:
        return self.averages[metric]

    def to_json(self) -> dict[str, Any]:
        """The figures, their intervals under "ci95"."""
        rest = super().to_json()
        del rest["averages"]
        size = {name: rest.pop(name) for name in ("n", "groups")}
        return size | _figures(self.averages) | _intervals(self.averages) | rest

    @classmethod
    def from_json(cls, value: object, where: str = METRICS) -> Self:
        """The scores of a level in `metrics.json`."""
        record = JsonObject(value, where)
        averages = _parse_scores(record, AVERAGE_METRICS)
        return replace(super().from_json({**record.fields, "averages": {}}, where), averages=averages)


AnyScores = TypeVar("AnyScores", Scores, Score)


def mean_scores(draws: Sequence[AnyScores]) -> AnyScores:
    """The mean over several draws of each figure, and of the ends of its interval.

    None where one draw has none; words are those of the first.
    """
    mean: AnyScores = _mean(draws)
    return mean


def _mean(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if any(part is None for part in parts) or isinstance(first, str):
        return None if any(part is None for part in parts) else first
    if isinstance(first, Scores | ClassScores | Score):
        return type(first)(**_mean([vars(part) for part in parts]))
    if isinstance(first, dict):
        return {name: _mean([part.get(name) for part in parts]) for name in first}
    if isinstance(first, list):
        return [_mean(of) for of in zip(*parts, strict=True)]
    return first if all(part == first for part in parts) else float(np.mean(parts))


@dataclass(frozen=True)
class Margin(Record):
    """The difference of a balanced accuracy to another's on the same samples; None where it is not known.

    Attributes:
        balanced_accuracy: the difference.
        ci95: [low, high].
        same_answers: whether both say the same of every sample.
    """

    balanced_accuracy: float | None
    ci95: Interval
    same_answers: bool | None = False


Levels = dict[str, Scores]  # by 'frame', 'video' and 'patient'
Margins = dict[str, Margin]
