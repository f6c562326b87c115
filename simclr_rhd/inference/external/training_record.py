"""The frames and patients that a model has learnt from, as salted hashes: to be recognised, not to be read.

A hash of a picture says nothing about it. A patient's identifier that can be guessed can also be tested by
who has the file, so a model of patients with telling identifiers is to be kept as they are.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simclr_rhd.data.decoding.decode import OK
from simclr_rhd.data.labelled_set import LabelledSet
from simclr_rhd.data.splits.groups import HASHED_PREFIX

HASH_BYTES, SALT_BYTES = 16, 32
FRAME, PATIENT, CACHE = b"frame", b"patient", b"cache"  # what a hash is of
KNOWN_STARTS, OTHER_START = ("random", "imagenet"), "a file"  # weights that a pretraining began with
SEEN_PARTS = ("train", "val", "unlabelled")  # learnt from, or chosen on


@dataclass(frozen=True)
class TrainingRecord:
    """The data that a model has learnt from.

    Attributes:
        salt: of all hashes, another one for each model.
        frames: hashes of the pictures that it has learnt from or chosen on; not of black or plain ones, which
            are alike everywhere.
        patients: hashes of the patients of these frames, as far as they are known.
        tested: hashes of the pictures of its own test part.
        cache: hash of the secret by which identifiers in DICOM files were hashed; b"" without such files.
        class_frames: {target: {class: labelled frames of the training part}}.
    """

    salt: bytes
    frames: frozenset[bytes]
    patients: frozenset[bytes]
    tested: frozenset[bytes]
    cache: bytes
    class_frames: dict[str, dict[str, int]]

    def knows_frames(self, digests: np.ndarray) -> np.ndarray:
        """(n,) uint64 digests of pictures -> (n,) bool: the model has learnt from them, or chosen on them."""
        return self._are_in(self.frames, digests)

    def has_tested(self, digests: np.ndarray) -> np.ndarray:
        """(n,) uint64 digests of pictures -> (n,) bool: they are of the model's own test part."""
        return self._are_in(self.tested, digests)

    def knows_patients(self, patients: Sequence[str]) -> np.ndarray:
        """(n,) bool: the model has learnt from frames of a patient of this identifier."""
        known = {
            patient: hash_text(self.salt, PATIENT, patient) in self.patients for patient in set(patients)
        }
        return np.array([known[patient] for patient in patients], dtype=bool)

    def shares_secret(self, secret: bytes) -> bool:
        """Return True if patients of DICOM files have equal names where this cache's secret hashed them."""
        return self.cache == keyed_hash(self.salt, CACHE, secret)

    def to_saved(self) -> dict[str, object]:
        """The record in a model's file: tensors of uint8, in the order of the hashes, and counts."""
        return {
            "salt": _to_tensor([self.salt], SALT_BYTES),
            "frames": _to_tensor(sorted(self.frames)),
            "patients": _to_tensor(sorted(self.patients)),
            "tested": _to_tensor(sorted(self.tested)),
            "cache": _to_tensor([self.cache] if self.cache else []),
            "class_frames": self.class_frames,
        }

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> "TrainingRecord":
        """The record of a model's file.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is damaged.
        """
        counts = saved["class_frames"]
        numbers = [number for of_target in counts.values() for number in of_target.values()]
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError("the frames of its classes are no counts")
        (salt,) = _to_hashes(saved["salt"], SALT_BYTES)
        frames, patients, tested = (
            frozenset(_to_hashes(saved[name])) for name in ("frames", "patients", "tested")
        )
        return cls(salt, frames, patients, tested, b"".join(_to_hashes(saved["cache"])[:1]), counts)

    def _are_in(self, hashes: frozenset[bytes], digests: np.ndarray) -> np.ndarray:
        matches = (hash_ in hashes for hash_ in hash_digests(self.salt, digests))
        return np.fromiter(matches, dtype=bool, count=len(digests))


@dataclass(frozen=True)
class TrainingFrames:
    """The frames of a run, as far as they are recorded.

    Attributes:
        digests: (M,) uint64, of the pictures.
        content_flags: (M,) uint8, as of the store.
        patients: M names, "" where unknown.
        part: (M,) parts of the final model.
        held_out: (M,) bool: frames of the contrastive validation loss, on which epochs are chosen.
    """

    digests: np.ndarray
    content_flags: np.ndarray
    patients: Sequence[str]
    part: np.ndarray
    held_out: np.ndarray


def record_training(
    frames: TrainingFrames, labelled_set: LabelledSet, part: np.ndarray, *, salt: bytes, secret: bytes
) -> TrainingRecord:
    """Record what a model has learnt from.

    Args:
        frames: of the run.
        labelled_set: the n labelled ones.
        part: (n,) parts of the final model.
        salt: 32 bytes.
        secret: of the cache folder; read only if patients come from DICOM files.
    """
    seen = np.isin(frames.part, SEEN_PARTS) | frames.held_out
    shown = frames.content_flags == OK
    patients = {frames.patients[row] for row in np.flatnonzero(seen).tolist()} - {""}
    train = part == "train"
    return TrainingRecord(
        salt=salt,
        frames=frozenset(hash_digests(salt, frames.digests[seen & shown])),
        patients=frozenset(hash_text(salt, PATIENT, patient) for patient in patients),
        tested=frozenset(hash_digests(salt, frames.digests[(frames.part == "test") & shown])),
        cache=keyed_hash(salt, CACHE, secret) if any(map(is_hashed, patients)) else b"",
        class_frames={
            target.name: {
                name: int((train & (target.true == number)).sum())
                for number, name in enumerate(target.classes)
            }
            for target in labelled_set.targets()
        },
    )


def is_hashed(patient: str) -> bool:
    """Return True for the name of a patient of a DICOM file, hashed with the cache folder's secret."""
    return patient.startswith(HASHED_PREFIX)


def derive_salt(weights: str, fingerprint: str) -> bytes:
    """The salt of a model: of its weights and its data, so that a run that is repeated writes the same file.

    Args:
        weights: digest of the encoder.
        fingerprint: of the data.
    """
    return hashlib.sha256(f"{weights}\0{fingerprint}".encode()).digest()


def keyed_hash(salt: bytes, what: bytes, content: bytes) -> bytes:
    """16 bytes: BLAKE2b with the salt as its key; hashes of different things never meet."""
    return hashlib.blake2b(content, digest_size=HASH_BYTES, key=salt, person=what).digest()


def hash_text(salt: bytes, what: bytes, text: str) -> bytes:
    """The hash of a name, whose capitals, blanks and way of writing accents do not count."""
    return keyed_hash(salt, what, " ".join(unicodedata.normalize("NFC", text).split()).casefold().encode())


def hash_digests(salt: bytes, digests: np.ndarray) -> Iterable[bytes]:
    """The hashes of (n,) uint64 digests of pictures."""
    content = digests.astype("<u8").tobytes()
    return (keyed_hash(salt, FRAME, content[first : first + 8]) for first in range(0, len(content), 8))


def _to_tensor(hashes: Sequence[bytes], width: int = HASH_BYTES) -> Tensor:
    """(n, width) uint8."""
    return torch.from_numpy(np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, width).copy())


def _to_hashes(saved: Tensor, width: int = HASH_BYTES) -> list[bytes]:
    if saved.dtype != torch.uint8 or saved.ndim != 2 or saved.shape[1] != width:
        raise ValueError("its hashes of the training data are of another form")
    return [row.tobytes() for row in saved.contiguous().numpy()]
