"""Knobs of the commands beside the main job, and the rules between them. Nothing heavy is imported here."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from simclr_rhd.cli.parser import out_of_range
from simclr_rhd.core.config import DeviceConfig, flag, flag_name
from simclr_rhd.data.config import ClipConfig, InputConfig, LabelledDataConfig
from simclr_rhd.data.sources.remote import remote_places
from simclr_rhd.inference.external.config import ExternalConfig


@dataclass(frozen=True)
class ModelArgs:
    """The model that a command reads."""

    model: str = flag("models/model.pt", "model file of a run", metavar="FILE")


@dataclass(frozen=True)
class CompareArgs:
    """Knobs of `compare`: the folders of finished runs, the reference first, and the page to write."""

    runs: tuple[str, ...] = flag(
        (), "folder of a finished run (its --save-dir)", positional=True, nargs="*", metavar="DIR"
    )
    out: str = flag("comparison.html", "page to write", metavar="FILE.html")


@dataclass(frozen=True)
class RunsArgs:
    """Knobs of `runs`."""

    folders: tuple[str, ...] = flag(
        (),
        "where to look, up to four levels deep (default: the current folder)",
        positional=True,
        nargs="*",
        metavar="FOLDER",
    )
    json: bool = flag(False, "print JSON, for scripts")


@dataclass(frozen=True)
class PredictArgs(ClipConfig, DeviceConfig, ModelArgs):
    """Knobs of `predict`."""

    paths: tuple[str, ...] = flag(
        (),
        f"a file, a folder, or {remote_places('BUCKET/...')}, of frames, clips, DICOM",
        positional=True,
        nargs="*",
        metavar="PATH",
    )
    out: str = flag("predictions.csv", "table to write: one row per frame and task", metavar="FILE.csv")
    html: str | None = flag(
        None,
        "page to write as well, for who reads the exams: for each patient (or video, where patients are not "
        "known) the predictions, the frames that decided, and what the model cannot know",
        metavar="FILE.html",
    )
    patients_csv: str | None = flag(
        None,
        "a table with columns FILENAME and PATIENT; DICOM files name their patient themselves",
        metavar="FILE",
    )
    prevalence: tuple[str, ...] = flag(
        (),
        "prevalence of a class in the population that the frames come from; probabilities are adjusted to it "
        "(default: prevalence in the validation groups). Repeat the flag for several classes; the others "
        "keep their proportions. The predicted class stays the same",
        action="append",
        metavar="CLASS=SHARE",
    )


@dataclass(frozen=True)
class ExportArgs(InputConfig, ModelArgs):
    """Knobs of `export`."""

    out: str | None = flag(None, "folder (default: 'exported' beside the model)", metavar="DIR")
    frames: tuple[str, ...] = flag(
        (),
        "real frames to fit the 8-bit weights on and to check with: files, folders, "
        f"{remote_places('BUCKET/...')} (default: labelled frames of the run)",
        nargs="+",
        metavar="PATH",
    )


Command = CompareArgs | RunsArgs | PredictArgs | ExportArgs | ExternalConfig


def compare_problems(config: CompareArgs) -> Iterator[str]:
    """The first problem of what `compare` is given."""
    if len(config.runs) < 2:
        yield f"wanted the folders of two or more finished runs, got {len(config.runs)}"
    elif not _is_page_name(config.out):
        yield f"--out {config.out}: wanted a file whose name ends in .html"


def runs_problems(config: RunsArgs) -> Iterator[str]:
    """The problems of what `runs` is given."""
    for folder in config.folders:
        if not os.path.isdir(folder):
            yield f"{folder}: {'is no folder' if os.path.exists(folder) else 'no such folder'}"


def predict_problems(config: PredictArgs) -> Iterator[str]:
    """The problems of what `predict` is given."""
    for text in config.prevalence:
        if not _is_class_share(text):
            yield f"--prevalence {text}: wanted CLASS=SHARE, as in 'Definite RHD=0.02'"
    if not config.paths:
        yield "nothing to classify: wanted at least one PATH"
    if not config.out.lower().endswith(".csv"):
        yield f"--out {config.out}: wanted a file whose name ends in .csv"
    if config.html is not None and not _is_page_name(config.html):
        yield f"--html {config.html}: wanted a file whose name ends in .html"
    yield from _missing_model(config.model)
    if config.billing_project is not None and not any(path.startswith("gs://") for path in config.paths):
        yield f"--billing-project {config.billing_project}: only a path gs://BUCKET/... reads it"
    yield from out_of_range(config)


def evaluate_problems(config: ExternalConfig) -> Iterator[str]:
    """The problems of what `evaluate` is given."""
    if not config.data:
        yield "nothing to evaluate on: wanted --data with another labelled data set"
    else:
        yield from out_of_range(config)
    yield from _missing_model(config.model)
    yield from demo_problems(config)
    if config.billing_project is not None and not config.data.startswith("gs://"):
        yield f"--billing-project {config.billing_project}: only gs://BUCKET in --data reads it"


def demo_problems(config: LabelledDataConfig) -> Iterator[str]:
    """Flags of the demo that other data do not read."""
    for name, noun in (("demo_patients", "patients"), ("demo_seed", "hospitals")):
        value = getattr(config, name)
        if value != getattr(LabelledDataConfig, name) and not config.synthetic:
            yield f"{flag_name(name)} {value}: only --data demo has demo {noun}"


def export_problems(config: ExportArgs) -> Iterator[str]:
    """The problems of what `export` is given."""
    yield from _missing_model(config.model)
    yield from out_of_range(config)


def _is_page_name(name: str) -> bool:
    return name.lower().endswith((".html", ".htm"))


def _missing_model(path: str) -> Iterator[str]:
    if not Path(path).is_file():
        reason = "is a folder" if Path(path).is_dir() else "no such file"
        yield f"--model {path}: {reason}; wanted the model.pt that a run has written"


def class_shares(texts: Sequence[str]) -> dict[str, float]:
    """{class: share} of CLASS=SHARE."""
    return {name.strip(): float(share) for name, _, share in (text.rpartition("=") for text in texts)}


def _is_class_share(text: str) -> bool:
    name, _, share = text.rpartition("=")
    try:
        return bool(name.strip()) and math.isfinite(float(share))
    except ValueError:
        return False
