"""The prevalence of classes that probabilities hold for, and the class that is chosen by both.

Notation: n samples, C classes.
"""

import numpy as np


def balanced_choice(probabilities: np.ndarray, prevalence: np.ndarray | None = None) -> np.ndarray:
    """(n,) the predicted class: the balanced choice, whose probability is largest for its prevalence.

    A rare class that is ten times as probable as it is frequent goes before a common one that is not. No
    change of the prevalence changes it.

    Args:
        probabilities: (n, C).
        prevalence: (C,) or (n, C) that they hold for; None for classes that are equally frequent.
    """
    ratios = probabilities if prevalence is None else probabilities / prevalence
    choice: np.ndarray = ratios.argmax(axis=1)
    return choice


def adjust_prevalence(probabilities: np.ndarray, prevalence: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Probabilities for another prevalence, by Bayes' rule (Saerens et al. 2002, equation 2.4).

    Args:
        probabilities: (n, C), rows sum to 1.
        prevalence: (C,) that they hold for, above 0.
        to: (C,) that they shall hold for.
    """
    weighted: np.ndarray = probabilities * (to / prevalence)
    weighted /= weighted.sum(axis=1, keepdims=True)
    return weighted


def prevalence_key(task: str) -> str:
    """The key of the prevalence, (n, C), in a table of probabilities, {task: (n, C)}, that hold for it."""
    return f"prevalence of {task}"
