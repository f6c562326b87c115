"""The targets that a finished run was tested with: their scores in `metrics.json`, and its predictions.

Notation: C classes of a target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.records import RECOVERY_ADVICE, JsonObject, is_fraction
from simclr_rhd.data.labels.prevalence import balanced_choice
from simclr_rhd.evaluation.results import JUDGED_LEVELS
from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.report.compare.predictions import Row, TestPredictions, parse_predictions, read_predictions


@dataclass(frozen=True)
class TestedTarget:
    """A target that a run was tested with: a task, or one of its lesions.

    Attributes:
        classes: C names, all different.
        evaluable: those that count.
        level: what is judged, 'video' or 'frame'; None where neither could be scored.
        ours: {level: the run's score}.
        pixels: {level: the score of raw pixels}.
        chance: {level: the score of one class for all}.
        predictions: the run's.
    """

    classes: list[str]
    evaluable: frozenset[str]
    level: str | None
    ours: dict[str, Score]
    pixels: dict[str, Score]
    chance: dict[str, Score]
    predictions: TestPredictions


def read_targets(tasks: JsonObject, predictions: Path) -> tuple[dict[str, TestedTarget], dict[str, str]]:
    """{name: target} of those that were tested, and {task: why it was not learnt}."""
    rows = read_predictions(predictions)
    targets, skipped = {}, {}
    for task, of in tasks.items():
        if "skipped" in of.fields:
            skipped[task] = of.text("skipped")
        elif "lesions" in of.fields:
            for lesion, result in of.object("lesions").items():
                name, of_task = f"{task}: {lesion}", rows.get(task, [])
                targets[name] = _read_target(result, of_task, predictions, lesion=lesion)
        else:
            targets[task] = _read_target(of, rows.get(task, []), predictions)
    return targets, skipped


def _read_target(
    result: JsonObject, rows: Sequence[Row], path: Path, lesion: str | None = None
) -> TestedTarget:
    classes = result.names("classes")
    if lesion is not None and len(classes) != 2:
        raise UserError(
            f"{result.where}: classes: found {len(classes)}, wanted absent and present; {RECOVERY_ADVICE}"
        )
    missing = result.get("not_evaluable", lambda x: isinstance(x, list), "a list")
    missing = {JsonObject(row, f"{result.where}: not_evaluable").text("class") for row in missing}
    evaluable = frozenset(classes) - missing
    test, baselines = result.object("test"), result.object("baselines")
    ours = {level: _score(test.object(level)) for level in JUDGED_LEVELS}
    predictions = parse_predictions(rows, classes, path, lesion, _fold_prevalences(result, classes))
    tested, n = sum(true in evaluable for true in predictions.true), test.object("frame").count("n")
    name = result.where.partition(": tasks: ")[2]
    if tested != n:
        raise UserError(
            f"{path}: found {tested} annotated frames for '{name}', metrics.json "
            f"has {n}: one of the files is cut off or of another run; {RECOVERY_ADVICE}"
        )
    recorded = ours["frame"].value
    if recorded is not None and not (
        tested and abs(_balanced_accuracy(predictions, classes, evaluable) - recorded) < 1e-6
    ):
        raise UserError(
            f"{path}: the balanced accuracy of its answers to '{name}' is not that in metrics.json: the "
            f"files are of different runs; {RECOVERY_ADVICE}"
        )
    return TestedTarget(
        classes=classes,
        evaluable=evaluable,
        level=next((level for level in JUDGED_LEVELS if ours[level].value is not None), None),
        ours=ours,
        pixels=_baseline_scores(baselines, "pixels"),
        chance=_baseline_scores(baselines, "majority"),
        predictions=predictions,
    )


def _fold_prevalences(result: JsonObject, classes: list[str]) -> list[list[float]]:
    """Of each fold, the shares of the classes that its probabilities hold for; none in an older run."""
    head = result.fields.get("head")
    if not isinstance(head, dict) or "prevalence" not in head:
        return []
    prevalences = []
    for of_fold in result.object("head").get("prevalence", lambda x: isinstance(x, list), "a list"):
        record = JsonObject(of_fold, f"{result.where}: head: prevalence")
        names = list(record.fields)
        shares = [record.get(name, _is_positive_share, "a share above 0") for name in names]
        if names == classes[1:] and len(classes) == 2:  # of a lesion
            names, shares = classes, [1 - shares[0], shares[0]]
        if names != classes:
            raise UserError(f"{record.where}: is of other classes; {RECOVERY_ADVICE}")
        prevalences.append(shares)
    return prevalences


def _is_positive_share(value: object) -> bool:
    return isinstance(value, float) and 0 < value < 1


def _balanced_accuracy(predictions: TestPredictions, classes: list[str], evaluable: frozenset[str]) -> float:
    """Mean recall per frame, of the classes that count."""
    predicted = np.array(classes)[balanced_choice(predictions.probabilities, predictions.prevalence)]
    true = np.array(predictions.true)
    present = evaluable & set(predictions.true)
    return float(np.mean([(predicted[true == name] == name).mean() for name in present]))


def _baseline_scores(baselines: JsonObject, name: str) -> dict[str, Score]:
    """Scores of a baseline: those per frame stand at the top, those per video below."""
    if name not in baselines.fields:
        return dict.fromkeys(JUDGED_LEVELS, Score())
    scores = baselines.object(name)
    return {"frame": _score(scores), "video": _score(scores.object("video"))}


def _score(scores: JsonObject) -> Score:
    value, bounds = scores.fraction("balanced_accuracy"), None
    if scores.fields.get("ci95") is not None:
        bounds = scores.object("ci95").get(
            "balanced_accuracy", _is_interval, "two numbers from 0 to 1, or null"
        )
    return Score.of(value, bounds)


def _is_interval(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and len(value) == 2 and None not in value and all(map(is_fraction, value))
