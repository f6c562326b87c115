"""Trackers of a run. No names of patients, frames, folders or machines are sent.

A new run is refused if a tracker does not answer at first. Later, what could not be sent is sent again.
"""

import importlib
import os
import re
import uuid
from collections.abc import Mapping, Sequence

from simclr_rhd.core.errors import UserError, reason_of
from simclr_rhd.runs.record import HeadlineScore
from simclr_rhd.runs.tracking.sender import Sender, points_of, sanitize_name
from simclr_rhd.runs.tracking.sent_epochs import SentEpochs
from simclr_rhd.runs.tracking.trackers import Point, TrackedRun

# Flags whose value may name a folder, a file or an account. They are sent only if it is in PUBLIC_VALUES.
PRIVATE_FLAGS = frozenset(
    "data labelled_prefix unlabelled_prefix labels_csv patients_csv split init save_dir cache_dir "
    "billing_project".split()
)
PUBLIC_VALUES = frozenset({"demo", "auto", "none", "random", "imagenet"})
ENVIRONMENT = {  # of the packages, where the user has not set it
    "MLFLOW_DISABLE_TELEMETRY": "true",  # to the makers
    "WANDB_ERROR_REPORTING": "false",  # to the makers
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # it is tried again here
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class Tracking:
    """The trackers of a run; none before `start`, and none at the ranks that follow.

    Args:
        names: keys of `TRACKERS`.

    Raises:
        UserError: the package of one is not installed, or damaged.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names, self.senders = names, list[Sender]()
        for name in names:
            for variable, value in ENVIRONMENT.items():
                os.environ.setdefault(variable, value)
            try:
                importlib.import_module(name)
            except ImportError:
                raise UserError(
                    f"--tracker {name} needs a package that is not installed: pip install {name}"
                ) from None
            except Exception as error:  # whatever a foreign package raises
                raise UserError(f"--tracker {name}: its package is damaged{reason_of(error)}") from None

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for sender in self.senders:
            sender.close(failed=kind is not None)

    def start(self, run: TrackedRun, *, is_new: bool) -> None:
        """Start the trackers; starting those of a resumed run is tried again in the background.

        Raises:
            UserError: a tracker of a new run does not answer.
        """
        sent = SentEpochs(run)
        self.senders = [Sender(name, run, sent, required=is_new) for name in self.names]
        for sender in self.senders:
            sender.check_contact()

    def log_epochs(self, series: str, history: Sequence[Mapping[str, object]]) -> None:
        """Send the figures of those epochs of a pretraining that were not sent before."""
        for sender in self.senders:
            sender.send_epochs(series, history)

    def log_config(self, config: Mapping[str, object]) -> None:
        """Send flags and other facts of the run, without those that name folders, files or accounts."""
        for sender in self.senders:
            sender.send_config(_public_config(config))

    def log_results(
        self, history: Sequence[Mapping[str, object]], scores: Mapping[str, HeadlineScore]
    ) -> None:
        """Send the epochs of heads and fine-tuning, which `history` has, and the final scores."""
        rows = [row for row in history if row["phase"] != "simclr"]
        points = [point for row in rows for point in points_of(_series_of(row), row)]
        for target, score in scores.items():
            name = sanitize_name(f"{target}/balanced_accuracy_per_{score.level}")
            ends = {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
            points += [Point("test", 0, end, value) for end, value in ends.items() if value is not None]
        for sender in self.senders:
            sender.send_results(points)


def _series_of(row: Mapping[str, object]) -> str:
    """The series of an epoch: its task, or the fine-tuning with the number of the model."""
    return f"{row['phase']}-{row['way']}" if "way" in row else str(row["phase"])


def _public_config(config: Mapping[str, object]) -> dict[str, object]:
    return {
        name: value
        for name, value in config.items()
        if value is not None and (name not in PRIVATE_FLAGS or value in PUBLIC_VALUES)
    }


def tracker_id(known: object) -> str:
    """The identifier of a run that is continued, if it has one; else a new one."""
    is_id = isinstance(known, str) and re.fullmatch("[0-9a-f]{16}", known)
    return str(known) if is_id else uuid.uuid4().hex[:16]
