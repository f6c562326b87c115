"""TensorBoard, MLflow and Weights & Biases behind one interface; each is imported where it is used."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from simclr_rhd.core.file_names import TENSORBOARD_DIR

PROJECT = "simclr-rhd"  # in MLflow (experiment) and Weights & Biases, unless their variables name another
ID_TAG = "simclr_rhd.run"  # of a run in MLflow, which gives it an identifier of its own
MAX_START_S, MAX_FINISH_S = 30.0, 60.0  # seconds for the first contact, and for what is left at the end


class Point(NamedTuple):
    """A figure of an epoch.

    Attributes:
        series: 'simclr', a task, 'finetune-1', or 'test' for the final scores.
        epoch: from 1; 0 of what was before any training, and of the final scores.
        name: of the figure.
        value: finite.
    """

    series: str
    epoch: int
    name: str
    value: float


@dataclass(frozen=True)
class TrackedRun:
    """A run as the trackers know it.

    Attributes:
        id: of the run; one that is continued keeps it.
        name: what people read.
        folder: for what a tracker keeps on this machine.
    """

    id: str
    name: str
    folder: Path


class Tracker(Protocol):
    """A program that shows runs beside each other; a method that raises is called again.

    Only `start` of a new run is not: it is then refused.

    Attributes:
        advice: what to do if it does not answer.
    """

    advice: str

    def start(self, run: TrackedRun) -> bool:
        """Begin a run, or go on with the one of this identifier; return True if that has epochs already."""

    def log_config(self, config: Mapping[str, object]) -> None:
        """Add flags and other facts of the run, by name."""

    def log(self, points: Sequence[Point]) -> None:
        """Add figures, of one epoch after another."""

    def close(self, *, failed: bool) -> None:
        """End the run."""


class TensorBoard:
    """Event files below the run's folder, one set for each series."""

    advice = "--save-dir must allow files to be written"

    def start(self, run: TrackedRun) -> bool:  # noqa: D102
        self.folder, self.writers = run.folder / TENSORBOARD_DIR, dict[str, Any]()
        return self.folder.exists()

    def log_config(self, config: Mapping[str, object]) -> None:  # noqa: D102
        rows = "".join(f"| {name} | {value} |\n" for name, value in config.items())
        self._writer("configuration", 0).add_text("configuration", f"| flag | value |\n|---|---|\n{rows}")

    def log(self, points: Sequence[Point]) -> None:  # noqa: D102
        for point in points:
            tag = f"{point.series.rpartition('/')[2]}/{point.name}"
            self._writer(point.series, point.epoch).add_scalar(tag, point.value, point.epoch)
        for writer in self.writers.values():
            writer.flush()

    def close(self, *, failed: bool) -> None:  # noqa: D102
        for writer in self.writers.values():
            writer.close()

    def _writer(self, series: str, first_epoch: int) -> Any:
        """The writer of a series; points of a stopped process from this epoch on do not count."""
        if series not in self.writers:
            from torch.utils.tensorboard import SummaryWriter

            place = self.folder / series.removesuffix("simclr")
            self.writers[series] = SummaryWriter(place, purge_step=first_epoch)
        return self.writers[series]


class MLflow:
    """A run of the tracking server or store that MLFLOW_TRACKING_URI names."""

    advice = "MLFLOW_TRACKING_URI must name a server that runs, or a store that mlflow can write"

    def start(self, run: TrackedRun) -> bool:  # noqa: D102
        from mlflow import MlflowClient

        self.client, name = MlflowClient(), os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        same = self.client.search_runs([number], f"tags.`{ID_TAG}` = '{run.id}'", max_results=1)
        tracked = (
            same[0] if same else self.client.create_run(number, tags={ID_TAG: run.id}, run_name=run.name)
        )
        self.run_id = tracked.info.run_id
        if same:
            self.client.update_run(self.run_id, status="RUNNING")
        self.has_config = bool(tracked.data.params)
        return bool(same)

    def log_config(self, config: Mapping[str, object]) -> None:  # noqa: D102
        from mlflow.entities import Param

        if not self.has_config:  # it cannot be changed
            params = [Param(name, str(value)[:500]) for name, value in config.items()]
            self.client.log_batch(self.run_id, params=params)

    def log(self, points: Sequence[Point]) -> None:  # noqa: D102
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(f"{point.series}/{point.name}", point.value, now, point.epoch) for point in points]
        self.client.log_batch(self.run_id, metrics=metrics)

    def close(self, *, failed: bool) -> None:  # noqa: D102
        self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


class WeightsAndBiases:
    """A run of Weights & Biases; with WANDB_MODE=offline in files below the run's folder."""

    advice = "`wandb login` stores a key, and WANDB_MODE=offline needs none"

    def start(self, run: TrackedRun) -> bool:  # noqa: D102
        import wandb

        sys.stdin = Path(os.devnull).open()  # else it asks for a key in the terminal, and hangs
        settings = wandb.Settings(
            silent=True,
            console="off",  # the log names files
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_meta=True,  # the command line
            x_disable_machine_info=True,
            host="-",
            program="main.py",  # without its folder
            x_disable_stats=True,
            x_save_requirements=False,
            init_timeout=MAX_START_S,
            finish_timeout=MAX_FINISH_S,
        )
        self.series = set[str]()
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=run.name,
            dir=run.folder,
            resume="allow",
            settings=settings,
        )
        return bool(self.run.resumed or self.run.offline)  # offline: in other files beside

    def log_config(self, config: Mapping[str, object]) -> None:  # noqa: D102
        self.run.config.update(dict(config), allow_val_change=True)

    def log(self, points: Sequence[Point]) -> None:  # noqa: D102
        for (series, epoch), of_epoch in groupby(points, key=lambda point: point[:2]):
            if series not in self.series:
                self.run.define_metric(f"{series}/*", step_metric=f"{series}/epoch")
                self.series.add(series)
            figures = {f"{series}/{point.name}": point.value for point in of_epoch}
            self.run.log({f"{series}/epoch": epoch} | figures)

    def close(self, *, failed: bool) -> None:  # noqa: D102
        self.run.finish(exit_code=int(failed))


TRACKERS: dict[str, Callable[[], Tracker]] = {  # by package
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WeightsAndBiases,
}
