"""Predictions on the terminal: a line for each video, and what the marks and probabilities mean."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from simclr_rhd.evaluation.selective import GUARANTEE
from simclr_rhd.inference.classifier import OLDEST_VERSION
from simclr_rhd.inference.prediction.predict_files import PredictionRun
from simclr_rhd.inference.prediction.predictions_table import OUTPUT_SUFFIXES, TaskPrediction, sibling

MAX_PRINTED_VIDEOS = 20  # videos on the terminal
ABSTAINED_MARK, OOD_MARK = "?", "!"


def summary_lines(run: PredictionRun, out: Path) -> list[str]:
    """The results of a run that has written `out`."""
    n_videos, reasons = len(run.video_means), Counter(why.split(" (")[0] for _, why in run.reader.rejected)
    n_ood = sum(mean.out_of_distribution for mean in run.video_means.values())
    return [
        *_video_lines(run),
        f"{OOD_MARK} out of distribution: unlike the training frames, the prediction means nothing "
        f"({n_ood} of {n_videos} videos)",
        *_abstention_lines(run),
        *_prevalence_lines(run),
        "",
        *(f"left out or not whole: {n} files, {reason}" for reason, n in reasons.most_common(5)),
        f"{run.n_frames} frames of {n_videos} videos and {len(run.patient_means)} known "
        f"patients; look at {out}, and {', '.join(sibling(out, end).name for end in OUTPUT_SUFFIXES)} "
        "beside it",
    ]


def _video_lines(run: PredictionRun) -> Iterator[str]:
    """The table of the first videos."""
    shown = dict(islice(run.video_means.items(), MAX_PRINTED_VIDEOS))
    width = max(len(name) for name in ["video", *map(_short_name, shown)])
    header = f"{'video':<{width}}  frames  " + "".join(f"{task:<34}" for task in run.model.classes)
    yield header
    yield "-" * len(header.rstrip())
    for name, mean in shown.items():
        prediction = run.predict_mean(mean)
        mark = OOD_MARK if prediction.out_of_distribution else " "
        cells = "".join(f"{_format_prediction(prediction.tasks[task]):<34}" for task in run.model.classes)
        yield f"{_short_name(name):<{width}} {mark}{mean.n:>6}  {cells}".rstrip()
    if len(run.video_means) > MAX_PRINTED_VIDEOS:
        yield f"... and {len(run.video_means) - MAX_PRINTED_VIDEOS} more videos"


def _format_prediction(prediction: TaskPrediction) -> str:
    name, mark = prediction.predicted, ABSTAINED_MARK * bool(prediction.abstained)
    return f"{name if len(name) <= 26 else name[:25] + '…'} {prediction.probability:.2f}{mark}"


def _short_name(name: str) -> str:
    """A video's name without folders, to be shown in a table."""
    last = PurePosixPath(name).name
    return last if len(last) <= 40 else f"...{last[-37:]}"


def _abstention_lines(run: PredictionRun) -> Iterator[str]:
    """Explain the mark of an unsure prediction."""
    facts = run.model.facts
    if facts.version <= OLDEST_VERSION:
        yield (
            f"{ABSTAINED_MARK} confidence too low: of validation videos with such predictions too many "
            "were wrong (the rule of an older version, which proves nothing)"
        )
        return
    where = ", at the prevalence of the groups that it was validated on" * run.prevalence_changed
    yield (
        f"{ABSTAINED_MARK} not accepted: only for predictions of higher confidence it is proved that "
        f"{GUARANTEE}{where}"
    )
    for name, reasons in facts.unproved.items():
        if reasons.get("video"):
            yield f"  {name}: nothing is proved, so that all predictions are marked: {reasons['video']}"


def _prevalence_lines(run: PredictionRun) -> Iterator[str]:
    """Name the prevalence that the probabilities hold for."""
    version, basis = run.model.facts.version, "of the groups that the model was validated on"
    if version <= OLDEST_VERSION:
        yield (
            f"The model is of an older version ({version}): its probabilities were not "
            "fitted to how frequent the classes are, and take them to be equally frequent."
        )
        basis = "of classes that are equally frequent"
    if run.prevalence_changed:
        basis = "that --prevalence gives"
    yield (
        f"The probabilities hold for the prevalence {basis}; --prevalence CLASS=SHARE moves them. The "
        "predicted class is the balanced choice, whose probability is largest for its prevalence:"
    )
    for task, output in run.tasks.items():
        shares = zip(output.classes, output.prevalence, strict=True)
        yield f"  {task}: {', '.join(f'{name} {share:.3g}' for name, share in shares)}"
