"""The tables of a run's data: the files left out, the conflicts between annotators, the split."""

from pathlib import Path

from simclr_rhd.core.file_names import CONFLICTS, REJECTED, SPLIT
from simclr_rhd.core.files import write_rows
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.labels.labels import Labels
from simclr_rhd.data.store.store import Store


def write_tables(dataset: Dataset, save_dir: Path) -> None:
    """Write `rejected.csv`, `conflicts.csv` and `split.csv`."""
    store, labels = dataset.store, dataset.labels
    write_rejected(store, save_dir / REJECTED)
    write_conflicts(labels, save_dir / CONFLICTS)
    write_rows(
        save_dir / SPLIT,
        ["path", "video", "patient", "group", "part"],
        zip(store.keys, labels.videos, labels.patients, dataset.groups, dataset.display_part(), strict=True),
    )


def write_conflicts(labels: Labels, path: Path) -> None:
    """Write `conflicts.csv`: where rows of one file disagree, and the reading that is used."""
    write_rows(
        path,
        ["path", "task", "readings", "users", "times", "used"],
        [
            (c.file, c.task, " | ".join(c.readings), " | ".join(c.users), " | ".join(c.times), c.used)
            for c in labels.conflicts
        ],
    )


def write_rejected(store: Store, path: Path) -> None:
    """Write `rejected.csv`: the files that could not be read, with the reasons."""
    write_rows(path, ["path", "reason"], store.rejected)
