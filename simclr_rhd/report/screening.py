"""The screening panel in words."""

from collections.abc import Iterator

from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.evaluation.screening.rates import SCREENED, PredictiveValues
from simclr_rhd.evaluation.screening.records import OperatingPoint, ScreeningResult
from simclr_rhd.report.wording import format_count, format_interval, format_score, join_names

MIN_POSITIVES = 10  # with fewer an interval is as wide as half the scale


def screening_lines(results: RunResults) -> list[str]:
    """One text for each question: the AUROC, and what the first threshold would do."""
    return [
        " ".join([f"screening, {name}:", *_sentences(result)]) for name, result in results.screening.items()
    ]


def _sentences(result: ScreeningResult) -> Iterator[str]:
    if result.reason:
        yield f"no figures, {result.reason}."
        return
    yield (
        f"per {result.unit}, {result.n_positive} positive and {result.n_negative} negative, AUROC "
        f"{format_interval(result.auroc)}."
    )
    if result.operating_points:
        point = result.operating_points[0]
        yield operating_point_text(point)
        if values := point.predictive_values:
            yield screened_text(values[len(values) // 2])
    if note := few_positives_note(result):
        yield note


def operating_point_text(point: OperatingPoint) -> str:
    """Rates of the tested at a threshold."""
    if point.rates.sensitivity.value is None:
        return f"No threshold for {point.goal}: no validation part has both positive and negative ones."
    return (
        f"At the threshold for {point.goal}, chosen on validation groups: sensitivity "
        f"{format_interval(point.rates.sensitivity)}, specificity {format_interval(point.rates.specificity)}."
    )


def screened_text(values: PredictiveValues) -> str:
    """Counts of 1,000 people to be screened."""
    ill = values.prevalence * SCREENED
    return (
        f"Of {SCREENED:,} screened, {ill:.0f} of them ill: {values.sent_on:.0f} sent on, "
        f"{values.ill_sent_on:.0f} of them ill, {values.missed:.0f} missed."
    )


def few_positives_note(result: ScreeningResult) -> str:
    """A warning that positive exams are too few, and how many it would take; "" where they are enough."""
    if result.n_positive >= MIN_POSITIVES:
        return ""
    return (
        f"Only {format_count(result.n_positive, f'positive {result.unit}')}: these figures say next to "
        f"nothing; an interval of ± 0.05 about a sensitivity of 0.90 takes {result.positives_needed}."
    )


def poolings_text(result: ScreeningResult) -> str:
    """How the frames of an exam are put together, with the number of folds where it differs."""
    counts = {name: result.poolings.count(name) for name in dict.fromkeys(result.poolings)}
    if len(counts) == 1:
        return next(iter(counts))
    return join_names([f"{name} ({format_count(n, 'fold')})" for name, n in counts.items()])


def thresholds_text(point: OperatingPoint) -> str:
    """The thresholds of the folds."""
    return ", ".join(format_score(threshold) for threshold in point.thresholds)


POOLINGS = (
    "top-quarter: the mean of the most probable quarter of the frames; noisy-or: that one video or more is "
    "positive; attention: learnt on the training exams."
)
PAGE_TEXTS = {  # for the template
    "POOLINGS": POOLINGS,
    "few_positives_note": few_positives_note,
    "operating_point_text": operating_point_text,
    "poolings_text": poolings_text,
    "thresholds_text": thresholds_text,
    "join_names": join_names,
}
