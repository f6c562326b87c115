"""The model card of a model that was evaluated on another data set."""

from collections.abc import Iterator, Mapping
from typing import Any

from simclr_rhd.inference.external.overlap import overlap_sentences
from simclr_rhd.inference.external.results import ExternalResults
from simclr_rhd.report.card.front_matter import TestedData, hub_results, with_results
from simclr_rhd.report.card.model_card import NOT_TESTED_ELSEWHERE
from simclr_rhd.report.page.external.sentences import limits, warnings
from simclr_rhd.report.screening import screening_lines
from simclr_rhd.report.summary import scored_levels, verdicts
from simclr_rhd.report.wording import (
    AVERAGES,
    escape_markdown,
    format_interval,
    format_score,
    markdown_table,
)

SECTION = "External evaluation"


def extend_card(card: str, results: ExternalResults, run: Mapping[str, Any]) -> str:
    """A model card with a section on an evaluation, and its figures in the front matter.

    Those of an earlier one on the same data set are replaced.

    Args:
        card: that of the model, in Markdown.
        results: of the evaluation.
        run: the content of its `run.json`.
    """
    fingerprint, split = results.external.data, "all labelled frames"
    data = TestedData("another data set", split, fingerprint, run["data"]["synthetic"])
    card = with_results(card, hub_results(results.run, data), fingerprint)
    title = f"## {SECTION} {fingerprint[:8]}"
    before, heading, rest = card.partition(f"{title}\n")
    after = rest[rest.find("\n## ") + 1 :] if heading and "\n## " in rest else ""
    text = before.replace(NOT_TESTED_ELSEWHERE, f"- On another data set: see {SECTION} below.")
    return "\n".join([text.rstrip("\n"), "", title, "", *_section(results, run), "", after])


def _section(results: ExternalResults, run: Mapping[str, Any]) -> Iterator[str]:
    unit, external = results.run.split.by, results.external
    for alarm in warnings(results):
        yield f"> **{escape_markdown(alarm)}**"
        yield ">"
    yield ""
    yield (
        f"{external.overlap.frames - external.overlap.left_out} labelled frames of another data set; in "
        f"brackets 95 % intervals over {unit}s. Evaluated on "
        f"{escape_markdown(str(run['evaluated'][-1])[:10])}."
    )
    yield ""
    rows = []
    for name, result in results.run.targets.items():
        after = external.targets[name].recalibrated
        for level in scored_levels(result):
            scores = result.test[level]
            rows.append(
                [
                    *(f"{name}, per {level}", format_score(scores.n)),
                    *(format_interval(scores[metric]) for metric in AVERAGES),
                    format_interval(after[level]["balanced_accuracy"]) if after else "-",
                    format_score(result.baseline_score("majority", level).value),
                ]
            )
    names = [*AVERAGES.values(), "recalibrated, balanced", "majority of the training, balanced"]
    yield from markdown_table(["", "n", *names], rows)
    yield ""
    screened = screening_lines(results.run)
    for line in [*verdicts(results.run), *screened, *limits(results), *overlap_sentences(external.overlap)]:
        yield f"- {escape_markdown(line.removeprefix('WARNING '))}"
