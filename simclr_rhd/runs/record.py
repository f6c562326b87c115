"""`run.json`: what was run, on what, and how long each stage took."""

import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from simclr_rhd.core.files import write_json

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
