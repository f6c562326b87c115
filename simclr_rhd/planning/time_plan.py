"""The plan of a run that has to end within `--minutes`: its epochs, and what is made cheaper for them.

It is made from measured steps. As long as fewer than `ENOUGH_EPOCHS` fit, one thing after the other is made
cheaper: the maps of the features are not waited for, then the heads learn for fewer epochs. That a short run
has no dress rehearsal is known before (`RunConfig.has_rehearsal`).
"""

import logging
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, get_type_hints

from simclr_rhd.config import Config
from simclr_rhd.core.config import MAX_EPOCHS, POSITIVE, Check, at_least
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.logs import format_duration
from simclr_rhd.core.records import JsonObject
from simclr_rhd.planning.run_estimate import Plan
from simclr_rhd.planning.step_cost import StepCost
from simclr_rhd.runs.config import LEAST_REHEARSED_MINUTES
from simclr_rhd.runs.time_limit import TimeLimit
from simclr_rhd.ssl.schedule import size_per_epoch, sizes_of, stable_epochs

logger = logging.getLogger("simclr_rhd")

MARGIN = 0.07  # of the time to come that is left unplanned: steps may take longer than those measured
ENOUGH_EPOCHS = 10  # below, other things are made cheaper
FEW_LINEAR_EPOCHS = 20


@dataclass(frozen=True)
class TimePlan:
    """The plan of a run's time, as it stands in `run.json`.

    Attributes:
        minutes: within which the run is to end.
        epochs: of each pretraining.
        linear_epochs: of the heads.
        past_s: seconds until the plan was made.
        pretraining_s: seconds of all pretrainings.
        after_s: seconds of all that follows.
        epoch_s: {pixels of a view's side: seconds of an epoch}.
        cheaper: what is left out or made cheaper, a sentence each.
    """

    minutes: Annotated[float, POSITIVE]
    epochs: Annotated[int, at_least(1, at_most=MAX_EPOCHS)]
    linear_epochs: Annotated[int, at_least(1, at_most=MAX_EPOCHS)]
    past_s: float
    pretraining_s: float
    after_s: float
    epoch_s: Annotated[dict[str, float], Check(lambda s: min(s.values(), default=0) > 0, "seconds above 0")]
    cheaper: list[str]

    @classmethod
    def from_record(cls, value: object, where: str, stages: Sequence[int]) -> "TimePlan":
        """Read what stands in the record of a run that is continued, with views of these sizes.

        Raises:
            UserError: a value is missing, or of another kind.
        """
        record, kinds = JsonObject(value, where), get_type_hints(cls, include_extras=True)
        plan = cls(**{name: record.typed(name, kind) for name, kind in kinds.items()})
        of_all_sizes = f"seconds of an epoch with views of {', '.join(map(str, stages))} pixels"
        record.get("epoch_s", lambda times: set(times) == set(map(str, stages)), of_all_sizes)
        return plan

    @property
    def decided(self) -> dict[str, int]:
        """{name of a knob: its value} of what the plan decides."""
        return {"epochs": self.epochs, "linear_epochs": self.linear_epochs}

    def apply(self, config: Config) -> Config:
        """Return the configuration as planned."""
        return replace(config, epochs=self.epochs, linear_epochs=self.linear_epochs)

    def for_evaluation(self, config: Config) -> "TimePlan":
        """Return the plan where the pretraining is done: the heads have all their epochs."""
        return replace(self, linear_epochs=config.linear_epochs, cheaper=list(_without_rehearsal(config)))

    def limit(self) -> TimeLimit:
        """The end of the run, for its stages."""
        epoch_s = {int(size): seconds for size, seconds in self.epoch_s.items()}
        return TimeLimit(self.minutes, self.after_s, epoch_s)

    def lines(self, stages: Sequence[int]) -> Iterator[str]:
        """Sentences for the log; `stages` are the pixels of the views' sides."""
        total_s = self.past_s + self.pretraining_s + self.after_s
        sizes = size_per_epoch(stages, self.epochs)
        views = ", ".join(f"{sizes.count(size)} of {size} pixels" for size in stages if size in sizes)
        yield (
            f"--minutes {self.minutes:g}: planned are {self.epochs} epochs ({views}; annealing in the last "
            f"{self.epochs - stable_epochs(self.epochs)}), in {format_duration(self.pretraining_s)}; "
            f"{format_duration(self.past_s)} before them and {format_duration(self.after_s)} after them: "
            f"{total_s / 60:.1f} minutes in all"
        )
        yield from (f"NOTICE --minutes {self.minutes:g}: {sentence}" for sentence in self.cheaper)


def plan_time(config: Config, cost: StepCost, amounts: Plan) -> TimePlan:
    """Plan as many epochs as there is time for, and what is made cheaper for them.

    Args:
        config: of the run; its epochs are the upper bound.
        cost: of the steps, as measured.
        amounts: of the run without a time limit.

    Raises:
        UserError: not even one epoch fits.
    """
    assert config.minutes is not None
    whole_s, stages = 60 * config.minutes, sizes_of(config)
    planned_s = whole_s - MARGIN * (whole_s - amounts.setup_s)
    cheaper, plan, epochs = list(_without_rehearsal(config)), amounts, 0
    for plan, sentence in _cheaper_plans(amounts):
        cheaper += [sentence] if sentence else []
        epochs = _epochs_within(planned_s, stages, cost, plan)
        if epochs >= min(ENOUGH_EPOCHS, plan.epochs):
            break
    if not epochs:
        raise UserError(_too_short(config.minutes, stages, cost, plan))
    if epochs < min(ENOUGH_EPOCHS, plan.epochs):
        cheaper.append(f"{epochs} epochs are few, and the encoder may learn little; more minutes give more")
    course = _with_epochs(plan, epochs, stages)
    return TimePlan(
        minutes=config.minutes,
        epochs=epochs,
        linear_epochs=course.linear_epochs,
        past_s=course.setup_s,
        pretraining_s=course.pretrainings * course.pretraining_s(cost, max_epochs=epochs),
        after_s=course.downstream_s(cost),
        epoch_s={str(size): course.epoch_s(cost, course.share(cost, size)) for size in stages},
        cheaper=cheaper,
    )


def log_time_plan(plan: TimePlan, config: Config) -> None:
    """Log what is planned."""
    for line in plan.lines(sizes_of(config)):
        logger.info(line)


def _without_rehearsal(config: Config) -> Iterator[str]:
    if not config.has_rehearsal and not config.no_rehearsal:
        yield f"no dress rehearsal, as below {LEAST_REHEARSED_MINUTES} minutes"


def _cheaper_plans(plan: Plan) -> Iterator[tuple[Plan, str]]:
    """The plan, then ever cheaper ones, each with a sentence on what is cheaper."""
    yield plan, ""
    if plan.figures:
        plan = replace(plan, waits_for_maps=False)
        yield plan, "t-SNE and UMAP are drawn if they are ready in time"
    if plan.linear_epochs > FEW_LINEAR_EPOCHS:
        sentence = f"the heads learn for {FEW_LINEAR_EPOCHS} epochs instead of {plan.linear_epochs}"
        yield replace(plan, linear_epochs=FEW_LINEAR_EPOCHS), sentence


def _with_epochs(plan: Plan, epochs: int, stages: Sequence[int]) -> Plan:
    return replace(plan, epochs=epochs, sizes=tuple(size_per_epoch(stages, epochs)))


def _epochs_within(seconds: float, stages: Sequence[int], cost: StepCost, plan: Plan) -> int:
    """The epochs of the longest run that ends within so many seconds; 0 if none does."""
    return bisect_right(
        range(1, plan.epochs + 1),
        seconds,
        key=lambda epochs: _with_epochs(plan, epochs, stages).planned_seconds(cost),
    )


def _too_short(minutes: float, stages: Sequence[int], cost: StepCost, plan: Plan) -> str:
    """The message for a time in which not even one epoch fits, with the least that does."""
    shortest = _with_epochs(plan, 1, stages)
    epoch_s = shortest.pretrainings * shortest.pretraining_s(cost, max_epochs=1)
    least_s = (shortest.planned_seconds(cost) - MARGIN * plan.setup_s) / (1 - MARGIN)
    return (
        f"--minutes {minutes:g}: all before the pretraining takes {format_duration(plan.setup_s)}, one epoch "
        f"{format_duration(epoch_s)}, and all after it {format_duration(plan.downstream_s(cost))}; wanted "
        f"--minutes {math.ceil(least_s / 6) / 10:g} or more"
    )
