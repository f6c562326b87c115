"""The knobs of a run's folder, and of what is left out of the run."""

from dataclasses import dataclass

from simclr_rhd.core.config import NOTHING, Check, flag
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.sources.remote import is_local_or_writable

TRACKER_NAMES = ("tensorboard", "mlflow", "wandb")  # and of their packages


@dataclass(frozen=True)
class RunConfig(DataConfig):
    """Knobs of where a run writes, and how it goes on; it has data, too."""

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
    tracker: tuple[str, ...] = flag(
        (),
        "send flags, figures of each epoch and final scores to 'tensorboard' (files below --save-dir), "
        "'mlflow' or 'wandb' (Weights & Biases), but no names of patients, frames or folders. Repeat the "
        "flag for several",
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
        "skip the dress rehearsal, which runs all stages on a handful of frames before the long one",
        affects=NOTHING,
    )

    @property
    def trackers(self) -> tuple[str, ...]:
        """The trackers of the run, each once."""
        return tuple(dict.fromkeys([*self.tracker, *["tensorboard"] * self.tensorboard]))
