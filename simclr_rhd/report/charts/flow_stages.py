"""The steps of a participant flow in words: what is counted at each, and what is left out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simclr_rhd.data.summary.flow import Amount, DataFlow
from simclr_rhd.evaluation.results import RunResults, SplitInfo

MAX_REASONS = 8  # that are named; the others are counted together
PART_NAMES = {"train": "Training", "val": "Validation", "test": "Test"}


@dataclass(frozen=True)
class Stage:
    """A step of the flow.

    Attributes:
        lines: a heading and what is counted.
        left_out: the same of what is left out; none where nothing is.
        cells: the same of each part that the data are divided into.
    """

    lines: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    cells: tuple[tuple[str, ...], ...] = ()


def flow_stages(flow: DataFlow, results: RunResults) -> list[Stage]:
    """The steps from the files to the frames that are scored.

    Args:
        flow: of the data.
        results: of the run.
    """
    split, scored = results.split, tuple(_scored_lines(results))
    return [
        Stage(("Files", f"{flow.files:,} frames, clips and other files"), _left_out(flow)),
        Stage(("Decoded", *_amount_lines(flow.decoded)), _without_label(flow)),
        Stage(("Labelled", *_amount_lines(flow.labelled)), tuple(_contradictory(flow))),
        Stage(
            (f"Split by {split.by}", _division(split)),
            cells=tuple(
                (_part_name(name, split), _number(part["frames"], "frame"), _number(part["groups"], split.by))
                for name, part in split.parts.items()
            ),
        ),
        Stage(("Scored", *scored), tuple(_not_scored(results))),
    ]


def _number(n: float, noun: str) -> str:
    """'1 frame', '12,345 frames'."""
    return f"{n:,.0f} {noun}{'s' * (n != 1)}"


def _amount_lines(amount: Amount) -> tuple[str, ...]:
    patients = _number(amount.patients, "known patient") if amount.patients else "no patient is known"
    return f"{_number(amount.frames, 'frame')} of {_number(amount.videos, 'video')}", patients


def _left_out(flow: DataFlow) -> tuple[str, ...]:
    if not flow.left_out and not flow.read_in_part:
        return ()
    part = (f"{flow.read_in_part:,} more read in part: first frames used",) if flow.read_in_part else ()
    n = sum(flow.left_out.values())
    return f"{_number(n, 'file')} left out", *_largest(flow.left_out), *part


def _largest(counts: dict[str, int]) -> Iterator[str]:
    """The largest counts, and the sum of the others."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    yield from (f"{n:,}: {name}" for name, n in ordered[:MAX_REASONS])
    if rest := ordered[MAX_REASONS:]:
        yield f"{sum(n for _, n in rest):,}: {_number(len(rest), 'other reason')}"


def _without_label(flow: DataFlow) -> tuple[str, ...]:
    if not flow.unlabelled.frames:
        return ()
    unused = (f"{flow.unused:,} of validated or tested groups, not used",) if flow.unused else ()
    return (
        "Without any label",
        *_amount_lines(flow.unlabelled),
        f"{flow.pretraining:,} to pretrain the encoder",
        f"{flow.loss:,} to measure its loss",
        *unused,
    )


def _contradictory(flow: DataFlow) -> Iterator[str]:
    """Labels that are left out; a file may still have those of other tasks."""
    if flow.contradictory:
        yield "Contradictory labels, left out"
        yield from (f"{task}: of {_number(n, 'file')}" for task, n in flow.contradictory.items())


def _division(split: SplitInfo) -> str:
    if split.leaky:
        return "LEAKY: frames of one patient or video are in several parts"
    if split.folds > 1:
        return f"each of {split.folds} folds is tested once, by heads that learnt from the others"
    return f"no {split.by} is in two parts"


def _part_name(name: str, split: SplitInfo) -> str:
    return f"Fold {name}" if split.folds > 1 else PART_NAMES.get(name, name)


def tested_frames(split: SplitInfo) -> int:
    """Labelled frames that are tested, of any class."""
    tested: Sequence[str] = list(split.parts) if split.folds > 1 else ["test"]
    return sum(split.parts[name]["frames"] for name in tested if name in split.parts)


def _scored_lines(results: RunResults) -> Iterator[str]:
    for name, result in results.targets.items():
        scores = result.test["frame"]
        yield f"{name}: {_number(scores.n, 'frame')}, {_number(scores.groups, results.split.by)}"
    yield from (f"{task}: skipped" for task in results.skipped)


def _not_scored(results: RunResults) -> Iterator[str]:
    """Tested frames that no score counts: of classes that cannot be evaluated, or without a label."""
    lines = []
    for name, result in results.targets.items():
        scores = result.test["frame"]
        labelled = sum(map(sum, scores.confusion))
        if labelled > scores.n:
            classes = ", ".join(result.missing_classes)
            frames = _number(labelled - scores.n, "frame")
            lines.append(f"{name}: {frames} of classes that cannot be evaluated ({classes})")
        if tested_frames(results.split) > labelled:
            missing = tested_frames(results.split) - labelled
            lines.append(f"{name}: {_number(missing, 'frame')} without its label")
    if lines:
        yield "Tested, not scored"
        yield from lines
