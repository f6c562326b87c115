"""The bootstrap over groups: frames of a patient are not independent, so whole groups are drawn.

Notation: G groups, R resamples.
"""

import math
from functools import lru_cache

import numpy as np
from scipy.special import betaincinv, ndtr, stdtrit

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.evaluation.scores.records import Interval

N_RESAMPLES, N_CHUNKS = 2000, 20  # worked on a piece at a time: bounds the memory
TAIL_PROBABILITY = 0.025  # on each side of an interval
Z_95 = 1.959964  # of 95 %
# Groups below which an interval by resamples is not wide enough (benchmarks/interval_coverage.py)
FEW_GROUPS = 10

CONSTANT_TOLERANCE = 1e-9  # a difference of scores that varies by less is a constant one


def resample_counts(n_groups: int, seed: int) -> np.ndarray:
    """Count of each group in each resample: (R, G) uint16, rows sum to G.

    The same arguments give the same resamples, so that what is compared is scored on the same ones. They are
    not to be written to.
    """
    return _sample_counts(n_groups, seed, N_RESAMPLES)


def each_group_once(n_groups: int) -> np.ndarray:
    """(1, G) uint16: the samples themselves, as a resample."""
    return np.ones((1, n_groups), dtype=np.uint16)


@lru_cache(maxsize=8)  # every figure of a run is scored on the same few
def _sample_counts(n_groups: int, seed: int, n_resamples: int) -> np.ndarray:
    generator = make_rng(seed, Stream.BOOTSTRAP)
    shares = np.full(n_groups, 1 / n_groups)
    pieces = (generator.multinomial(n_groups, shares, size=n_resamples // N_CHUNKS) for _ in range(N_CHUNKS))
    drawn = np.concatenate([piece.astype(np.uint16) for piece in pieces])
    drawn.flags.writeable = False
    return drawn


def resample_sums(counts: np.ndarray, per_group: np.ndarray) -> np.ndarray:
    """Sums over the groups of each resample: (R, G) and (G, ...) -> (R, ...) float64."""
    flat = per_group.reshape(len(per_group), -1).astype(np.float64)
    sums = np.concatenate([piece @ flat for piece in np.array_split(counts, N_CHUNKS)])
    return sums.reshape(len(counts), *per_group.shape[1:])


def percentile_interval(
    values: np.ndarray,
    n_groups: float,
    *,
    proportion: bool = False,
    value_range: tuple[float, float] = (0.0, 1.0),
    tail: float = TAIL_PROBABILITY,
) -> Interval:
    """The 95 % interval of a figure by its expanded percentiles (Hesterberg 2015).

    The plain percentiles are too narrow with few groups: by the factor √((G-1)/G) of a variance divided by G,
    and by that of the normal to Student's distribution. Of very few groups even these say too little for a
    proportion, and where a figure is at an end of its scale in every resample, they say nothing. Then the
    interval also holds the exact binomial one (Clopper & Pearson 1934) of G trials, one a group. A figure
    that is the same in every resample, and not at an end, does not depend on the groups: its interval is a
    point.

    Args:
        values: (R,) of the resamples; those that are not defined (NaN) are left out.
        n_groups: G, the groups that the figure rests on; need not be whole.
        proportion: whether it is a share of trials.
        value_range: of the figure's scale.
        tail: what is left out on each side.

    Returns:
        [low, high]; None with fewer than two groups, and where no resample has a value.
    """
    values = values[~np.isnan(values)]
    if n_groups < 2 or len(values) == 0:
        return None
    alike = values.min() == values.max()
    expanded = ndtr(math.sqrt(n_groups / (n_groups - 1)) * stdtrit(n_groups - 1, tail))
    low, high = np.quantile(values, [expanded, 1 - expanded]).tolist()
    if (proportion and n_groups < FEW_GROUPS) or (alike and low in value_range):
        least, width = value_range[0], value_range[1] - value_range[0]
        exact = _clopper_pearson((values.mean() - least) / width * n_groups, n_groups, tail)
        low, high = min(low, least + width * exact[0]), max(high, least + width * exact[1])
    return [low, high]


def _clopper_pearson(successes: float, n: float, tail: float) -> tuple[float, float]:
    """The exact binomial interval of a share of n trials; neither need be whole."""
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes > 0 else 0.0
    return low, float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0


def wilson(share: float, n: float) -> tuple[float, float]:
    """Centre and half width of Wilson's 95 % interval (1927) of a share of n trials; n need not be whole."""
    centre = (share + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    return centre, Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2)) / (1 + Z_95**2 / n)


def trials_needed(share: float, half_width: float) -> int:
    """The fewest trials of which Wilson's interval of a share has that half width at most, above 0."""
    n = 1
    while wilson(share, n)[1] > half_width:
        n += 1
    return n


def difference_interval(values: np.ndarray, n_groups: float, *, tail: float = TAIL_PROBABILITY) -> Interval:
    """The interval of a difference of two proportions on the same resamples, (R,).

    Where it is the same in every resample, as of a perfect model and one that always predicts one class, its
    percentiles say nothing. None of G groups went another way then: of all groups at most a share does that
    the exact binomial interval gives, each moving the difference by one group's part. Arguments are those of
    `percentile_interval`, and None where that is.
    """
    interval = percentile_interval(values, n_groups, value_range=(-math.inf, math.inf), tail=tail)
    if interval is None or interval[1] - interval[0] > CONSTANT_TOLERANCE:
        return interval
    other = _clopper_pearson(0, n_groups, tail)[1]
    return [max(-1.0, interval[0] - other), min(1.0, interval[1] + other)]
