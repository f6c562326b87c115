"""Earlier evaluations: in the output folder, and how many of a model on one data set.

A test set that is seen often wears out.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from simclr_rhd.core import file_names
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import write_json
from simclr_rhd.core.records import JsonObject, read_json_object
from simclr_rhd.data.labels.tasks.flag import parse_tasks
from simclr_rhd.inference.external.config import ExternalConfig
from simclr_rhd.inference.external.labelled_data import ExternalData
from simclr_rhd.inference.external.results import ModelSource

COMMAND = "evaluate"  # in `run.json`: no run of the main job
FOLDER = "evaluations"  # in the cache folder


def previous_evaluation(save_dir: Path) -> JsonObject | None:
    """The record of an evaluation in the output folder; None where there is none.

    Raises:
        UserError: the folder holds a run of the main job.
    """
    path = save_dir / file_names.RUN_RECORD
    record = read_json_object(path) if path.is_file() else None
    if record and record.fields.get("command") == COMMAND:
        return record
    if record or any((save_dir / name).exists() for name in file_names.PROTECTED_FILES):
        raise UserError(
            f"--save-dir {save_dir} holds a run of the main job, which an evaluation must not replace; name "
            "another folder"
        )
    return None


def refuse_other(
    config: ExternalConfig, previous: JsonObject, of_model: ModelSource, data: ExternalData
) -> None:
    """Refuse to replace an evaluation of another model, on other data or of other tasks without --overwrite.

    Args:
        config: of this evaluation; its tasks are named.
        previous: record of the evaluation in the output folder.
        of_model: the model.
        data: the data set.

    Raises:
        UserError: it is another one.
    """
    tasks = _field(previous, "config", "tasks")
    if _field(previous, "model", "sha256") != of_model.sha256:
        other = "of another model"
    elif _field(previous, "data", "fingerprint") != data.fingerprint:
        other = "on other data"
    elif not _same_tasks(tasks, config.tasks):
        other = "with other --tasks" + f" ({tasks})" * bool(tasks)
    else:
        return
    if not config.overwrite:
        raise UserError(
            f"--save-dir {config.save_dir} holds an evaluation {other}; name another folder, or pass "
            "--overwrite to replace it"
        )


def _field(record: JsonObject, part: str, name: str) -> object:
    """A field of an object in a record; None where it is not there."""
    of_part = record.fields.get(part)
    return of_part.get(name) if isinstance(of_part, dict) else None


def _same_tasks(*texts: object) -> bool:
    """Return True if two texts name the same tasks, in any order and way of writing them."""
    try:
        first, second = ({task.name: task for task in parse_tasks(str(text))} for text in texts)
    except ValueError:  # of a damaged record
        return False
    return first == second


def past_evaluations(cache_dir: Path, model: str, pictures: str, record: JsonObject | None) -> list[str]:
    """Times of earlier evaluations of a model on some pictures, as far as its folders hold them.

    Labels do not count: a table that is mended, or has one more empty line, is no new test set.

    Args:
        cache_dir: the cache folder.
        model: hash of the model's file.
        pictures: their digest.
        record: `run.json` of an evaluation in the output folder; None without one.
    """
    path, times = _path(cache_dir, model, pictures), set[str]()
    if path.is_file():
        try:
            times |= set(_times(read_json_object(path)))
        except UserError:
            path.unlink(missing_ok=True)  # damaged: it is written anew
    if record is not None and _is_of(record, model, pictures):
        times |= set(_times(record))
    return sorted(times)


def note_evaluation(cache_dir: Path, model: str, pictures: str, times: Sequence[str]) -> None:
    """Keep the times of all evaluations of a model on some pictures."""
    path = _path(cache_dir, model, pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"evaluated": list(times)})


def now() -> str:
    """The time, to the microsecond: two evaluations differ."""
    seconds = time.time()
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{int(seconds % 1 * 1e6):06d}"


def _times(record: JsonObject) -> list[str]:
    times: list[str] = record.typed("evaluated", list[str])
    return times


def _is_of(record: JsonObject, model: str, pictures: str) -> bool:
    """Return True for the record of an evaluation of a model on some pictures."""
    return (_field(record, "model", "sha256"), _field(record, "data", "pictures")) == (model, pictures)


def _path(cache_dir: Path, model: str, pictures: str) -> Path:
    name = hashlib.sha256(json.dumps([model, pictures]).encode()).hexdigest()[:32]
    return cache_dir / FOLDER / f"{name}.json"
