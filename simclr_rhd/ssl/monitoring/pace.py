"""The pace of a pretraining that has to end in time: where epochs take too long, there will be fewer."""

import copy
import logging
from bisect import bisect_right
from statistics import median

from simclr_rhd.core import distributed as ranks
from simclr_rhd.runs.context import RunContext
from simclr_rhd.ssl.monitoring.epoch_record import EpochRecord
from simclr_rhd.ssl.schedule import Schedule, stable_epochs

logger = logging.getLogger("simclr_rhd")

RECENT_EPOCHS = 3  # whose median pace is that of the epochs to come


class Pace:
    """Shortens a pretraining's course where it would end too late, called after each epoch.

    The learning rate then falls to 0 earlier, as in a run that stops early. The leader decides by its clock,
    and the other ranks follow.

    Args:
        schedule: of the pretraining.
        run: one with a time limit; its record gets the changes.
        n_left: pretrainings that have to end in time, this one among them. They share the time equally.
    """

    def __init__(self, schedule: Schedule, run: RunContext, *, n_left: int) -> None:
        assert run.limit
        self.schedule, self.n_left, self.limit, self.record = schedule, n_left, run.limit, run.record
        self.ratios: list[float] = []  # of the epochs of this process: seconds taken to seconds planned
        # how much is left of the time of all pretrainings when this one has to end
        self.reserve_s = (1 - 1 / n_left) * run.limit.left_for_pretraining_s()

    def __call__(self, record: EpochRecord) -> None:
        """Take in the epoch that has ended, and shorten the course if it has to be."""
        self.ratios.append(record.seconds / self.limit.epoch_s[record.size])
        is_first = len(self.ratios) == 1  # which takes longer than those after it
        if self.schedule.annealing or is_first:
            return
        with ranks.translate_dist_errors():
            epochs = ranks.broadcast(self._epochs_in_time())
        before = self.schedule.epochs
        self.schedule.shorten(epochs)
        if ranks.is_main_process() and self.schedule.epochs < before:
            self._report(before)

    def _epochs_in_time(self) -> int:
        """The epochs of the longest course, none longer than the planned one, that ends in time.

        What follows is as slow as the last epochs, and no quicker than planned.
        """
        done, slowness = self.schedule.epochs_done, max(1.0, self._recent_ratio())
        extra_s = (slowness - 1) * self.limit.after_s / self.n_left  # of which the others give their part
        left_s = self.limit.left_for_pretraining_s() - self.reserve_s - extra_s
        courses = range(done + 1, self.schedule.epochs + 1)
        return done + bisect_right(courses, left_s, key=self._seconds_to_come)

    def _seconds_to_come(self, epochs: int) -> float:
        """Seconds until the end of a course of so many epochs, at the pace of the last ones."""
        course, planned_s = copy.copy(self.schedule), 0.0
        course.shorten(epochs)
        while not course.is_finished():
            planned_s += self.limit.epoch_s[course.size]
            course.end_epoch()
        return planned_s * self._recent_ratio()

    def _recent_ratio(self) -> float:
        """The median pace of the last epochs, missing ones as planned: one that stalled proves little."""
        recent = ([1.0] * RECENT_EPOCHS + self.ratios[1:])[-RECENT_EPOCHS:]
        return median(recent)

    def _report(self, epochs_before: int) -> None:
        """Log that the course is shorter, and record it."""
        epochs, done = self.schedule.epochs, self.schedule.epochs_done
        ratio = self._recent_ratio()
        text = (
            f"--minutes {self.limit.minutes:g}: the epochs up to {done} took {ratio:.2f} times as long as "
            f"planned: {epochs} epochs instead of {epochs_before}, annealing from epoch "
            f"{max(done, stable_epochs(epochs)) + 1} on"
        )
        logger.info("NOTICE %s", text)
        self.record.add_plan_change(text)
