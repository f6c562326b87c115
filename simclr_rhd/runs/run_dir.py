"""A run in its folder: whether it may start there, what it was, and how far it came."""

import fcntl
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import ensure_writable_dir, write_json
from simclr_rhd.core.records import read_json_object
from simclr_rhd.data.labels.vocabulary import TASKS

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "umap-learn",
    "matplotlib",
    "pillow",
    "google-cloud-storage",
)
PROTECTED_FILES = ("simclr_best.pt", "simclr_last.pt", "model.pt", "metrics.json")  # took a run hours to make
FINETUNED_MODEL = "model_finetuned.pt"
FOLD_DIR = "fold-{}"  # folder of the pretraining of a fold
FOLD_FILES = ("simclr_best.pt", "simclr_last.pt", "history.jsonl", "bad_batch.txt")  # files in it
DRY_RUN_PREFIX, TENSORBOARD_DIR = ".rehearsal-", "tensorboard"  # folders
# All that a run writes; a new run removes these and nothing else.
OUTPUTS = (
    *PROTECTED_FILES,
    FINETUNED_MODEL,
    "run.json",
    "simclr_rhd.log",
    "history.jsonl",
    "rejected.csv",
    "conflicts.csv",
    "split.csv",
    "predictions.csv",
    "leak_audit.csv",
    "label_efficiency.png",
    "report.html",
    "model_card.md",
    "simclr_training_loss.png",
    "simclr_diagnostics.png",
    "simclr_views.png",
    "bad_batch.txt",
    *(
        name.format(task)
        for name in (
            "classifier_{}_loss.png",
            "confusion_matrix_{}.png",
            "comparison_{}.png",
            "reliability_{}.png",
            "tsne_{}.png",
            "umap_{}.png",
        )
        for task in TASKS
    ),
)


@contextmanager
def lock_run_dir(save_dir: Path) -> Iterator[None]:
    """Hold `save_dir` for this process; the lock goes with the process, however it ends.

    Raises:
        UserError: the folder cannot be made, or another run is writing to it.
    """
    ensure_writable_dir(save_dir, flag="--save-dir")
    with (save_dir / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--save-dir {save_dir}: another run is writing there; wait for it, or name another folder"
            ) from None
        except OSError as error:
            raise UserError(
                f"--save-dir {save_dir}: cannot be locked ({error.strerror}); name a folder on a local disk"
            ) from None
        for path in save_dir.glob(".*.part"):  # of a run that was killed while it saved
            path.unlink()
        for path in save_dir.glob(f"{DRY_RUN_PREFIX}*"):  # or while it rehearsed
            shutil.rmtree(path, ignore_errors=True)
        yield


def resume_or_refuse(
    save_dir: Path,
    signature: dict[str, Any],
    *,
    resume: str,
    overwrite: bool,
    changeable: Collection[str] = (),
    reevaluate: bool = False,
) -> dict[str, Any] | None:
    """Decide what a run with this signature does in `save_dir`; changes nothing there.

    A folder in which no run came as far as its first checkpoint is free.

    Args:
        save_dir: the folder, locked by this process.
        signature: what decides the run's result.
        resume: 'auto' goes on with an unfinished run of the same signature; 'never' refuses.
        overwrite: whatever is there may be replaced.
        changeable: names in a signature that only decide about what follows pretraining.
        reevaluate: what follows pretraining is repeated, and may be of other values of these.

    Returns:
        The record of the run of this signature that is there, finished or not; None for a new run.

    Raises:
        UserError: the folder holds another run, or files of one whose record is lost.
    """
    left = [name for name in PROTECTED_FILES if (save_dir / name).exists()]
    if overwrite or not left:
        return None
    try:
        record = _read_record(save_dir / "run.json")
    except UserError as error:
        raise UserError(
            f"--save-dir {save_dir} holds {left[0]} but no record of its run ({str(error).split('; ')[0]}); "
            "name another folder, or pass --overwrite to replace what is there"
        ) from None
    before = record["signature"]
    differing = [name for name in signature.keys() | before.keys() if signature.get(name) != before.get(name)]
    if reevaluate and set(differing) <= set(changeable):
        return record | {"status": "unfinished", "wall_s": {}}
    if differing or resume == "never":
        differences = (
            ", ".join(_describe_difference(name, before, signature) for name in sorted(differing))
            or "the same configuration, and --resume never"
        )
        keeping = set(differing) <= set(changeable) and bool(differing)
        raise UserError(
            f"--save-dir {save_dir} holds another run ({differences}); name another folder, or "
            + "pass --evaluate-again to keep its pretraining and replace the rest, or " * keeping
            + "pass --overwrite to replace it"
        )
    return record


def _read_record(path: Path) -> dict[str, Any]:
    """The record of a run that is gone on with, or is finished.

    Raises:
        UserError: a value that is needed is missing, or of another kind.
    """
    record = read_json_object(path)
    status = record.get("status", lambda x: x in ("finished", "unfinished"), "'finished' or 'unfinished'")
    record.object("signature")
    record.object("data").text("fingerprint")
    times = record.object("wall_s") if "wall_s" in record.fields else None
    for stage in times.fields if times else ():
        if times and times.number(stage) is None:
            raise UserError(f"{times.where}: {stage}: found null, wanted seconds")
    if status == "finished":
        record.text("finished"), record.text("summary"), record.boolean("figures")
    return record.fields


def _describe_difference(name: str, before: dict[str, Any], signature: dict[str, Any]) -> str:
    """In words."""
    flag = f"--{name.replace('_', '-')}"
    if name in before and name in signature:
        return f"{flag} was {before[name]}, is {signature[name]}"
    return f"of another version of this program, which knew {'no' if name in signature else 'a'} {flag}"


def is_output(name: str) -> bool:
    """Whether a run writes a file of this name, below its folder."""
    folder, _, file = name.rpartition("/")
    return name in OUTPUTS or (file in FOLD_FILES and bool(re.fullmatch(r"fold-[0-9]{1,3}", folder)))


def outputs(save_dir: Path) -> list[str]:
    """Names of the files that a run has written into a folder."""
    paths = [*save_dir.glob("*"), *save_dir.glob(f"{FOLD_DIR.format('*')}/*")]
    names = [path.relative_to(save_dir).as_posix() for path in paths if path.is_file()]
    return sorted(name for name in names if is_output(name))


def clear(save_dir: Path) -> None:
    """Remove what an earlier run left, once a new one is known to be possible."""
    for name in OUTPUTS:
        (save_dir / name).unlink(missing_ok=True)
    shutil.rmtree(save_dir / TENSORBOARD_DIR, ignore_errors=True)
    for folder in {
        path.parent for name in FOLD_FILES for path in save_dir.glob(f"{FOLD_DIR.format('*')}/{name}")
    }:
        for name in FOLD_FILES:
            (folder / name).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


class RunRecord:
    """`run.json`: what was run, on what, and how long each stage took.

    Args:
        before: the record of the run that is gone on with, if any.
        facts: what is known from the start.
    """

    def __init__(self, before: dict[str, Any] | None, **facts: Any) -> None:
        self.path: Path | None = None
        self.facts: dict[str, Any] = {
            **(before or {}),
            "status": "unfinished",
            "versions": versions(),
            "commit": commit(),
            **facts,
        }

    def write_to(self, path: Path) -> None:
        """Save now, and anew at every change."""
        self.path = path
        self.update()

    def update(self, **facts: Any) -> None:
        """Add facts."""
        self.facts.update(facts)
        if self.path:
            write_json(self.path, self.facts)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; the times of a stopped and resumed run add up."""
        start, times = time.perf_counter(), self.facts.setdefault("wall_s", {})
        try:
            yield
        finally:
            times[name] = round(times.get(name, 0) + time.perf_counter() - start, 2)
            self.update()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = "missing"
    return installed


def commit() -> str | None:
    """The commit of this checkout, with '+' where files were changed since; None outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
