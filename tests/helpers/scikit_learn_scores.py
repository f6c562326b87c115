"""Every figure of a classifier by scikit-learn."""

import warnings

import numpy as np
from sklearn import metrics as sk

from simclr_rhd.evaluation.scores.calibration_errors import expected_calibration_error


def by_scikit_learn(true, probabilities, ordered):
    """{average: value} and {(class, figure): value}; a class that is not there has none."""
    predicted, labels = probabilities.argmax(axis=1), np.unique(true).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = of_classes(true, predicted, probabilities, labels)
        averages = {
            "accuracy": sk.accuracy_score(true, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(true, predicted),
            "kappa": sk.cohen_kappa_score(true, predicted),
            "quadratic_kappa": quadratic_kappa(true, predicted, ordered),
            "brier": sum(map(sk.brier_score_loss, np.eye(probabilities.shape[1])[true].T, probabilities.T)),
            "ece": expected_calibration_error(true, probabilities),
        }
        for how in ("macro", "weighted"):
            options = {"labels": labels, "average": how, "zero_division": 0}
            of_labels = sk.precision_recall_fscore_support(true, predicted, **options)[:3]
            averages |= {
                f"{name}_{how}": x for name, x in zip(("precision", "recall", "f1"), of_labels, strict=True)
            }
            weights = np.bincount(true)[labels] if how == "weighted" else None
            for name in ("specificity", "auroc", "average_precision"):
                averages[f"{name}_{how}"] = np.average(figures[name], weights=weights)
    return averages, {(k, name): x[row] for name, x in figures.items() for row, k in enumerate(labels)}


def of_classes(true, predicted, probabilities, labels):
    """{figure: its value of each class}."""
    options = {"labels": labels, "zero_division": np.nan}
    precision, recall, f1, _ = sk.precision_recall_fscore_support(true, predicted, **options)
    tables = sk.multilabel_confusion_matrix(true, predicted, labels=labels)
    is_class, of_class = np.eye(probabilities.shape[1])[true][:, labels], probabilities[:, labels]
    return {
        "accuracy": tables.trace(axis1=1, axis2=2) / len(true),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "specificity": tables[:, 0, 0] / tables[:, 0].sum(axis=1),
        "auroc": sk.roc_auc_score(is_class, of_class, average=None),
        "average_precision": sk.average_precision_score(is_class, of_class, average=None),
    }


def quadratic_kappa(true, predicted, ordered):
    """Of samples of a degree; a prediction that is none counts as the one farthest from the truth."""
    degree = [b if b in ordered else farthest(a, ordered) for a, b in zip(true, predicted, strict=True)]
    scale = np.isin(true, ordered)
    if not scale.any():
        return np.nan
    return sk.cohen_kappa_score(true[scale], np.array(degree)[scale], labels=ordered, weights="quadratic")


def farthest(degree, ordered):
    """The lower where two are as far; -1 for what is no degree."""
    if degree not in ordered:
        return -1
    return max(ordered, key=lambda other: abs(ordered.index(other) - ordered.index(degree)))
