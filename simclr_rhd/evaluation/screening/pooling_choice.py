"""The choice of how an exam's frames are put together, on validation exams."""

from simclr_rhd.evaluation.screening.discrimination import auroc, auroc_difference
from simclr_rhd.evaluation.screening.exams import Exams
from simclr_rhd.evaluation.screening.pooling import MEAN, POOLINGS, FrameEvidence


def choose_pooling(evidence: FrameEvidence, validation: Exams, *, seed: int) -> str:
    """The pooling of largest AUROC among those that are better than the mean by more than chance.

    The intervals of all differences to the mean hold together; without one above 0 the mean stays.

    Args:
        evidence: of all labelled frames.
        validation: exams.
        seed: of the bootstrap over groups.
    """
    frames = evidence.select(validation.rows)
    scores = {name: validation.scores(pool(frames, validation.exam)) for name, pool in POOLINGS.items()}
    best, best_area = MEAN, auroc(scores[MEAN], seed=seed).value or 0.0
    for name, of_pooling in scores.items():
        difference = auroc_difference(of_pooling, [scores[MEAN]], seed=seed, n_comparisons=len(POOLINGS) - 1)
        area = auroc(of_pooling, seed=seed).value
        if area is not None and area > best_area and difference.low is not None and difference.low > 0:
            best, best_area = name, area
    return best
