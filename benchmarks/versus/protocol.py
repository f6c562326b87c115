"""The protocol of all competitors: the same frames, the same folds, the same probe.

Notation: n labelled frames of a task, C classes, D features, K folds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.stats import t
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from torch import nn

from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.load import read_dataset
from simclr_rhd.data.sources.open import open_data
from simclr_rhd.data.store.shards import Frames
from simclr_rhd.heads.baselines import N_COMPONENTS
from simclr_rhd.ssl.encoder.features import extract
from simclr_rhd.ssl.encoder.model import FEATURE_DIM

FOLDS = 5
FOLD_SEEDS = (0, 1, 2)  # assignments of patients to folds that a score is the mean of
INVERSE_PENALTIES = (0.0001, 0.001, 0.01, 0.1)
HEART = ("Apical Two Chamber (A2C)", "Apical Four Chamber (A4C)")
TASKS = ("view", "condition", "severity")


@dataclass(frozen=True)
class Task:
    """One classification task.

    Attributes:
        rows: (n,) frames that have an answer, as rows of the store.
        true: (n,) class indices.
        groups: (n,) codes of the patients.
    """

    rows: np.ndarray
    true: np.ndarray
    groups: np.ndarray


def read(data: str, cache_dir: Path, *, image_size: int) -> Dataset:
    """The frames and labels, as the main job reads them, patients apart."""
    config = DataConfig(data=data, image_size=image_size, group_by="patient", cache_dir=str(cache_dir))
    return read_dataset(open_data(config), config, rejected_csv=cache_dir / "rejected.csv")


def pretraining_rows(dataset: Dataset) -> np.ndarray:
    """(n,) the frames that every competitor pretrains on: all that have no label.

    Frames of patients that a probe is tested on are among them, without their labels, for all alike.
    """
    return dataset.rows("unlabelled", "held-out")


def tasks(dataset: Dataset) -> dict[str, Task]:
    """The labelled tasks; of the views only the heart's two: anything tells lung from heart."""
    groups = np.unique(dataset.groups, return_inverse=True)[1]
    result = {}
    for task in TASKS:
        true, classes = dataset.labels.values[task], dataset.labels.classes[task]
        wanted = true >= 0
        if not wanted.any():
            continue
        if task == "view" and set(HEART) <= set(classes):
            wanted = np.isin(true, [classes.index(name) for name in HEART])
        rows = np.flatnonzero(wanted)
        result[task] = Task(rows, np.unique(true[rows], return_inverse=True)[1], groups[rows])
    return result


def all_tasks(dataset: Dataset) -> dict[str, Task]:
    """The tasks of the main job, all views among them."""
    groups = np.unique(dataset.groups, return_inverse=True)[1]
    result = {}
    for task in TASKS:
        true = dataset.labels.values[task]
        rows = np.flatnonzero(true >= 0)
        result[task] = Task(rows, true[rows], groups[rows])
    return result


def frame_path(dataset: Dataset, folder: str, row: int) -> Path:
    """The file that a stored frame was read from."""
    return Path(folder, dataset.store.files[row])


def features(encoder: nn.Module, dataset: Dataset, task: Task, *, size: int) -> np.ndarray:
    """(n, 960) of whole frames."""
    return extract(encoder, dataset.store.frames, task.rows, size=size, device=torch.device("cpu"))


def evaluate_encoder(
    encoder: nn.Module, dataset: Dataset, *, size: int, width: int = FEATURE_DIM
) -> dict[str, list[float]]:
    """{task: balanced accuracy for each assignment of folds} of an encoder's features of whole frames.

    Args:
        encoder: a ResNet-18.
        dataset: frames.
        size: pixels of a frame's side.
        width: how many of the last features are seen; the last stage has 512.
    """
    results = {}
    for task, target in tasks(dataset).items():
        x = features(encoder, dataset, target, size=size)[:, -width:]
        results[task] = [scores(x, target, seed=seed)["test"] for seed in FOLD_SEEDS]
    return results


def evaluate_pictures(
    dataset: Dataset, describe: Callable[[Frames, np.ndarray], np.ndarray]
) -> dict[str, list[float]]:
    """The same of the baselines: principal components of each training part's pixels, or masks."""
    results = {}
    for task, target in tasks(dataset).items():
        x = describe(dataset.store.frames, target.rows)
        results[task] = [scores(x, target, seed=seed, components=True)["test"] for seed in FOLD_SEEDS]
    return results


def assign_folds(task: Task, *, seed: int) -> np.ndarray:
    """(n,) the fold that tests each frame."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    fold = np.empty(len(task.true), dtype=int)
    for number, (_, test) in enumerate(folds.split(task.true, task.true, task.groups)):
        fold[test] = number
    return fold


def scores(features: np.ndarray, task: Task, *, seed: int, components: bool = False) -> dict[str, Any]:
    """Balanced accuracy of a linear probe by K-fold cross-validation, patients apart.

    The predictions of all K test folds are pooled. For each fold the penalty is chosen inside, by
    cross-validation over the K-1 other folds, of which each is left out once; the balanced accuracy there is
    what a recipe may be chosen by for that test fold, no frame of which has a part in it.

    Args:
        features: (n, D), of `task.rows`.
        task: the classification task.
        seed: of the folds.
        components: whether the probe sees principal components, else standardised features.

    Returns:
        {"test": balanced accuracy over all frames, "inner": of each fold, over the frames outside it,
        "answers": (n,) the class predicted for each frame when its fold is tested}.
    """
    fold = assign_folds(task, seed=seed)
    pairs = [(a, b) for a in range(FOLDS) for b in range(a, FOLDS)]  # a = b: the outer fold alone
    jobs = (delayed(_predict)(features, task.true, fold, *pair, components) for pair in pairs)
    predictions = dict(zip(pairs, Parallel(n_jobs=-1)(jobs), strict=True))
    test = np.empty(len(task.true), dtype=int)
    inner = []
    for number in range(FOLDS):
        other = fold != number
        # answers for each of the other folds, by what learnt from neither it nor the test fold
        within = np.empty((len(INVERSE_PENALTIES), len(task.true)), dtype=int)
        for second in set(range(FOLDS)) - {number}:
            rows = fold == second
            within[:, rows] = predictions[min(number, second), max(number, second)][:, rows]
        judged = [balanced_accuracy_score(task.true[other], one[other]) for one in within]
        inner.append(max(judged))
        test[~other] = predictions[number, number][int(np.argmax(judged))][~other]
    return {
        "test": float(balanced_accuracy_score(task.true, test)),
        "inner": [float(x) for x in inner],
        "answers": test.tolist(),
    }


def macro(scores: dict[str, list[float]]) -> float:
    """Mean over tasks of the mean over assignments of folds."""
    return float(np.mean([np.mean(values) for values in scores.values()]))


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds; of a single one its value."""
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean


def interval(differences: Sequence[float]) -> str:
    """Mean of a difference and its 95 % interval over seeds (Student's t); patients' chance is not in it."""
    n, mean = len(differences), float(np.mean(differences))
    if n == 1:
        return f"{mean:+.3f}"
    half = t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / math.sqrt(n)
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


def _predict(
    x: np.ndarray, true: np.ndarray, fold: np.ndarray, a: int, b: int, components: bool
) -> np.ndarray:
    """(penalties, n) class indices for all frames, learnt from those in neither fold."""
    train = (fold != a) & (fold != b)
    pca = PCA(min(N_COMPONENTS, train.sum() - 1, x.shape[1]), svd_solver="randomized", random_state=0)
    first = (pca if components else StandardScaler()).fit(x[train])
    x = first.transform(x).astype(np.float64)
    out = []
    for inverse in INVERSE_PENALTIES:
        model = LogisticRegression(C=inverse, class_weight="balanced", max_iter=1000, tol=1e-3)
        out.append(model.fit(x[train], true[train]).predict(x))
    return np.stack(out)
