"""`run.json`: what was run, on what, how long each stage took. `config.toml`: its flags, to run it again."""

import dataclasses
import json
import platform
import subprocess
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from simclr_rhd.core import __version__
from simclr_rhd.core.config import NOT_TAKEN_OVER, flag_name
from simclr_rhd.core.files import write_json, write_text

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

CONFIG_HEAD = f"""\
# Flags of a run of simclr-rhd, written by that run. Pass this file to --config to run it again.
# Flags on the command line win. Not in this file: {", ".join(map(flag_name, NOT_TAKEN_OVER))}.
"""
COMMENT_WIDTH = 100  # characters of a line


@dataclass(frozen=True)
class PreviousRun:
    """The run that is continued, or was finished: what its record says.

    Attributes:
        status: 'finished' or 'unfinished'.
        fingerprint: of its data.
        finished: time of its end; "" for an unfinished one, as `summary`.
        summary: its results in words.
        figures: whether it has drawn them.
    """

    status: str
    fingerprint: str
    finished: str
    summary: str
    figures: bool

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "PreviousRun":
        """Take the values of a record that was checked."""
        finished, summary = record.get("finished", ""), record.get("summary", "")
        figures = bool(record.get("figures", False))
        return cls(record["status"], record["data"]["fingerprint"], finished, summary, figures)


@dataclass(frozen=True)
class HeadlineScore:
    """Balanced accuracy of a target at the level that is judged, with its 95 % interval."""

    level: str
    value: float
    low: float | None
    high: float | None


class RunRecord:
    """`run.json`: what was run, on what, and how long each stage took.

    Args:
        before: the record of the run that is gone on with, if any.
        facts: what is known from the start.
    """

    def __init__(self, before: Mapping[str, object] | None, **facts: object) -> None:
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

    def update(self, **facts: object) -> None:
        """Add facts."""
        self.facts.update(facts)
        if self.path:
            write_json(self.path, self.facts)

    def add_plan_change(self, text: str) -> None:
        """Add what was decided otherwise than the plan of the run's time had it."""
        self.update(plan_changes=[*self.facts.get("plan_changes", []), text])

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; the times of a stopped and resumed run add up."""
        start, times = time.perf_counter(), self.facts.setdefault("wall_s", {})
        try:
            yield
        finally:
            times[name] = round(times.get(name, 0) + time.perf_counter() - start, 2)
            self.update()


def write_config(path: Path, config: Any) -> None:
    """Write the flags of a run as TOML, each below its help; `--config` reads them again.

    Args:
        path: the file.
        config: a dataclass whose fields are made by `core.config.flag`.
    """
    lines = [CONFIG_HEAD]
    for field in dataclasses.fields(config):
        if field.metadata and field.name not in NOT_TAKEN_OVER:
            value = getattr(config, field.name)
            lines += (f"# {line}" for line in textwrap.wrap(field.metadata["help"], COMMENT_WIDTH))
            comment = "# " * (value is None)  # TOML has no None
            lines.append(f"{comment}{field.name} = {_to_toml(value)}".rstrip() + "\n")
    write_text(path, "\n".join(lines))


def _to_toml(value: object) -> str:
    """A value in TOML; "" for None."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_to_toml, value))}]"
    return "" if value is None else str(value).lower()


def versions() -> dict[str, str]:
    """Versions of this program, of Python, and of the packages that a result depends on."""
    installed = {"simclr-rhd": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = "missing"
    return installed


def commit() -> str | None:
    """The commit of this checkout, with '+' where files were changed since; None outside a checkout.

    An installed package has none: the checkout around its environment is another project's.
    """
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
