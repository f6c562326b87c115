"""The knobs of an evaluation on another data set."""

from dataclasses import dataclass

from simclr_rhd.core.config import Check, DeviceConfig, flag
from simclr_rhd.data.config import LabelledDataConfig
from simclr_rhd.data.sources.remote import is_local_or_remote, remote_places
from simclr_rhd.evaluation.config import PrevalenceConfig


@dataclass(frozen=True)
class ExternalConfig(LabelledDataConfig, PrevalenceConfig, DeviceConfig):
    """Knobs of `evaluate`."""

    model: str = flag("models/model.pt", "model file of a run", metavar="FILE")
    data: str = flag(
        "",
        f"another labelled data set: a folder, {remote_places('BUCKET[/PREFIX]')}, or 'demo' (with "
        "--demo-seed)",
        check=Check(is_local_or_remote, f"a folder, {remote_places('BUCKET[/PREFIX]')}, or 'demo'"),
    )
    tasks: str = flag(
        "", "columns of the label table, as of the main job (default: those that the model has learnt)"
    )
    group_by: str = flag(
        "auto",
        "unit of the intervals: 'patient', 'video', or 'auto' (patient where the table has one, else video)",
        choices=("auto", "patient", "video"),
    )
    save_dir: str = flag(
        "evaluation",
        "output folder of this machine",
        check=Check(lambda place: place != "" and "://" not in place, "a folder of this machine"),
    )
    overwrite: bool = flag(False, "replace an evaluation of another model, data set or --tasks in --save-dir")
    exclude_known: bool = flag(
        False,
        "leave out the frames that the model has learnt from, and all frames of patients that it has learnt "
        "from, instead of refusing the data set",
    )
    ignore_patient_ids: bool = flag(
        False,
        "do not compare patients' identifiers with those that the model has learnt from, as each hospital "
        "counts its patients anew; frames are still compared",
    )
    no_figures: bool = flag(False, "leave out the pictures")
    seed: int = flag(
        42,
        "seed of everything random",
        check=Check(lambda x: 0 <= x < 2**32, "between 0 and 4294967295"),
    )
