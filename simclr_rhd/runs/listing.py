"""Runs and evaluations below some folders: when, on what, how far they came, and their scores.

A folder may hold anything: each value is checked before it is shown, and no path in a file is followed.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import HISTORY, METRICS, MODEL, RUN_RECORD, TENSORBOARD_DIR
from simclr_rhd.core.files import LOCK_FILE
from simclr_rhd.core.records import JsonObject, is_fraction, read_text
from simclr_rhd.runs.record import HeadlineScore
from simclr_rhd.runs.run_dir import is_locked

MAX_DEPTH = 4  # of a run below a folder in which it is looked for
MAX_ENTRIES = 5000  # of a folder that are looked through: a folder of frames has more
MAX_BYTES = 50_000_000  # of a file
SKIPPED = re.compile(r"\..*|site-packages|node_modules")
PARTS_OF_A_RUN = re.compile(rf"fold-\d+|{TENSORBOARD_DIR}|wandb|mlruns|exported")
LEVELS = ("video", "frame")  # the first that could be scored is the one that is judged
FINISHED, RUNNING, STOPPED = "finished", "running", "stopped"
TIME_FORMAT, TIME = "%Y-%m-%d %H:%M", re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


@dataclass(frozen=True)
class ListedRun:
    """A run or an evaluation.

    Attributes:
        folder: where it is.
        command: 'train' or 'evaluate'.
        date: of its end, or of its last epoch.
        state: FINISHED, RUNNING or STOPPED.
        epoch: the last epoch of pretraining that is done; 0 before it, and of an evaluation.
        epochs: as many as there may be.
        data: where the frames were.
        split: in words.
        scores: {target: score} on the tested frames.
        model: the file that it has written, or has evaluated; None before there is one.
    """

    folder: str
    command: str
    date: str
    state: str
    epoch: int = 0
    epochs: int = 0
    data: str = ""
    split: str = ""
    scores: dict[str, HeadlineScore] = field(default_factory=dict)
    model: str | None = None


@dataclass(frozen=True)
class Listing:
    """The runs below some folders.

    Attributes:
        runs: the newest first.
        problems: files that cannot be read, and folders that were not looked through, a line each.
    """

    runs: list[ListedRun]
    problems: list[str]


def list_runs(folders: Sequence[str]) -> Listing:
    """The runs in some folders, and below them up to `MAX_DEPTH` levels deep."""
    runs, problems, seen = list[ListedRun](), list[str](), set[tuple[int, int]]()
    for folder in folders:
        for place in _folders_below(Path(folder), seen, problems):
            try:
                runs += _read(place, problems)
            except UserError as error:
                problems.append(_first_part(error))
    return Listing(sorted(runs, key=lambda run: run.date, reverse=True), problems)


def _folders_below(
    folder: Path, seen: set[tuple[int, int]], problems: list[str], depth: int = 0
) -> Iterator[Path]:
    """A folder and those below it, each once, whatever leads to it."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            first = list(islice(entries, MAX_ENTRIES + 1))
        names = sorted(entry.name for entry in first if os.path.isdir(entry.path))  # no links in a circle
        names = [name for name in names if not SKIPPED.fullmatch(name)]
        if any(entry.name == RUN_RECORD for entry in first):
            names = [name for name in names if not PARTS_OF_A_RUN.fullmatch(name)]
    except OSError as error:
        problems.append(f"{folder}: cannot be read ({error.strerror})")
        return
    yield folder
    if len(first) > MAX_ENTRIES:
        problems.append(
            f"{folder}: not all of it was looked through, as it has more than {MAX_ENTRIES} entries"
        )
    if depth < MAX_DEPTH:
        for name in names:
            yield from _folders_below(folder / name, seen, problems, depth + 1)


def _read(folder: Path, problems: list[str]) -> Iterator[ListedRun]:
    """The run of a folder, if it has one; scores that cannot be read are a problem, and are left out.

    Raises:
        UserError: its record cannot be read.
    """
    if not (folder / RUN_RECORD).is_file():
        if is_locked(folder):  # it reads its data
            yield ListedRun(str(folder), "train", _last_change(folder / LOCK_FILE), RUNNING)
        return
    record = _read_object(folder / RUN_RECORD)
    config, is_finished = record.object("config"), record.text("status") == FINISHED
    evaluated = record.fields.get("command") == "evaluate"
    run = ListedRun(
        folder=str(folder),
        command="evaluate" if evaluated else "train",
        date=_date(record, folder, is_finished=is_finished),
        state=FINISHED if is_finished else RUNNING if is_locked(folder) else STOPPED,
        data=record.object("data").text("location") if "data" in record.fields else "",
        model=_model(folder, config, evaluated=evaluated),
    )
    if not is_finished:
        epochs = 0 if evaluated else config.count("epochs")
        yield replace(run, epoch=_last_epoch(folder), epochs=epochs)
        return
    try:
        if "scores" in record.fields:
            scores, split = _recorded_scores(record.object("scores")), record.object("split")
        else:  # of an older version
            results = _read_object(folder / METRICS)
            scores, split = _scores(results), results.object("split")
        yield replace(run, split=_describe_split(split), scores=scores)
    except UserError as error:
        problems.append(_first_part(error))
        yield run


def _read_object(path: Path) -> JsonObject:
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path}: is not there")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: has more than {MAX_BYTES:,} bytes")
    try:  # plain, as cleaning all texts takes longer than all else; those that are shown are cleaned there
        return JsonObject(json.loads(read_text(path)), str(path))
    except (ValueError, RecursionError):
        raise UserError(f"{path}: is cut off, or no JSON") from None


def _first_part(error: UserError) -> str:
    """The fault that an error names, without the advice, which is for another command."""
    return str(error).split("; ")[0]


def _date(record: JsonObject, folder: Path, *, is_finished: bool) -> str:
    """The end of a run; of one that has not ended, the last change."""
    if is_finished and TIME.match(finished := record.text("finished")):
        return finished[:16]
    return max(_last_change(folder / name) for name in (RUN_RECORD, HISTORY))


def _last_change(path: Path) -> str:
    with suppress(OSError):
        return time.strftime(TIME_FORMAT, time.localtime(path.stat().st_mtime))
    return ""


def _model(folder: Path, config: JsonObject, *, evaluated: bool) -> str | None:
    """The model that an evaluation is of, or that a run has written."""
    if evaluated:
        return config.text("model")
    return str(folder / MODEL) if (folder / MODEL).is_file() else None


def _last_epoch(folder: Path) -> int:
    """The last epoch of pretraining in the history; 0 where there is none."""
    path = folder / HISTORY
    with suppress(OSError, ValueError, RecursionError, UserError):  # no history yet, or one that is damaged
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            for line in reversed(path.read_text(encoding="utf-8").splitlines()):
                row = JsonObject(json.loads(line), str(path))
                if row.fields.get("phase") == "simclr":
                    return row.count("epoch")
    return 0


def _describe_split(split: JsonObject) -> str:
    """A split in words, such as 'by patient, 3 folds by SITE'."""
    folds, column = split.count("folds"), split.fields.get("folds_by")
    parts = [f"by {split.text('by')}"]
    if folds > 1:
        parts.append(f"{folds} folds" + (f" by {column}" if isinstance(column, str) else ""))
    return ", ".join(
        [*parts, *["your own"] * bool(split.fields.get("own")), *["LEAKY"] * split.boolean("leaky")]
    )


def _recorded_scores(scores: JsonObject) -> dict[str, HeadlineScore]:
    return {
        name: HeadlineScore(of.text("level"), value, of.fraction("low"), of.fraction("high"))
        for name, of in scores.items()
        if (value := of.fraction("value")) is not None
    }


def _scores(results: JsonObject) -> dict[str, HeadlineScore]:
    """{target: its balanced accuracy}; a task that was skipped has none, one of lesions has theirs."""
    scores = {}
    for task, of_task in results.object("tasks").items():
        lesions = of_task.object("lesions").items() if "lesions" in of_task.fields else [("", of_task)]
        for lesion, target in lesions:
            if "test" in target.fields and (score := _score(target.object("test"))):
                scores[f"{task}: {lesion}" if lesion else task] = score
    return scores


def _score(levels: JsonObject) -> HeadlineScore | None:
    for level in LEVELS:
        of_level = levels.object(level)
        value = of_level.fraction("balanced_accuracy")
        if value is not None:
            ends = of_level.object("ci95").fields.get("balanced_accuracy")
            is_interval = isinstance(ends, list) and len(ends) == 2 and all(map(is_fraction, ends))
            return HeadlineScore(level, value, *(ends if ends and is_interval else (None, None)))
    return None
