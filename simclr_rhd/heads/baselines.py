"""Baselines in the same split as the model: the majority class, raw pixels, a mask, its nearest neighbours.

Every baseline learns from a fold's training frames, chooses on its validation frames, and predicts all.

Notation: n labelled frames, C outputs of a task (classes or lesions), P pixels.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier

from simclr_rhd.data.store.shards import Frames

RESIZED_SIDE, N_COMPONENTS = 48, 64
FRAMES_PER_CHUNK = 256  # frames that are made small together
MASK_SIDE, BLACK_LEVEL = 24, 8  # cells, and grey levels of 255 up to which a cell's mean is black
C_GRID = (0.001, 0.01, 0.1, 1.0)  # C of the logistic regression, chosen on validation frames
N_NEIGHBOURS = 20

# true (n,), C, train, val -> (n, C)
Baseline = Callable[[np.ndarray, int, np.ndarray, np.ndarray], np.ndarray]


def predict_baseline(
    baseline: Baseline,
    targets: dict[str, np.ndarray],
    n_outputs: dict[str, int],
    train: np.ndarray,
    val: np.ndarray,
) -> dict[str, np.ndarray]:
    """{task: (n, C) probabilities} of a baseline.

    Args:
        baseline: a function from class indices, number of classes, annotated rows to learn from and annotated
            rows to choose on, to the probabilities of all n frames.
        targets: {task: (n,) class indices, or (n, L) presence of lesions; -1 = not annotated}.
        n_outputs: {task: C or L}.
        train: rows to learn from.
        val: rows to choose on.
    """

    def one(true: np.ndarray, n_classes: int) -> np.ndarray:
        return baseline(true, n_classes, train[true[train] >= 0], val[true[val] >= 0])

    return {
        task: one(true, n_outputs[task])
        if true.ndim == 1
        else np.stack([one(column, 2)[:, 1] for column in true.T], axis=1)
        for task, true in targets.items()
    }


def majority(true: np.ndarray, n_classes: int, train: np.ndarray, val: np.ndarray) -> np.ndarray:
    """(n, C): each class's share of the training labels, so the largest is predicted; a `Baseline`.

    Give it targets without the classes that cannot be evaluated: if the commonest of all were one of them, it
    would never be right, and easy to beat.
    """
    shares = np.bincount(true[train], minlength=n_classes) / max(1, len(train))
    return np.tile(shares, (len(true), 1))


def pixel_features(frames: np.ndarray | Frames, rows: np.ndarray) -> np.ndarray:
    """(N, C, S, S) uint8 store -> (n, C * 48 * 48) float32, for some rows.

    A grey level counts as three equal ones, √3 times, so that distances are those of three channels.
    """
    size = RESIZED_SIDE, RESIZED_SIDE
    small = [
        F.interpolate(x, size=size, mode="bilinear", antialias=True) for x in _float_chunks(frames, rows)
    ]
    channels = max(x.shape[1] for x in small)
    scale = math.sqrt(3 / channels) / 255
    return np.concatenate([(x.expand(-1, channels, -1, -1).flatten(1) * scale).numpy() for x in small])


def mask_features(frames: np.ndarray | Frames, rows: np.ndarray) -> np.ndarray:
    """(N, C, S, S) uint8 store -> (n, 24 * 24) float32, for some rows: 1 where a cell is not black, else 0.

    The form of the sector, its place and the black bars, which tell of the device and its settings and not of
    the heart. What this baseline reaches is no sign of disease.
    """
    cells = [F.adaptive_avg_pool2d(x, MASK_SIDE).amax(dim=1).flatten(1) for x in _float_chunks(frames, rows)]
    return (torch.cat(cells) > BLACK_LEVEL).float().numpy()


def _float_chunks(frames: np.ndarray | Frames, rows: np.ndarray) -> Iterator[torch.Tensor]:
    """(B, C, S, S) float32 of some rows at a time, 0 to 255; one channel where all of these are grey."""
    for some in np.array_split(rows, max(1, len(rows) // FRAMES_PER_CHUNK)):
        yield torch.from_numpy(frames[some]).float()


def pca_features(x: np.ndarray, train: np.ndarray, *, seed: int) -> np.ndarray:
    """(n, P) -> (n, 64) float32 principal components of the training rows; of equal rows, nothing."""
    if not len(train) or not np.ptp(x[train], axis=0).any():
        return np.zeros((len(x), 1), dtype=np.float32)
    pca = PCA(min(N_COMPONENTS, len(train) - 1, x.shape[1]), svd_solver="randomized", random_state=seed)
    components: np.ndarray = pca.fit(x[train]).transform(x).astype(np.float32)
    return components


def logistic_regression(x: np.ndarray) -> Baseline:
    """Logistic regression with balanced classes on (n, P) features, its penalty chosen by log loss."""

    def fit(true: np.ndarray, n_classes: int, train: np.ndarray, val: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((len(x), n_classes))
        present_classes = np.unique(true[train])
        if len(present_classes) < 2:
            probabilities[:, present_classes] = 1
            return probabilities
        judged = val[np.isin(true[val], present_classes)]
        best = np.inf
        for inverse in C_GRID if len(judged) else (C_GRID[-1],):
            model = LogisticRegression(C=inverse, class_weight="balanced", max_iter=2000)
            predicted = model.fit(x[train], true[train]).predict_proba(x)
            loss = log_loss(true[judged], predicted[judged], labels=present_classes) if len(judged) else 0.0
            if loss < best:
                best, probabilities[:, present_classes] = loss, predicted
        return probabilities

    return fit


def knn(features: np.ndarray) -> Baseline:
    """Votes of the 20 most similar training frames, by the cosine of centred features: a second opinion.

    Training frames themselves get no prediction (probabilities 0).

    A vote counts the less, the more frames its class has in training, so that rare classes have a say.
    """

    def fit(true: np.ndarray, n_classes: int, train: np.ndarray, val: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((len(features), n_classes))
        if len(train) == 0:
            return probabilities
        x = features - features[train].mean(axis=0)
        model = KNeighborsClassifier(min(N_NEIGHBOURS, len(train)), metric="cosine")
        model.fit(x[train], true[train])
        queries = np.setdiff1d(np.arange(len(x)), train)  # a training frame would vote for itself
        votes = model.predict_proba(x[queries]) / np.bincount(true[train])[model.classes_]
        probabilities[np.ix_(queries, model.classes_)] = votes / votes.sum(axis=1, keepdims=True)
        return probabilities

    return fit
