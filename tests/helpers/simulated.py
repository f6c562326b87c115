"""Simulated studies: features, labels and patients of which the truth is known."""

from dataclasses import replace

import numpy as np

from simclr_rhd.data.labelled_set import LabelledSet
from simclr_rhd.data.splits.split import group_k_fold, group_train_val_test_split, train_val_split
from simclr_rhd.heads.config import HeadConfig
from simclr_rhd.heads.cross_validation import CrossValidation, FeatureSet
from simclr_rhd.ssl.encoder.model import FEATURE_DIM

FAST = HeadConfig(linear_epochs=15, classifier_lr=1e-3, seed=0, head_seeds=1, head_l2=1e-2)


def make_labelled_set(patients=40, frames=6, *, classes=2, folds=1, seed=0, multilabel=False, names=None):
    """A cohort of one task whose classes are dealt to patients at random; each patient has two videos."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), frames)
    of_patient = rng.permutation(np.arange(patients) % classes)
    task = "condition" if multilabel else "view"
    values = {task: of_patient[patient]}
    groups = np.array([f"p{number:03d}" for number in patient])
    ways = (
        [group_train_val_test_split(groups.tolist(), list(values.values()), seed=seed)]
        if folds == 1
        else group_k_fold(groups.tolist(), list(values.values()), folds, seed=seed)
    )
    return LabelledSet(
        paths=[f"{name}_frame{number}.png" for number, name in enumerate(groups)],
        videos=np.array([f"{name}-{number % 2}" for number, name in enumerate(groups)]),
        patients=groups,
        groups=groups,
        values=values,
        classes={task: list(names or [f"class {number}" for number in range(classes)])},
        folds=ways,
        multilabel=multilabel,
    )


def make_features(groups, *, signal=0.0, true=None, noise=0.3, seed=0):
    """(n, 960) float32: a patient's own pattern, the class times `signal`, and noise."""
    rng = np.random.default_rng([seed, 1])
    group = np.unique(groups, return_inverse=True)[1]
    x = rng.normal(size=(group.max() + 1, FEATURE_DIM))[group]
    x += noise * rng.normal(size=x.shape)
    if true is not None:
        x += signal * rng.normal(size=(true.max() + 1, FEATURE_DIM))[true]
    return x.astype(np.float32)


def make_cross_validation(labelled_set, x, *, baselines=(), **options):
    pixels = np.abs(x[:, :120])
    encoded = FeatureSet(
        x,
        [x] * len(labelled_set.folds),
        {name: [of] if of.ndim == 2 else of for name, of in dict(baselines).items()},
        {"pixels": pixels, "mask": (pixels > 0.5).astype(np.float32)},
    )
    return CrossValidation(labelled_set, encoded, replace(FAST, **options))


def final_split(labelled_set):
    return train_val_split(
        labelled_set.groups, list(labelled_set.values.values()), rng=np.random.default_rng(0)
    )
