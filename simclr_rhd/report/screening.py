"""The screening panel in words."""

from collections.abc import Iterator

from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.evaluation.screening.rates import SCREENED, PredictiveValues
from simclr_rhd.evaluation.screening.records import OperatingPoint, ScreeningResult
from simclr_rhd.report.wording import format_count, format_interval, format_score, join_names

MIN_EXAMS = 10  # of a kind; with fewer an interval is as wide as half the scale


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
        f"per {result.unit}, {result.n_positive} positive and {result.n_negative} negative "
        f"({join_names(result.negative, 'or') or 'without it'}), AUROC {format_interval(result.auroc)}."
    )
    if result.operating_points:
        point = result.operating_points[0]
        yield operating_point_text(point)
        if values := screened_rows(point):
            yield screened_text(values[len(values) // 2])
    if note := few_exams_note(result):
        yield note


def operating_point_text(point: OperatingPoint) -> str:
    """Rates of the tested at a threshold, and what they rest on."""
    n_without = sum(threshold is None for threshold in point.thresholds)
    if n_without == len(point.thresholds):
        return f"No threshold for {point.goal}: no validation part has both positive and negative ones."
    left_out = ""
    if n_without:
        folds = f"{n_without} of {format_count(len(point.thresholds), 'fold')}"
        left_out = f", without {folds} whose validation part gives no threshold"
    return (
        f"At the threshold for {point.goal}, chosen on validation groups: sensitivity "
        f"{format_interval(point.rates.sensitivity)}, specificity {format_interval(point.rates.specificity)} "
        f"(of {point.n_positive} positive and {point.n_negative} negative{left_out})."
    )


def screened_rows(point: OperatingPoint) -> list[PredictiveValues]:
    """Expected results of a screening; none where a rate has no interval, and so may be anything."""
    known = point.rates.sensitivity.interval and point.rates.specificity.interval
    return point.predictive_values if known else []


def screened_text(values: PredictiveValues) -> str:
    """Counts of 1,000 people to be screened."""
    return (
        f"Of {SCREENED:,} screened, {format_people(values.prevalence * SCREENED)} of them ill: "
        f"{format_people(values.sent_on)} sent on, {format_people(values.ill_sent_on)} of them ill, "
        f"{format_people(values.missed)} missed."
    )


def format_people(n: float) -> str:
    """An expected number of people, with two digits at least: '118', '19.7', '0.33'."""
    return f"{n:.0f}" if n >= 99.5 else f"{n:.1f}".removesuffix(".0") if n >= 1 else f"{n:.2g}"


def few_exams_note(result: ScreeningResult) -> str:
    """A warning that exams of a kind are too few, and how many it would take; "" where they are enough."""
    kinds = {"positive": result.n_positive, "negative": result.n_negative}
    few = [format_count(n, f"{kind} {result.unit}") for kind, n in kinds.items() if n < MIN_EXAMS]
    if not few:
        return ""
    return (
        f"Only {join_names(few)}: these figures say next to nothing; an interval of ± 0.05 about a rate of "
        f"0.90 takes {result.exams_needed} of each kind."
    )


def poolings_text(result: ScreeningResult) -> str:
    """Names of the poolings of the folds, with the number of folds where it differs."""
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
    "MIN_EXAMS": MIN_EXAMS,
    "few_exams_note": few_exams_note,
    "screened_rows": screened_rows,
    "format_people": format_people,
    "operating_point_text": operating_point_text,
    "poolings_text": poolings_text,
    "thresholds_text": thresholds_text,
    "join_names": join_names,
}
