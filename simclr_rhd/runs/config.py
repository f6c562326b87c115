"""The knobs of a run's folder, and of what is left out of the run."""

from dataclasses import dataclass

from simclr_rhd.core.config import NOTHING, Check, flag
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.sources.remote import is_local_or_writable


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
    no_figures: bool = flag(
        False, "leave out the pictures; t-SNE and UMAP take most of the time at the end", affects=NOTHING
    )
    no_rehearsal: bool = flag(
        False,
        "skip the dress rehearsal, which runs all stages on a handful of frames before the long one",
        affects=NOTHING,
    )
