"""The knobs of a run's folder, of its time, and of what is left out of it."""

import math
from dataclasses import dataclass

from simclr_rhd.core.config import NOTHING, Check, flag
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.sources.remote import is_local_or_writable

LEAST_REHEARSED_MINUTES = 10  # of a plan: what fails in a shorter run fails soon enough
TRACKER_NAMES = ("tensorboard", "mlflow", "wandb")  # and of their packages


@dataclass(frozen=True)
class RunConfig(DataConfig):
    """Knobs of where a run writes, how it goes on, and when it ends; it has data, too."""

    save_dir: str = flag(
        "models",
        "output folder, or gs://BUCKET/PREFIX: results and checkpoints are uploaded there, and the same "
        "command on any machine continues from them",
        check=Check(is_local_or_writable, "a folder of this machine, or gs://BUCKET/PREFIX"),
        affects=NOTHING,
    )
    resume: str = flag(
        "auto",
        "'auto': continue an unfinished run of the same configuration; 'never': refuse to start if "
        "--save-dir has a run",
        choices=("auto", "never"),
        affects=NOTHING,
    )
    evaluate_again: bool = flag(
        False,
        "keep the pretraining of the run in --save-dir and repeat what follows it, with other flags of heads "
        "and evaluation",
        affects=NOTHING,
    )
    overwrite: bool = flag(
        False, "start a new run and replace the files of the run in --save-dir", affects=NOTHING
    )
    minutes: float | None = flag(
        None,
        "minutes, from the start of the command, within which all of the run is to end: the epochs of "
        "pretraining are planned from measured steps, --epochs at most. Where few fit, other things are made "
        "cheaper, which the log names. A run that is continued keeps its plan",
        check=Check(lambda x: 0 < x < math.inf, "above 0"),
    )
    tracker: tuple[str, ...] = flag(
        (),
        "send flags, figures of each epoch and final scores to 'tensorboard' (files below --save-dir), "
        "'mlflow' or 'wandb' (Weights & Biases), but no names of patients, frames or folders. A new run "
        "stops before it reads the data if one does not answer. Repeat the flag for several",
        action="append",
        choices=TRACKER_NAMES,
        affects=NOTHING,
    )
    tensorboard: bool = flag(False, "short for --tracker tensorboard", affects=NOTHING)
    no_figures: bool = flag(
        False, "leave out the pictures; t-SNE and UMAP take most of the time at the end", affects=NOTHING
    )
    no_rehearsal: bool = flag(
        False,
        "skip the dress rehearsal, which runs all stages on a handful of frames before the long one; below "
        f"--minutes {LEAST_REHEARSED_MINUTES} there is none",
        affects=NOTHING,
    )

    @property
    def has_rehearsal(self) -> bool:
        """Return True if the run begins with the dress rehearsal."""
        is_short = self.minutes is not None and self.minutes < LEAST_REHEARSED_MINUTES
        return not (self.no_rehearsal or is_short)

    @property
    def trackers(self) -> tuple[str, ...]:
        """The trackers of the run, each once."""
        return tuple(dict.fromkeys([*self.tracker, *["tensorboard"] * self.tensorboard]))
