"""The number of times that a test part has been scored in the folder of a run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import METRICS, RUN_RECORD
from simclr_rhd.core.records import read_json_object
from simclr_rhd.data.dataset import Dataset


@dataclass(frozen=True)
class PastEvaluations:
    """Evaluations of a test part by earlier runs in a folder, as the record there counts them.

    Attributes:
        test_part: digest of the frames that they tested.
        n: how many there were; one that is continued counts, one that stopped before it scored does not.
        continued: whether this run is one of them.
    """

    test_part: str = ""
    n: int = 0
    continued: bool = False

    @classmethod
    def from_folder(
        cls, save_dir: Path, signature: Mapping[str, object], *, evaluate_again: bool
    ) -> "PastEvaluations":
        """Read the record in a folder; one that is missing or cannot be read counts none.

        Args:
            save_dir: the folder, before anything is removed from it.
            signature: of the run that starts.
            evaluate_again: whether what follows pretraining is repeated.
        """
        try:
            record = read_json_object(save_dir / RUN_RECORD)
            test_part, n = record.text("test_part"), record.count("test_evaluations", 1)
        except UserError:
            return cls()
        finished = record.fields.get("status") == "finished"
        continued = record.fields.get("signature") == signature and not (evaluate_again and finished)
        scored = finished or (save_dir / METRICS).exists()
        return cls(test_part, n if scored or continued else n - 1, continued)

    def count(self, test_part: str) -> int:
        """The evaluations of a test part, that of the run that starts included."""
        return 1 if test_part != self.test_part else self.n + (not self.continued)


def digest_test_part(dataset: Dataset) -> str:
    """A digest of the pictures that are tested, in hexadecimal; their order and their names do not matter."""
    tested = np.any([fold.part == "test" for fold in dataset.folds], axis=0)  # (M,) bool
    return digest_pictures(dataset.store.digests[tested])


def digest_pictures(digests: np.ndarray) -> str:
    """A digest of (n,) digests of pictures, in hexadecimal; their order does not matter."""
    return hashlib.sha256(np.sort(digests).tobytes()).hexdigest()
