"""What a run found, in words: the short table at its end, and `report.html`, all of it on one page.

A figure that could not be computed stands as '-', never as 0.
"""

import base64
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simclr_rhd.files import replacing

WIDTH = 110  # columns of the short table
LEVELS = ("video", "frame")
FEWEST_GROUPS = 5  # in the test part; with fewer, resampling them says next to nothing
SYNTHETIC = "SYNTHETIC demo data: nothing here says anything about patients."
LEAKY = (
    "LEAKY split: frames of one patient or video stand in both training and test, so these figures are "
    "too good and say nothing about new patients."
)


def summary(metrics: dict[str, Any], *, save_dir: Path) -> str:
    """The short table printed at the end of a run, at most 110 columns wide."""
    by = metrics["split"]["by"]
    lines = [_row("test part", "n", f"{by}s", "accuracy", "balanced accuracy", "majority*", "raw pixels*")]
    lines.append("-" * len(lines[0]))
    remarks = []
    for task, result in metrics["tasks"].items():
        if "skipped" not in result:
            lines += [_scores_row(task, level, result) for level in LEVELS]
        remarks += _remarks(task, result)
    lines += [
        "* balanced accuracy of always saying the most frequent class, and of raw pixels without a network",
        f"[95 % interval over {by}s]   - cannot be computed",
        "",
        *remarks,
        *verdicts(metrics),
        "",
    ]
    wrapped = [part for line in warnings_of(metrics) + lines for part in _wrapped(line)]
    look_at = f"Look at {save_dir / 'report.html'}"  # not wrapped: a path is to be copied
    beside = (
        "Beside it: the pictures, metrics.json, predictions.csv, run.json, and model.pt, the trained model"
    )
    return "\n".join([*wrapped, look_at, beside])


def verdicts(metrics: dict[str, Any]) -> list[str]:
    """For each task, plain words on whether the model beats its comparators on the test part.

    Judged by balanced accuracy, per video where that is known, else per frame.
    """
    found = []
    for task, result in metrics["tasks"].items():
        for level in LEVELS if "skipped" not in result else ():
            if (ours := result["test"][level].get("balanced_accuracy")) is not None:
                verdict = _verdict(result, level)
                found.append(f"{task}: balanced accuracy per {level} {ours:.2f} {verdict}.")
                break
    return found


def warnings_of(metrics: dict[str, Any]) -> list[str]:
    """What must be read before any figure: synthetic data, a leaky split."""
    return [SYNTHETIC] * bool(metrics["synthetic"]) + [LEAKY] * bool(metrics["split"]["leaky"])


def write_html(
    path: Path,
    *,
    metrics: dict[str, Any],
    run: dict[str, Any],
    figures: Mapping[str, Path],
) -> None:
    """Write one self-contained page: no script, nothing fetched; all names are escaped.

    Args:
        path: the file to write.
        metrics: the content of `metrics.json`.
        run: the content of `run.json`; shown as it is.
        figures: PNG files by title, in order.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {"figure": figure, "interval": interval}
    pictures = {title: base64.b64encode(picture.read_bytes()).decode() for title, picture in figures.items()}
    facts: dict[str, Any] = {"run": {}}
    for name, value in run.items():
        if isinstance(value, Mapping) and name != "signature":  # the configuration says that, too
            facts[name] = value
        elif name not in (
            "signature",
            "summary",
            "status",
            "finished",
            "figures",
        ):  # known once this is written
            facts["run"][name] = value
    text = page.get_template("report.html").render(
        metrics=metrics,
        run=facts,
        pictures=pictures,
        warnings=warnings_of(metrics),
        verdicts=verdicts(metrics),
        baseline=_baseline,
        is_table=_is_table,
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def figure(value: float | None, digits: int = 2) -> str:
    """A score with `digits` decimals, a count as it is, '-' for what cannot be computed."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def interval(scores: dict[str, Any], name: str) -> str:
    """A score with its 95 % interval where there is one: '0.91 [0.85, 0.96]'."""
    bounds = (scores.get("ci95") or {}).get(name)
    around = f" [{figure(bounds[0])}, {figure(bounds[1])}]" if bounds else ""
    return figure(scores.get(name)) + around


def _baseline(result: dict[str, Any], name: str, level: str) -> dict[str, Any]:
    """Scores of a baseline: those per frame stand at the top, those per video below "video"."""
    scores = result["baselines"][name]
    return scores["video"] if level == "video" else scores


def _is_table(value: Mapping[str, Any]) -> bool:
    """Whether the values are records with the same names, so that they make rows of one table."""
    rows = list(value.values())
    flat = all(
        isinstance(row, Mapping) and not any(isinstance(cell, Mapping) for cell in row.values())
        for row in rows
    )
    return flat and len(rows) > 1 and len({tuple(row) for row in rows}) == 1


def _verdict(result: dict[str, Any], level: str) -> str:
    rivals = {
        f"{words} ({figure(_baseline(result, name, level)['balanced_accuracy'])})": margin
        for name, words in (("pixels", "raw pixels"), ("majority", "the most frequent class"))
        if (margin := result["margins"][name][level])["balanced_accuracy"] is not None
    }
    unbeaten = [words for words, margin in rivals.items() if margin["balanced_accuracy"] <= 0]
    close = [words for words, margin in rivals.items() if (margin["ci95"] or [0])[0] <= 0]
    if unbeaten:
        return f"does NOT beat {' or '.join(unbeaten)}"
    if result["test"][level]["groups"] < FEWEST_GROUPS:
        return f"is above {' and '.join(rivals)}, but too few groups are in the test part to tell"
    if close:
        return f"is above {' and '.join(close)}, but that may be chance (95 % interval of the difference)"
    return f"beats {' and '.join(rivals)}" if rivals else "has nothing to be compared with"


def _row(*cells: str) -> str:
    return "{:<21}{:>6}{:>10}  {:<18}  {:<18}  {:>10}{:>13}".format(*cells)


def _scores_row(task: str, level: str, result: dict[str, Any]) -> str:
    scores = result["test"][level]
    beside = [
        figure(_baseline(result, name, level).get("balanced_accuracy")) for name in ("majority", "pixels")
    ]
    return _row(
        f"{task} per {level}",
        figure(scores.get("n")),
        figure(scores.get("groups")),
        interval(scores, "accuracy"),
        interval(scores, "balanced_accuracy"),
        *beside,
    )


def _remarks(task: str, result: dict[str, Any]) -> list[str]:
    """Which classes a task's figures leave out, and why there are none if so."""
    if "skipped" in result:
        return [f"{task}: skipped, {result['skipped']}"]
    left_out = [row["class"] for row in result["not_evaluable"]]
    remarks = (
        [
            f"{task}: {len(result['classes']) - len(left_out)} of {len(result['classes'])} classes are "
            f"evaluated; this split cannot evaluate {', '.join(left_out)}"
        ]
        if left_out
        else []
    )
    reasons = {result["test"][level].get("reason"): level for level in reversed(LEVELS)}
    return remarks + [f"{task}: no scores per {level}, {why}" for why, level in reasons.items() if why]


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False) or [""]
