"""Words that the log, the report, the model card and the comparison share, and figures as they show them.

A figure that could not be computed stands as '-', never as 0.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from simclr_rhd.evaluation.scores.records import Margin, Score
from simclr_rhd.evaluation.target_details import ReaderAgreement

ESCAPED = {letter: "\\" + letter for letter in "\\`*_{}[]|#"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
AVERAGES = {"balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "auroc_macro": "AUROC"}
MAX_COLUMNS = 110  # columns of a text for the terminal
BASELINE_NAMES = {
    "pixels": "raw pixels",
    "mask": "the mask of black and not black",
    "header": "what is known without the picture",
    "random encoder": "an untrained encoder",
    "imagenet encoder": "an encoder trained on ImageNet",
    "majority": "the most frequent class",
}
METHOD_NAMES = BASELINE_NAMES | {
    "simclr": "this program",
    "finetuned": "fine-tuned",
    "neighbours": "nearest neighbours of the same features",
}
SYNTHETIC_WARNING = "SYNTHETIC demo data: nothing here says anything about patients."
LEAKY_WARNING = (
    "LEAKY split: frames of one patient or video are both learnt from and tested on, so these figures are "
    "too good and say nothing about new patients."
)
REPEATED_TEST_WARNING = (
    "The test part has been scored {} times; choices made after looking at it flatter the scores."
)

READERS_CEILING = (
    "What two readers agree on is about the most that a model which learns from them can be "
    "measured to reach."
)


class TableBaseline(NamedTuple):
    """A baseline that has a column in the tables of the log and of the model card.

    Attributes:
        name: a key of BASELINE_NAMES.
        column: heading of the column, short.
        description: the same for the footnote.
    """

    name: str
    column: str
    description: str


TABLE_BASELINES = (
    TableBaseline("majority", "majority", "the most frequent class for all"),
    TableBaseline("pixels", "pixels", "raw pixels without a network"),
    TableBaseline("mask", "mask", "where a frame is black (mask)"),
    TableBaseline("random encoder", "random", "the same heads on untrained encoders (the mean)"),
)


def method_name(method: str) -> str:
    """A method in words; one of another name as it is."""
    return METHOD_NAMES.get(method, method)


def format_score(value: float | None, digits: int = 2) -> str:
    """A score with `digits` decimals, a count as it is, '-' for what cannot be computed."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "∞"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def format_interval(score: Score) -> str:
    """A score with its 95 % interval where there is one: '0.91 [0.85, 0.96]'."""
    around = f" [{format_score(score.low)}, {format_score(score.high)}]" if score.interval else ""
    return format_score(score.value) + around


def format_signed(difference: Score) -> str:
    """A difference of scores with its 95 % interval: '+0.05 [-0.02, +0.11]'."""
    if difference.value is None:
        return "-"
    around = " [{:+.2f}, {:+.2f}]".format(*difference.interval) if difference.interval else ""
    return f"{difference.value:+.2f}{around}"


def format_difference(margin: Margin) -> str:
    """A difference of balanced accuracies, likewise."""
    return format_signed(Score.of(margin.balanced_accuracy, margin.ci95))


def describe_readers(readers: ReaderAgreement) -> str:
    """The agreement of annotators in words: "Cohen's kappa 0.62 on 120 files that both have read"."""
    kappa = f"Cohen's kappa {format_score(readers.kappa)}"
    if readers.pairs == 1:
        return f"{kappa} on {format_count(readers.files, 'file')} that both have read"
    around = f" ({format_score(readers.lowest)} to {format_score(readers.highest)})"
    return (
        f"{kappa}{around * (readers.kappa is not None)}, the mean of {readers.pairs} pairs of readers on "
        f"{format_count(readers.files, 'file')} in common"
    )


def format_count(n: int, noun: str) -> str:
    """'1 video', '2 videos'."""
    return f"{n} {noun}{'s' * (n != 1)}"


def is_or_are(names: Sequence[str]) -> str:
    """The verb of a sentence about some names."""
    return "is" if len(names) == 1 else "are"


def join_names(names: Sequence[str], conjunction: str = "and") -> str:
    """The names as a list: 'a, b and c'."""
    return f" {conjunction} ".join([", ".join(names[:-1])] * (len(names) > 1) + list(names[-1:]))


def group_by_text(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """{text: the names that have it}, of {name: text}."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    return names


def markdown_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """The lines of a table in Markdown; all cells are escaped."""
    for number, row in enumerate((header, *rows)):
        yield "| " + " | ".join(escape_markdown(str(cell)) for cell in row) + " |"
        if number == 0:
            yield "|" + "---|" * len(header)


def escape_markdown(text: str) -> str:
    """Words that Markdown shows as they are, in one line."""
    return "".join(ESCAPED.get(letter, letter) for letter in " ".join(text.split()))
