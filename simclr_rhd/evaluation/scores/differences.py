"""Differences of balanced accuracy between two classifiers on the same samples.

Notation: G groups, R resamples, D draws.
"""

from collections.abc import Sequence

import numpy as np

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.evaluation.scores.bootstrap import (
    TAIL_PROBABILITY,
    difference_interval,
    each_group_once,
    resample_counts,
    resample_sums,
)
from simclr_rhd.evaluation.scores.confusions import balanced_accuracy, sample_confusions
from simclr_rhd.evaluation.scores.intervals import effective_groups
from simclr_rhd.evaluation.scores.records import Margin, Margins
from simclr_rhd.evaluation.scores.samples import FramePredictions, Samples, aggregate


def paired_differences(
    ours: FramePredictions,
    draws: Sequence[FramePredictions],
    evaluable: Sequence[int],
    *,
    seed: int,
    n_comparisons: int = 1,
) -> Margins:
    """The difference of one classifier's balanced accuracy to another's, per "frame", "video" and "patient".

    The interval is of the difference, both scored on the same resamples: what they find equally hard cancels.
    Of several draws of the other one the mean of the scores counts; the interval holds their chance, too: as
    many are drawn anew in each resample.

    Args:
        ours: for annotated frames.
        draws: of the other one, for the same frames.
        evaluable: indices of the classes that count.
        seed: of the bootstrap.
        n_comparisons: how many differences of a family shall be held by their intervals together with 95 %
            (Bonferroni): each has 1 - 0.05 / comparisons.
    """
    others = [aggregate(draw) for draw in draws]
    tail = TAIL_PROBABILITY / n_comparisons
    return {
        level: _paired_difference(
            samples.of_classes(evaluable),
            [draw[level].of_classes(evaluable) for draw in others],
            seed=seed,
            tail=tail,
        )
        for level, samples in aggregate(ours).items()
    }


def _paired_difference(ours: Samples, draws: Sequence[Samples], *, seed: int, tail: float) -> Margin:
    if len(ours.present) < 2:
        return Margin(None, None, None)
    counts = np.vstack([each_group_once(ours.n_groups), resample_counts(ours.n_groups, seed)])
    our_scores, *draw_scores = (
        balanced_accuracy(resample_sums(counts, sample_confusions(of)), ours.present) for of in (ours, *draws)
    )
    differences = our_scores - mean_of_draws(np.stack(draw_scores, axis=1), seed=seed)
    n_effective = effective_groups(ours)[1]["recall_macro"]
    return Margin(
        float(differences[0]),
        difference_interval(differences[1:], n_effective, tail=tail),
        same_answers=all((ours.predicted == of.predicted).all() for of in draws),
    )


def mean_of_draws(scores: np.ndarray, *, seed: int) -> np.ndarray:
    """(1 + R, D) scores of D draws -> (1 + R,) their mean; in all rows but the first of draws drawn anew.

    What D draws vary less than as many of all would is made up for: the factor √(D / (D - 1)).
    """
    n_draws = scores.shape[1]
    if n_draws == 1:
        return scores[:, 0]
    shares = np.full(n_draws, 1 / n_draws)
    rng = make_rng(seed, Stream.BASELINE_DRAWS)
    drawn_shares = rng.multinomial(n_draws, shares, size=len(scores)) / n_draws
    drawn_shares[0] = shares[0]
    weights = shares + (drawn_shares - shares) * np.sqrt(n_draws / (n_draws - 1))
    mean: np.ndarray = (scores * weights).sum(axis=1)
    return mean
