"""The times that a model has been evaluated on one data set: a test set that is seen often wears out."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import write_json
from simclr_rhd.core.records import JsonObject, read_json_object

FOLDER = "evaluations"  # in the cache folder


def past_evaluations(cache_dir: Path, model: str, data: str, record: JsonObject | None) -> list[str]:
    """Times of earlier evaluations of a model on a data set, as far as this machine knows them.

    Args:
        cache_dir: the cache folder.
        model: hash of the model's file.
        data: fingerprint of the data set.
        record: `run.json` of the same evaluation in the output folder; None without one.
    """
    path, times = _path(cache_dir, model, data), set[str]()
    if path.is_file():
        try:
            times |= set(_times(read_json_object(path)))
        except UserError:
            path.unlink(missing_ok=True)  # damaged: it is written anew
    if record is not None:
        times |= set(_times(record))
    return sorted(times)


def note_evaluation(cache_dir: Path, model: str, data: str, times: Sequence[str]) -> None:
    """Keep the times of all evaluations of a model on a data set."""
    path = _path(cache_dir, model, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"evaluated": list(times)})


def now() -> str:
    """The time, to the microsecond: two evaluations differ."""
    seconds = time.time()
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{int(seconds % 1 * 1e6):06d}"


def _times(record: JsonObject) -> list[str]:
    times: list[str] = record.typed("evaluated", list[str])
    return times


def _path(cache_dir: Path, model: str, data: str) -> Path:
    name = hashlib.sha256(json.dumps([model, data]).encode()).hexdigest()[:32]
    return cache_dir / FOLDER / f"{name}.json"
