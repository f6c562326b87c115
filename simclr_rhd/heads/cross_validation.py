"""Cross-validation: the heads and their baselines, each learnt and tested in every fold.

Predictions are a list of tables, one for each fold: the probabilities of all labelled frames by what was
learnt from that fold's training part.

Notation: n labelled frames, K folds, D features, P pixels.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from simclr_rhd.data.labelled_set import LabelledSet, Probabilities
from simclr_rhd.heads import baselines
from simclr_rhd.heads.config import HeadConfig
from simclr_rhd.heads.losses import HeadTargets
from simclr_rhd.heads.model import Heads, predict
from simclr_rhd.heads.train import TrainedHeads, train_heads
from simclr_rhd.ssl.pretrain import PretrainedEncoders

OURS, UNCALIBRATED = "simclr", "uncalibrated"
MAJORITY, PIXELS, MASK, NEIGHBOURS = "majority", "pixels", "mask", "neighbours"
RANDOM_ENCODER, N_RANDOM_ENCODERS, DRAW_SUFFIX = "random encoder", 3, ", draw "  # of which there are so many


@dataclass(frozen=True)
class FeatureSet:
    """Features of the labelled frames by several encoders, each frame once.

    Attributes:
        descriptors: {description: (n, D) float32} of the encoder that is kept, see
            `model.forward_with_ood_stats`.
        per_fold: K times (n, D): of the encoder that a fold is tested with; one array if there is one.
        baseline_encoders: {name: (n, D) of each draw} of encoders to compare with; of a random
            one there are several, as one is a draw.
        pictures: {name: (n, P) float32} of small pictures, masks, and what is known without them.
    """

    descriptors: dict[str, np.ndarray]
    per_fold: Sequence[np.ndarray]
    baseline_encoders: Mapping[str, Sequence[np.ndarray]]
    pictures: Mapping[str, np.ndarray]

    @property
    def final(self) -> np.ndarray:
        """(n, D) float32 features of the encoder that is kept."""
        return self.descriptors["features"]


@dataclass(frozen=True)
class FoldResult:
    """The encoder and heads of a fold, or of the final model.

    Attributes:
        encoder: a ResNet-18.
        trained: the heads on its features.
        part: (n,) 'train', 'val' or 'test': the division that the heads learnt from.
    """

    encoder: nn.Module
    trained: TrainedHeads
    part: np.ndarray


@dataclass(frozen=True)
class CrossValidation:
    """Train and predict on the features of the labelled frames, fold by fold.

    Attributes:
        labelled_set: the frames, and how they are tested.
        features: their features.
        config: of the heads.
    """

    labelled_set: LabelledSet
    features: FeatureSet
    config: HeadConfig

    def folds(self) -> range:
        """Numbers of the folds."""
        return range(len(self.labelled_set.folds))

    def fit(self, x: np.ndarray, train: np.ndarray, val: np.ndarray) -> TrainedHeads:
        """Heads on (n, D) features that learn from some rows and choose on others."""
        return train_heads(x, head_targets(self.labelled_set), train, val, self.config)

    def fit_folds(self, features: Sequence[np.ndarray]) -> list[TrainedHeads]:
        """The heads of each fold."""
        rows = self.labelled_set.rows
        return [self.fit(features[fold], rows(fold, "train"), rows(fold, "val")) for fold in self.folds()]

    def fit_final(self, part: np.ndarray) -> TrainedHeads:
        """The heads of the model that is kept, on its own (n,) parts."""
        return self.fit(self.features.final, np.flatnonzero(part == "train"), np.flatnonzero(part == "val"))

    def fit_all(
        self, encoders: PretrainedEncoders, final_part: np.ndarray
    ) -> tuple[FoldResult, list[FoldResult]]:
        """Heads of the final model, on its (n,) parts, and of each fold; of one fold both are the same."""
        folds = [
            FoldResult(encoders.of_fold(fold), trained, self.labelled_set.folds[fold])
            for fold, trained in enumerate(self.fit_folds(self.features.per_fold))
        ]
        if len(folds) == 1:
            return folds[0], folds
        return FoldResult(encoders.final, self.fit_final(final_part), final_part), folds

    def predict_all(self, trained: Sequence[TrainedHeads]) -> dict[str, list[Probabilities]]:
        """{method: K tables} of our heads, calibrated and not, and of all baselines.

        Of several draws of an encoder each is one, the second and later ones named by `draw_name`.
        """
        heads, features = [of_fold.heads for of_fold in trained], self.features.per_fold
        predictions = {
            OURS: predict_folds(heads, features),
            UNCALIBRATED: predict_folds([uncalibrated(of_fold) for of_fold in heads], features),
            **{name: [] for name in (MAJORITY, *self.features.pictures, NEIGHBOURS)},
        }
        # One majority for all folds: that of a fold's training groups is the class its test groups lack.
        train_of_any_fold = np.flatnonzero(
            np.any([part == "train" for part in self.labelled_set.folds], axis=0)
        )
        for fold in self.folds():
            rows = self.labelled_set.rows(fold, "train"), self.labelled_set.rows(fold, "val")
            evaluable_targets = self.labelled_set.evaluable_target_values()
            predictions[MAJORITY].append(
                self._predict_baseline(baselines.majority, evaluable_targets, train_of_any_fold, rows[1])
            )
            for name in self.features.pictures:
                predictions[name].append(self.predict_from_pictures(name, *rows))
            votes = baselines.knn(features[fold])
            predictions[NEIGHBOURS].append(
                self._predict_baseline(votes, self.labelled_set.target_values(), *rows)
            )
        for name, drawn in self.features.baseline_encoders.items():
            for number, x in enumerate(drawn, start=1):
                same = [x for _ in self.folds()]
                heads = [of_fold.heads for of_fold in self.fit_folds(same)]
                predictions[draw_name(name, number)] = predict_folds(heads, same)
        return predictions

    def predict_from_pictures(self, name: str, train: np.ndarray, val: np.ndarray) -> Probabilities:
        """The table of a logistic regression on the principal components of the pixels, or of others."""
        x = baselines.pca_features(self.features.pictures[name], train, seed=self.config.seed)
        return self._predict_baseline(
            baselines.logistic_regression(x), self.labelled_set.target_values(), train, val
        )

    def with_frame_split(self) -> "CrossValidation":
        """Return the same frames and features under a split over frames, to measure a leak."""
        return replace(self, labelled_set=self.labelled_set.with_frame_split(seed=self.config.seed))

    def _predict_baseline(
        self, baseline: baselines.Baseline, targets: Probabilities, train: np.ndarray, val: np.ndarray
    ) -> dict[str, np.ndarray]:
        return baselines.predict_baseline(baseline, targets, self.labelled_set.n_outputs(), train, val)


def head_targets(labelled_set: LabelledSet) -> HeadTargets:
    """The targets of the heads."""
    return HeadTargets(labelled_set.target_values(), labelled_set.n_outputs(), labelled_set.groups)


def draw_name(name: str, number: int) -> str:
    """The name of a draw of a baseline, from 1 on: the first has the baseline's own name."""
    return name if number == 1 else f"{name}{DRAW_SUFFIX}{number}"


def predict_folds(heads: Sequence[Heads], features: Sequence[np.ndarray]) -> list[Probabilities]:
    """The tables of heads, one for each fold."""
    return [predict(of_fold, x) for of_fold, x in zip(heads, features, strict=True)]


def uncalibrated(heads: Heads) -> Heads:
    """Return copies of the heads without calibration."""
    bare = copy.deepcopy(heads)
    bare.uncalibrate()
    return bare


def out_of_fold(
    labelled_set: LabelledSet, fold_predictions: Sequence[Probabilities], part: str
) -> Probabilities:
    """One table: each frame's mean over the folds in which it stands in a part, NaN where in none.

    For 'test' that is one fold at most: out-of-fold predictions.
    """
    here = np.stack([of_fold == part for of_fold in labelled_set.folds])  # (K, n)
    times = here.sum(axis=0)[:, None]
    with np.errstate(invalid="ignore"):
        return {
            task: sum(table[task] * rows[:, None] for table, rows in zip(fold_predictions, here, strict=True))
            / times
            for task in fold_predictions[0]
        }
