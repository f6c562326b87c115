"""Frames of a data set that a model has learnt from: they are found, and refused or left out.

Notation: n frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.decode import OK
from simclr_rhd.data.labels.pseudonyms import Pseudonyms
from simclr_rhd.evaluation.scores.records import Record
from simclr_rhd.inference.external.training_record import TrainingRecord, is_hashed

MAX_NAMED_FILES = 5  # in a message


@dataclass(frozen=True)
class Overlap(Record):
    """Overlap of a data set with what a model has learnt from, as far as it could be compared.

    Attributes:
        recorded: whether the model carries a record of what it has learnt from.
        frames: labelled frames of the data set.
        frames_compared: of these; all that show something.
        patients: known patients of these frames.
        patients_compared: of these.
        patients_not_compared: why the others were not; "" if all were.
        known_frames: frames that the model has learnt from, or chosen on.
        known_patients: patients of whom it has learnt from frames.
        tested_frames: frames of the model's own test part.
        left_out: frames that were left out since they or their patients are known.
    """

    recorded: bool
    frames: int
    frames_compared: int
    patients: int
    patients_compared: int
    patients_not_compared: str
    known_frames: int
    known_patients: int
    tested_frames: int
    left_out: int


@dataclass(frozen=True)
class ComparedFrames:
    """Labelled frames of a data set.

    Attributes:
        digests: (n,) uint64, of the pictures.
        content_flags: (n,) uint8, as of the store.
        patients: n names, "" where unknown.
        secret: of the cache folder; b"" without DICOM files.
    """

    digests: np.ndarray
    content_flags: np.ndarray
    patients: Sequence[str]
    secret: bytes


def find_overlap(
    record: TrainingRecord | None, frames: ComparedFrames, *, ignore_patients: bool
) -> tuple[Overlap, np.ndarray]:
    """Compare a data set with what a model has learnt from.

    Args:
        record: of the model; None if its file has none.
        frames: the n labelled ones.
        ignore_patients: do not compare patients' identifiers.

    Returns:
        The overlap, and (n,) bool: frames that the model knows, or whose patient it knows.
    """
    shown = frames.content_flags == OK
    patients = sorted({*frames.patients} - {""})
    compared, reason = comparable_patients(record, patients, frames.secret, ignore_patients=ignore_patients)
    known = np.zeros((3, len(shown)), dtype=bool)  # by picture, by patient, of the test part
    if record:
        known[0, shown] = record.knows_frames(frames.digests[shown])
        known[2, shown] = record.has_tested(frames.digests[shown])
        is_known = dict(zip(compared, record.knows_patients(compared), strict=True))
        known[1] = [is_known.get(patient, False) for patient in frames.patients]
    overlap = Overlap(
        recorded=record is not None,
        frames=len(shown),
        frames_compared=int(shown.sum()) if record else 0,
        patients=len(patients),
        patients_compared=len(compared),
        patients_not_compared=reason,
        known_frames=int(known[0].sum()),
        known_patients=len({frames.patients[row] for row in np.flatnonzero(known[1]).tolist()}),
        tested_frames=int(known[2].sum()),
        left_out=0,
    )
    return overlap, known[0] | known[1]


def comparable_patients(
    record: TrainingRecord | None, patients: Sequence[str], secret: bytes, *, ignore_patients: bool
) -> tuple[list[str], str]:
    """The patients whose names can be compared with those of a record, and why the others cannot be.

    A DICOM file's patient is hashed with the cache folder's secret: another folder gives another name.
    """
    if not patients:
        return [], ""
    if record is None:
        return [], "the model's file is of an older version and has no record of its patients"
    if ignore_patients:
        return [], "--ignore-patient-ids was given"
    if not record.patients:
        return [], "no patient was known in the training"
    typed = [patient for patient in patients if not is_hashed(patient)]
    if len(typed) == len(patients) or record.shares_secret(secret):
        return list(patients), ""
    return typed, (
        "identifiers in DICOM files are hashed with a secret of the cache folder, and that of the training "
        "was another one, or its patients were not of DICOM files"
    )


def refuse_known(data: str, overlap: Overlap, known: np.ndarray, names: Pseudonyms, rows: np.ndarray) -> None:
    """Refuse a data set that the model has learnt from.

    Args:
        data: its place, for the message.
        overlap: of it.
        known: (n,) bool, see `find_overlap`.
        names: of the frames.
        rows: (n,) place of each frame among them.

    Raises:
        UserError: some frames are known.
    """
    if not known.any():
        return
    files = list(dict.fromkeys(names.frame(int(row)) for row in rows[known]))
    more = f" and {len(files) - MAX_NAMED_FILES} more" if len(files) > MAX_NAMED_FILES else ""
    advice = (
        "; if each hospital counts its patients anew, and these are other people, pass --ignore-patient-ids"
        if overlap.known_patients
        else ""
    )
    raise UserError(
        f"--data {data}: the model has learnt from {overlap.known_frames} of these {overlap.frames} labelled "
        f"frames, and from {overlap.known_patients} of their patients. Scores there would say nothing about "
        f"new patients. Such are {', '.join(files[:MAX_NAMED_FILES])}{more}. Name another data set, or leave "
        f"these {int(known.sum())} frames out with --exclude-known{advice}"
    )


def overlap_sentences(overlap: Overlap) -> list[str]:
    """The comparison in sentences; those that begin with WARNING weaken the result."""
    lines: list[str] = []
    if not overlap.recorded:
        lines.append(
            "WARNING whether the model has learnt from these frames could not be checked: its file is of an "
            "older version, without a record of them"
        )
    else:
        lines.append(
            f"compared with what the model has learnt from: {overlap.frames_compared} of {overlap.frames} "
            f"labelled frames by their picture, {overlap.patients_compared} of {overlap.patients} patients "
            f"by their identifier; {overlap.known_frames} frames and {overlap.known_patients} patients are "
            "known. A picture that was saved anew, or cut, is not recognised"
        )
        if overlap.patients_not_compared:
            lines.append(
                f"WARNING {overlap.patients - overlap.patients_compared} of {overlap.patients} patients "
                f"could not be compared: {overlap.patients_not_compared}"
            )
        if not overlap.patients:
            lines.append("WARNING no patient is known here, so only pictures could be compared")
    if overlap.left_out:
        lines.append(f"{overlap.left_out} labelled frames were left out, as --exclude-known wants")
    if overlap.tested_frames:
        lines.append(
            f"WARNING {overlap.tested_frames} frames are of the model's own test part: it has not learnt "
            "from them, but they are of the same hospital"
        )
    return lines
