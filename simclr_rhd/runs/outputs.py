"""All that a run writes into its folder; a new run removes these files and nothing else."""

import re
import shutil
from pathlib import Path

from simclr_rhd.core import file_names as names
from simclr_rhd.data.labels.vocabulary import TASKS

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
    *(name.format(task) for name in TASK_FILES for task in TASKS),
)


def is_output(name: str) -> bool:
    """Return True if a run writes a file of this name, below its folder."""
    folder, _, file = name.rpartition("/")
    return name in OUTPUTS or (file in FOLD_FILES and bool(re.fullmatch(r"fold-[0-9]{1,3}", folder)))


def list_outputs(save_dir: Path) -> list[str]:
    """Names of the files that a run has written into a folder."""
    paths = [*save_dir.glob("*"), *save_dir.glob(f"{names.FOLD_DIR.format('*')}/*")]
    files = (path.relative_to(save_dir).as_posix() for path in paths if path.is_file())
    return sorted(filter(is_output, files))


def clear(save_dir: Path) -> None:
    """Remove what an earlier run left, once a new one is known to be possible."""
    for name in OUTPUTS:
        (save_dir / name).unlink(missing_ok=True)
    shutil.rmtree(save_dir / names.TENSORBOARD_DIR, ignore_errors=True)
    fold_files = [
        path for name in FOLD_FILES for path in save_dir.glob(f"{names.FOLD_DIR.format('*')}/{name}")
    ]
    for path in fold_files:
        path.unlink()
    for folder in {path.parent for path in fold_files}:
        if not any(folder.iterdir()):
            folder.rmdir()
