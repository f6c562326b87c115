"""The bootstrap over groups: frames of a patient are not independent, so whole groups are drawn.

Notation: G groups, R resamples.
"""

import math
from functools import lru_cache

import numpy as np
from scipy.special import betaincinv, ndtr, stdtrit

RESAMPLES, PIECES = 2000, 20  # worked on a piece at a time: bounds the memory
TAIL = 0.025  # on each side of an interval
FEW = 10  # groups below which an interval by resamples is not wide enough (benchmarks/interval_coverage.py)

Bounds = list[float] | None  # low and high


def draws(n_groups: int, seed: int) -> np.ndarray:
    """How often each group is in each resample: (R, G) uint16, rows sum to G.

    The same arguments give the same resamples, so that what is compared is scored on the same ones. They are
    not to be written to.
    """
    return _drawn(n_groups, seed, RESAMPLES)


@lru_cache(maxsize=8)  # every figure of a run is scored on the same few
def _drawn(n_groups: int, seed: int, resamples: int) -> np.ndarray:
    generator = np.random.default_rng([seed, 6])
    shares = np.full(n_groups, 1 / n_groups)
    pieces = (generator.multinomial(n_groups, shares, size=resamples // PIECES) for _ in range(PIECES))
    drawn = np.concatenate([piece.astype(np.uint16) for piece in pieces])
    drawn.flags.writeable = False
    return drawn


def totals(drawn: np.ndarray, of_groups: np.ndarray) -> np.ndarray:
    """Sums over the groups of each resample: (R, G) and (G, ...) -> (R, ...) float64."""
    flat = of_groups.reshape(len(of_groups), -1).astype(np.float64)
    sums = np.concatenate([piece @ flat for piece in np.array_split(drawn, PIECES)])
    return sums.reshape(len(drawn), *of_groups.shape[1:])


def bounds(values: np.ndarray, n_groups: float, *, proportion: bool = False) -> Bounds:
    """The 95 % interval of a figure by its expanded percentiles (Hesterberg 2015).

    The plain percentiles are too narrow with few groups: by the factor √((G-1)/G) of a variance divided by G,
    and by that of the normal to Student's distribution. Of very few groups even these say too little, and
    where a proportion is 1 (or 0) in every resample, they say nothing. Then a proportion's interval also
    holds the exact binomial one (Clopper & Pearson 1934) of G trials, one a group.

    Args:
        values: (R,) of the resamples; those that are not defined (NaN) are left out.
        n_groups: G, the groups that the figure rests on; need not be whole.
        proportion: whether 0 and 1 are the ends of the figure's scale.

    Returns:
        [low, high]; None with fewer than two groups, where no resample has a value, or where all have the
        same and it is no proportion.
    """
    values = values[~np.isnan(values)]
    if n_groups < 2 or len(values) == 0:
        return None
    alike = values.min() == values.max()
    if alike and not proportion:
        return None
    tail = ndtr(math.sqrt(n_groups / (n_groups - 1)) * stdtrit(n_groups - 1, TAIL))
    low, high = np.quantile(values, [tail, 1 - tail]).tolist()
    if proportion and (n_groups < FEW or (alike and low in (0, 1))):
        exact = _binomial(values.mean() * n_groups, n_groups)
        low, high = min(low, exact[0]), max(high, exact[1])
    return [low, high]


def _binomial(hits: float, n: float) -> tuple[float, float]:
    """The exact binomial interval of a share of n trials; neither need be whole."""
    low = float(betaincinv(hits, n - hits + 1, TAIL)) if hits > 0 else 0.0
    return low, float(betaincinv(hits + 1, n - hits, 1 - TAIL)) if hits < n else 1.0
