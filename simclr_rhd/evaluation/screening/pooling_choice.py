"""The choice of how an exam's frames are put together, on validation exams."""

from collections.abc import Sequence

from simclr_rhd.evaluation.screening.discrimination import auroc, auroc_difference
from simclr_rhd.evaluation.screening.exams import Exams
from simclr_rhd.evaluation.screening.pooling import MEAN, FrameEvidence, Pooling


def choose_pooling(
    candidates: Sequence[Pooling], evidence: FrameEvidence, validation: Exams, *, seed: int
) -> Pooling:
    """The candidate of largest AUROC among those that are better than the mean by more than chance.

    The intervals of all differences to the mean hold together; without one above 0 the mean is kept.

    Args:
        candidates: other ways than the mean.
        evidence: of all labelled frames.
        validation: exams.
        seed: of the bootstrap over groups.
    """
    if not len(validation.positive):
        return MEAN
    frames = evidence.select(validation.rows)
    by_mean = validation.scores(MEAN.logits(frames, validation.exam))
    best: tuple[float, Pooling] = (auroc(by_mean, seed=seed).value or 0.0, MEAN)
    for pooling in candidates:
        scores = validation.scores(pooling.logits(frames, validation.exam))
        difference = auroc_difference(scores, [by_mean], seed=seed, n_comparisons=len(candidates))
        area = auroc(scores, seed=seed).value
        if area is not None and area > best[0] and difference.low is not None and difference.low > 0:
            best = area, pooling
    return best[1]
