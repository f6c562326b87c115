"""A classifier from an encoder and its heads: what it knows of its limits, and its screening tests."""

from collections.abc import Mapping

import numpy as np
from torch import nn

from simclr_rhd.config import Config
from simclr_rhd.core.files import cache_folder
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.decoding.salt import load_salt
from simclr_rhd.evaluation.screening.fit import fit_screening_tests
from simclr_rhd.evaluation.selective import confidence_thresholds
from simclr_rhd.heads.cross_validation import CrossValidation
from simclr_rhd.heads.model import Heads, predict
from simclr_rhd.inference.classifier import Classifier
from simclr_rhd.inference.external.training_record import (
    KNOWN_STARTS,
    OTHER_START,
    TrainingFrames,
    TrainingRecord,
    derive_salt,
    is_hashed,
    record_training,
)
from simclr_rhd.inference.model_info import ModelInfo
from simclr_rhd.inference.ood import fit_ood_detector
from simclr_rhd.runs import checkpoint


def make_classifier(
    config: Config,
    dataset: Dataset,
    cv: CrossValidation,
    encoder: nn.Module,
    heads: Heads,
    described: Mapping[str, np.ndarray],
) -> Classifier:
    """Add the detector of foreign frames, thresholds, screening tests and a description to trained heads.

    Args:
        config: of the run.
        dataset: the frames.
        cv: the labelled ones.
        encoder: a ResNet-18.
        heads: of its features.
        described: {description: (n, D) float32} of the labelled frames by the encoder, as
            `model.forward_with_ood_stats` describes them.
    """
    labelled_set, part = cv.labelled_set, dataset.part[dataset.labelled()]
    train = np.flatnonzero(part == "train")
    features = described["features"]
    table = predict(heads, features)
    limits = confidence_thresholds(labelled_set, table, part)
    facts = ModelInfo(
        classes=labelled_set.outputs(),
        image_size=config.size,
        synthetic=config.synthetic,
        thresholds={name: {level: of.threshold for level, of in at.items()} for name, at in limits.items()},
        unproved={name: {level: of.reason for level, of in at.items()} for name, at in limits.items()},
        trained_on={
            "fingerprint": dataset.fingerprint,
            "split_by": dataset.split_by,
            "leaky": dataset.leaky,
            "init": config.init if config.init in KNOWN_STARTS else OTHER_START,
            "tasks": config.tasks,
        },
    )
    training_frames = {name: values[train] for name, values in described.items()}
    novelty = fit_ood_detector(training_frames, labelled_set.groups[train].tolist(), seed=config.seed)
    screening = fit_screening_tests(config, labelled_set, table, features, part, seed=config.seed)
    record = _record(config, dataset, cv, encoder)
    return Classifier(encoder, heads, novelty, facts, record, screening)


def _record(config: Config, dataset: Dataset, cv: CrossValidation, encoder: nn.Module) -> TrainingRecord:
    store, patients = dataset.store, dataset.labels.patients
    frames = TrainingFrames(store.digests, store.content_flags, patients, dataset.part, dataset.ssl_val)
    return record_training(
        frames,
        cv.labelled_set,
        dataset.part[dataset.labelled()],
        salt=derive_salt(checkpoint.digest(encoder), dataset.fingerprint),
        secret=load_salt(cache_folder(config.cache_dir)) if any(map(is_hashed, patients)) else b"",
    )
