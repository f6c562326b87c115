"""Facts of a frame without its picture: where it comes from, its size, its kind of colour.

None of this depends on the heart. What can be learnt of the classes from it is a shortcut.

Notation: M frames, n rows, P features.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from simclr_rhd.data.store.store import Store

HEADER = "header"  # name of the baseline
MAX_VALUES = 20  # of a fact, the most frequent ones; all others are one


def header_features(store: Store, origin: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """(n, P) float32, 1 where a frame has a value and 0 elsewhere, for some rows.

    The facts are site and device where the label table has them, type and size of the file's picture, and
    whether it is grey, coloured or Doppler.

    Args:
        store: M frames.
        origin: {column: (M,) values} of site and device.
        rows: (n,) of the frames.
    """
    files = [store.files[row] for row in rows.tolist()]
    facts: list[Sequence[Hashable]] = [
        *(values[rows].tolist() for values in origin.values()),
        [PurePosixPath(file).suffix.lower() for file in files],
        [(width, height) for width, height in store.sizes[rows].tolist()],
        store.color_modes[rows].tolist(),
    ]
    return np.concatenate([_one_hot(values) for values in facts], axis=1)


def _one_hot(values: Sequence[Hashable]) -> np.ndarray:
    """(n, V) float32 of the most frequent values, in the order of their numbers."""
    places = {value: at for at, (value, _) in enumerate(Counter(values).most_common(MAX_VALUES))}
    features = np.zeros((len(values), 1 + len(places)), dtype=np.float32)
    features[np.arange(len(values)), [places.get(value, len(places)) for value in values]] = 1
    return features
