"""All that a run writes into its folder; a new run removes these files and nothing else."""

import re
import shutil
from contextlib import suppress
from pathlib import Path

from simclr_rhd.core import file_names as names
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.records import read_json_object
from simclr_rhd.data.labels.tasks.flag import is_task_name, parse_tasks
from simclr_rhd.data.labels.vocabulary import DEFAULT_TASKS

FOLD_FILES = (names.BEST_CHECKPOINT, names.LAST_CHECKPOINT, names.HISTORY, names.BAD_BATCH_FILE)
TASK_FILES = (
    names.CLASSIFIER_LOSS,
    names.CONFUSION_MATRIX,
    names.COMPARISON,
    names.RELIABILITY,
    *names.EMBEDDING_MAPS.values(),
)
OUTPUTS = (
    *names.PROTECTED_FILES,
    names.FINETUNED_MODEL,
    names.RUN_RECORD,
    names.CONFIG_FILE,
    names.LOG,
    names.HISTORY,
    names.REJECTED,
    names.CONFLICTS,
    names.SPLIT,
    names.PREDICTIONS,
    names.LEAK_AUDIT,
    names.LABEL_DOUBTS,
    names.LABEL_STUDIO_TASKS,
    names.LABEL_STUDIO_CONFIG,
    names.LABEL_EFFICIENCY,
    names.REPORT,
    names.MODEL_CARD,
    names.CHECKLIST,
    names.PARTICIPANT_FLOW,
    names.TRAINING_LOSS,
    names.DIAGNOSTICS,
    names.VIEWS,
    names.BAD_BATCH_FILE,
    *(names.SCREENING.format(number) for number in range(1, names.MAX_QUESTIONS + 1)),
)


def is_output(name: str) -> bool:
    """Return True if a run writes a file of this name, below its folder."""
    folder, _, file = name.rpartition("/")
    in_fold = file in FOLD_FILES and re.fullmatch(r"fold-[0-9]{1,3}", folder) is not None
    return name in OUTPUTS or in_fold or any(_is_of_task(name, pattern) for pattern in TASK_FILES)


def _is_of_task(name: str, pattern: str) -> bool:
    """Return True for a file that a run with some --tasks writes."""
    before, after = pattern.split("{}")
    fits = name.startswith(before) and name.endswith(after)
    return fits and is_task_name(name.removeprefix(before).removesuffix(after))


def _task_files(save_dir: Path) -> list[str]:
    """Names of the files of each task of the run that is there: no others, which may be the user's own."""
    tasks = {task.name for task in DEFAULT_TASKS}
    with suppress(UserError, ValueError):  # no record, or one of before --tasks
        config = read_json_object(save_dir / names.RUN_RECORD).object("config")
        tasks |= {task.name for task in parse_tasks(config.text("tasks"))}
    return [name.format(task) for name in TASK_FILES for task in sorted(tasks)]


def list_outputs(save_dir: Path) -> list[str]:
    """Names of the files that a run has written into a folder."""
    paths = [*save_dir.glob("*"), *save_dir.glob(f"{names.FOLD_DIR.format('*')}/*")]
    files = (path.relative_to(save_dir).as_posix() for path in paths if path.is_file())
    return sorted(filter(is_output, files))


def clear_pictures(save_dir: Path) -> None:
    """Remove the pictures of the previous evaluation; not each evaluation draws all of them anew."""
    for name in (*OUTPUTS, *_task_files(save_dir)):
        if name.endswith(".png"):
            (save_dir / name).unlink(missing_ok=True)


def clear(save_dir: Path) -> None:
    """Remove what an earlier run left, once a new one is known to be possible."""
    for name in (*OUTPUTS, *_task_files(save_dir)):
        (save_dir / name).unlink(missing_ok=True)
    shutil.rmtree(save_dir / names.TENSORBOARD_DIR, ignore_errors=True)
    (save_dir / names.SENT_EPOCHS).unlink(missing_ok=True)  # stays on this machine, like TensorBoard's files
    fold_files = [
        path for name in FOLD_FILES for path in save_dir.glob(f"{names.FOLD_DIR.format('*')}/{name}")
    ]
    for path in fold_files:
        path.unlink()
    for folder in {path.parent for path in fold_files}:
        if not any(folder.iterdir()):
            folder.rmdir()
