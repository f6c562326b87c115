"""The front matter of the model card, in YAML: what a model hub reads of it.

The keys are those of Hugging Face's `modelcard.md`. Each value is JSON, which is YAML: so no name in the data
can become more than a text.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simclr_rhd.evaluation.results import RunResults, SplitInfo
from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.report.summary import scored_levels
from simclr_rhd.report.wording import AVERAGES, format_score

FENCE = "---"
MODEL_NAME, MODEL_INDEX, TASK_TYPE = "simclr-rhd", "model-index", "image-classification"
TAGS = (
    "ultrasound",
    "echocardiography",
    "medical-imaging",
    "self-supervised-learning",
    "simclr",
    "resnet-18",
)
HUB_NAMES = {"auroc_macro": "roc_auc"}  # of metrics that have another name there
DIGITS = 4  # of a figure; also keeps it from an exponent, which some readers of YAML take for a text

HubResult = dict[str, object]  # of a task: an entry of `model-index`


@dataclass(frozen=True)
class TestedData:
    """The data that figures are of.

    Attributes:
        name: in words; not its place, which may name people.
        split: part of it that was tested.
        fingerprint: of its content.
        synthetic: whether it was drawn by a program.
    """

    name: str
    split: str
    fingerprint: str
    synthetic: bool


def front_matter(results: RunResults, fingerprint: str) -> Iterator[str]:
    """The lines of the front matter.

    Args:
        results: of the run.
        fingerprint: of its data.
    """
    data = TestedData("data of the run", _split_name(results.split), fingerprint, results.synthetic)
    fields: dict[str, object] = {
        "license": "unknown",  # the weights are made of the user's data, whose owner decides
        "library_name": MODEL_NAME,
        "pipeline_tag": TASK_TYPE,
        "tags": [*TAGS, *["synthetic-data"] * results.synthetic],
        "metrics": [HUB_NAMES.get(metric, metric) for metric in AVERAGES],
    }
    yield FENCE
    yield from (f"{name}: {_to_yaml(value)}" for name, value in fields.items())
    if entries := hub_results(results, data):
        yield f"{MODEL_INDEX}: {_to_yaml([{'name': MODEL_NAME, 'results': entries}], indent=2)}"
    yield FENCE
    yield ""


def hub_results(results: RunResults, data: TestedData) -> list[HubResult]:
    """The figures of each target, as an entry of `model-index` has them."""
    dataset = {
        "name": data.name,
        "type": "synthetic" if data.synthetic else "private",
        "split": data.split,
        "revision": data.fingerprint,
    }
    entries: list[HubResult] = []
    for name, result in results.targets.items():
        metrics = [
            {
                "type": HUB_NAMES.get(metric, metric),
                "name": f"{words} per {level}{_interval(score)}",
                "value": round(score.value, DIGITS),
            }
            for level in scored_levels(result)
            for metric, words in AVERAGES.items()
            if (score := result.test[level][metric]).value is not None
        ]
        if metrics:
            task = {"type": TASK_TYPE, "name": name}
            entries.append({"task": task, "dataset": dataset, "metrics": metrics})
    return entries


def with_results(card: str, entries: Sequence[HubResult], fingerprint: str) -> str:
    """A card with more figures in its front matter.

    Args:
        card: one without a front matter of this program stays as it is.
        entries: the figures; they replace those on the same data.
        fingerprint: of the data.
    """
    before, key, rest = card.partition(f"\n{MODEL_INDEX}: ")
    if not (key and card.startswith(f"{FENCE}\n")) or f"\n{FENCE}\n" in before:
        return card
    try:
        index, end = json.JSONDecoder().raw_decode(rest)
        kept = [entry for entry in index[0]["results"] if entry["dataset"]["revision"] != fingerprint]
        index[0]["results"] = [*kept, *entries]
    except (ValueError, KeyError, IndexError, TypeError):  # it was edited by hand
        return card
    return before + key + _to_yaml(index, indent=2) + rest[end:]


def _split_name(split: SplitInfo) -> str:
    part = "test part" if split.folds == 1 else f"{split.folds} folds"
    return f"{part}, split by {split.by}{', LEAKY' * split.leaky}"


def _interval(score: Score) -> str:
    if score.interval is None:
        return ""
    return f", 95 % interval {format_score(score.low)} to {format_score(score.high)}"


def _to_yaml(value: object, *, indent: int | None = None) -> str:
    """The value in JSON, behind a key; what cannot be printed is escaped, since YAML does not allow it."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    text = re.sub(r"[^\n -~]", _escape, text)
    return text.replace("\n", "\n  ")  # YAML wants the lines of a value to be indented


def _escape(match: re.Match[str]) -> str:
    letter = match[0]
    return letter if letter.isprintable() or ord(letter) > 0xFFFF else f"\\u{ord(letter):04x}"
