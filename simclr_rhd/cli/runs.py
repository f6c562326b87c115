"""The command `runs`: the runs that are there, on the terminal or as JSON."""

import dataclasses
import json
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator

from simclr_rhd.cli.arguments import RunsArgs
from simclr_rhd.core.text import printable
from simclr_rhd.runs.listing import FINISHED, RUNNING, ListedRun, Listing, list_runs
from simclr_rhd.runs.record import HeadlineScore

INDENT, MIN_WIDTH = "    ", 40


def runs(config: RunsArgs) -> None:
    """Print the runs below some folders, the newest first."""
    listing = list_runs(config.folders or ["."])
    text = json.dumps(dataclasses.asdict(listing), indent=2) if config.json else _describe(listing, config)
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe(listing: Listing, config: RunsArgs) -> str:
    """The text for the terminal; only paths, which are to be copied, are wider than it."""
    width = max(MIN_WIDTH, shutil.get_terminal_size((110, 24)).columns)
    blocks = [_block(run, width) for run in listing.runs]
    if not blocks:
        blocks = [f"no runs in {' '.join(config.folders) or 'this folder'}, up to four levels deep"]
    blocks += [textwrap.fill(problem, width, subsequent_indent=INDENT) for problem in listing.problems]
    return printable("\n\n".join(blocks), keep="\n")


def _block(run: ListedRun, width: int) -> str:
    """The lines of a run."""
    split = f"split {run.split}" if run.split else ""
    scores = ", ".join(f"{name} {_format(score)}" for name, score in run.scores.items())
    facts = [_state(run), run.data, split, f"balanced accuracy {scores}" if scores else ""]
    lines = [
        f"{run.date}  {_path(run.folder)}",
        *(
            line
            for fact in facts
            if fact
            for line in textwrap.wrap(fact, width, initial_indent=INDENT, subsequent_indent=2 * INDENT)
        ),
        *_model_line(run),
    ]
    return "\n".join(lines)


def _state(run: ListedRun) -> str:
    """The state in words, and how far a run came that has not ended."""
    text = f"{run.state}{' now' * (run.state == RUNNING)}"
    if run.command == "evaluate":
        return f"evaluation, {text}"
    if run.state == FINISHED:
        return text
    if not run.epoch:
        return f"{text} before the end of the first epoch"
    return f"{text} after epoch {run.epoch} of {run.epochs}"


def _model_line(run: ListedRun) -> Iterator[str]:
    if run.model:
        yield INDENT + ("of " * (run.command == "evaluate")) + f"--model {_path(run.model)}"


def _format(score: HeadlineScore) -> str:
    interval = "" if score.low is None or score.high is None else f" [{score.low:.2f}, {score.high:.2f}]"
    return f"{score.value:.2f}{interval} per {score.level}"


def _path(path: str) -> str:
    """A path as a shell reads it."""
    return shlex.quote(printable(path))
