"""Sentences of the page of exams: what the model cannot know, and how to read bars and marks."""

from collections.abc import Iterator

from simclr_rhd.evaluation.selective import GUARANTEE
from simclr_rhd.inference.model_info import OLDEST_VERSION
from simclr_rhd.inference.prediction.predict_files import PredictionRun
from simclr_rhd.inference.screening import ScreeningPrediction
from simclr_rhd.report.wording import format_score, join_names


def limitations(run: PredictionRun) -> list[str]:
    """Sentences on what the model cannot know."""
    basis = "that --prevalence gives" if run.prevalence_changed else "of the patients it was validated on"
    sentences = [
        "It sees single frames, each alone: no motion, no timing, no scale. It measures nothing, neither the "
        "length or speed of a jet nor the thickness of a leaflet.",
        "It knows no age, weight, symptoms or history, and no other finding. A diagnosis of rheumatic heart "
        "disease rests on these, too.",
        "It knows its own classes alone. Any other disease is put into one of them.",
        "Frames of another hospital, device or population than it learnt from may be classified wrongly, "
        "also without a mark.",
        "What only a few frames show is diluted in the mean over all frames. Look at the frames that "
        "decided, and at the exam itself.",
        f"Its probabilities hold for the prevalence {basis} ({'; '.join(_prevalences(run))}). Where a "
        "disease is rarer they are too high; predict --prevalence CLASS=SHARE converts them.",
    ]
    if run.model.facts.synthetic:
        sentences.append("It has learnt from synthetic drawings, and has never seen a heart.")
    return sentences


def _prevalences(run: PredictionRun) -> Iterator[str]:
    for task, output in run.tasks.items():
        shares = zip(output.classes, output.prevalence, strict=True)
        yield f"{task}: {', '.join(f'{name} {share:.2g}' for name, share in shares)}"


def screening_sentence(prediction: ScreeningPrediction) -> str:
    """The prediction of a screening test."""
    goals = {
        verb: [goal for goal, is_sent_on in prediction.sent_on.items() if is_sent_on == sent_on]
        for verb, sent_on in (("sent on", True), ("not sent on", False))
    }
    parts = [f"{verb} at the threshold for {join_names(names)}" for verb, names in goals.items() if names]
    decided = "; ".join(parts) or "no threshold could be chosen"
    return f"Screening, {prediction.question}: probability {format_score(prediction.probability)}; {decided}."


def reading_notes(run: PredictionRun) -> list[str]:
    """Sentences on the bars and the marks."""
    facts = run.model.facts
    notes = [
        "The mark on a bar is the probability of a class: the mean over all frames. The line is the spread; "
        "the caption says of what. It shows how much videos or frames of this patient differ. It is no "
        "confidence interval: all of them can be wrong together.",
        "A screening test is of the whole exam. Its thresholds were chosen on validation patients for "
        "a sensitivity or a specificity; how many ill it then missed and how many others it sent on is in "
        "the report of the model's run. Its probability holds for the share of the ill among those.",
        "The predicted class is the one whose probability is largest for its prevalence, so another class "
        "may have a larger one.",
        "Where the videos of a patient show different things (other views, for example), the mean over them "
        "has little meaning. Look at the table of the videos then.",
        "Unlike the training frames (out of distribution) are frames farther from them than 99 % of the "
        "frames of left-out patients, and frames of one colour. Predictions for them mean nothing.",
    ]
    if facts.version <= OLDEST_VERSION:
        return [*notes, "The model is of an older version, whose limits of acceptance prove nothing."]
    notes.append(f"Accepted are predictions so sure that {GUARANTEE}. This is proved for single videos.")
    return notes + [
        f"{target}: nothing is proved, so that no prediction is accepted: {reasons['video']}."
        for target, reasons in facts.unproved.items()
        if reasons.get("video")
    ]
