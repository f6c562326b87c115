"""What a trained model must beat, on the same split: the majority class, and the raw pixels."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from simclr_rhd.shards import Frames

PIXELS, COMPONENTS = 48, 64


def majority(train_labels: np.ndarray, n: int, n_classes: int) -> np.ndarray:
    """(n, n_classes) probabilities: each class's share of the training labels, so the largest is said."""
    shares = np.bincount(train_labels, minlength=n_classes) / max(1, len(train_labels))
    return np.tile(shares, (n, 1))


def pixels(frames: np.ndarray | Frames, rows: np.ndarray) -> np.ndarray:
    """(N, C, S, S) uint8 store -> (n, 3 * 48 * 48) float32 in [0, 1], for some rows."""
    small = [
        F.interpolate(
            torch.from_numpy(frames[some]).float().div(255),
            size=(PIXELS, PIXELS),
            mode="bilinear",
            antialias=True,
        )
        .expand(-1, 3, -1, -1)
        .flatten(1)
        for some in np.array_split(rows, max(1, len(rows) // 256))
    ]
    return torch.cat(small).numpy()


def fit_pixels(
    x: np.ndarray, labels: np.ndarray, n_classes: int, test: np.ndarray, *, seed: int
) -> np.ndarray:
    """PCA to 64 components, then logistic regression with balanced classes.

    Args:
        x: (n, P) training pixels.
        labels: (n,) class indices.
        n_classes: C.
        test: (m, P) pixels to classify.
        seed: of the randomised PCA.

    Returns:
        (m, C) probabilities; a class without training frames has 0.
    """
    probabilities = np.zeros((len(test), n_classes))
    found = np.unique(labels)
    if len(found) < 2 or len(test) == 0:
        probabilities[:, found] = 1
        return probabilities
    model = make_pipeline(
        PCA(min(COMPONENTS, len(x) - 1, x.shape[1]), random_state=seed),
        LogisticRegression(class_weight="balanced", max_iter=2000),
    )
    probabilities[:, found] = model.fit(x, labels).predict_proba(test)
    return probabilities
