"""The streams of random numbers of a run: one for each purpose, all of them from the one seed."""

from enum import IntEnum, unique

import numpy as np


@unique
class Stream(IntEnum):
    """Purpose of random numbers; a stream keeps its number, or the same seed gives another run."""

    VIEWS = 1
    BATCHES = 2
    SPLIT = 3
    UNLABELLED_VALIDATION = 4
    HEAD_BATCHES = 5
    BOOTSTRAP = 6
    EMBEDDING_MAP = 7
    FOLDS = 8
    FOLD_VALIDATION = 9
    FRAME_SPLIT = 10
    LABEL_FRACTIONS = 11
    VALIDATION_BATCHES = 12
    BASELINE_DRAWS = 13
    NOVELTY = 14
    FINETUNE_BATCHES = 15
    FINAL_VALIDATION = 16
    HEAD_STARTS = 17
    FINETUNE_VIEWS = 18
    RECALIBRATION = 19
    SUBGROUPS = 21


def make_rng(seed: int, stream: Stream, *position: int) -> np.random.Generator:
    """A generator that depends on nothing but the seed, its purpose and a place in that purpose's stream.

    Streams, and places of one stream, are independent (`numpy.random.SeedSequence`, spawn keys). A list as a
    seed would not do: it is filled up with zeros, so that `[42, 9]` and `[42, 9, 0]` are one stream.

    Args:
        seed: of the run, at least 0.
        stream: the purpose.
        position: such as epoch and frame, each at least 0.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, *position)))
