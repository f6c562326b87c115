"""The prevalence of classes that probabilities hold for, and the class that is chosen by both.

Notation: n samples, C classes.
"""

import numpy as np


def balanced_choice(probabilities: np.ndarray, prevalence: np.ndarray | None = None) -> np.ndarray:
    """(n,) the class that is said: the balanced choice, whose probability is largest for its prevalence.

    A rare class that is ten times as probable as it is frequent goes before a common one that is not. No
    change of the prevalence changes it.

    Args:
        probabilities: (n, C).
        prevalence: (C,) or (n, C) that they hold for; None for classes that are equally frequent.
    """
    return (probabilities if prevalence is None else probabilities / prevalence).argmax(axis=1)


def adjust_prevalence(probabilities: np.ndarray, prevalence: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Probabilities for another prevalence, by Bayes' rule (Saerens et al. 2002, equation 2.4).

    Args:
        probabilities: (n, C), rows sum to 1.
        prevalence: (C,) that they hold for, above 0.
        to: (C,) that they shall hold for.
    """
    weighted = probabilities * (to / prevalence)
    return weighted / weighted.sum(axis=1, keepdims=True)


def prevalence_key(task: str) -> str:
    """Under which a table of probabilities, {task: (n, C)}, has the prevalence (n, C) that they hold for."""
    return f"prevalence of {task}"
