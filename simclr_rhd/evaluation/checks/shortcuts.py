"""Shortcuts: predictors of the classes that have nothing to do with the heart.

The sector's form and the black bars (the baseline "mask"), and site, device, size and colour of a frame (the
baseline "header") depend on who scanned with what. Classes that these predict depend on how the data came
together; a model that is not better than they are may have learnt only that.
"""

from simclr_rhd.evaluation.results import TargetResult

SHORTCUTS = ("mask", "header")  # baselines in `metrics.json`


def explaining_shortcuts(result: TargetResult) -> list[str]:
    """The shortcuts that may explain a target's score, at the level that is judged.

    Such a baseline is above chance by more than chance (the interval of its balanced accuracy), and the model
    is not above it by more than chance (the interval of the difference).
    """
    level = result.primary_level
    return [name for name in SHORTCUTS if level and _explains(result, name, level)]


def _explains(result: TargetResult, name: str, level: str) -> bool:
    score = result.baseline_score(name, level)
    margin = result.margins.get(name, {}).get(level)
    if score.low is None or margin is None or margin.ci95 is None:
        return False
    return score.low > result.chance_accuracy(level) and margin.ci95[0] <= 0
