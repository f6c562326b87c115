"""What frames and patients are called on a page that may be sent on: patients by number, not by name."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

FIRST_LINE = 2  # of split.csv; its header is line 1


class Pseudonyms:
    """Names of frames without their patients' identifiers.

    A file's name may carry the patient's identifier, as the label table spells it, between characters that
    are no letters or digits: it is replaced by P and a number. Another spelling cannot be known.

    Args:
        keys: M names of frames, in the order of `split.csv`.
        patients: M identifiers, "" where unknown.
    """

    def __init__(self, keys: Sequence[str], patients: Sequence[str]) -> None:
        self.keys, self.patients = keys, patients
        known = dict.fromkeys(patient for patient in patients if patient)
        self.numbers = {patient: f"P{number}" for number, patient in enumerate(known, start=1)}

    def frame(self, row: int) -> str:
        """The name of a frame's file, without folders."""
        patient, name = self.patients[row], self.keys[row]
        return self._without([patient], PurePosixPath(name).name) if patient else self.file(name)

    def line(self, row: int) -> int:
        """The line of `split.csv` that tells the frame's full name."""
        return row + FIRST_LINE

    def file(self, name: str) -> str:
        """A file's name, without folders and without the identifier of any patient that is known."""
        return self._without(list(self.numbers), PurePosixPath(name).name)

    def patient(self, row: int) -> str:
        """The number of a frame's patient, "" where unknown."""
        return self.numbers.get(self.patients[row], "")

    def _without(self, patients: Sequence[str], name: str) -> str:
        longest_first = sorted(map(re.escape, patients), key=len, reverse=True)
        if not longest_first:
            return name
        pattern = rf"(?<![A-Za-z0-9])({'|'.join(longest_first)})(?![A-Za-z0-9])"
        by_lower = {patient.lower(): self.numbers[patient] for patient in patients}
        return re.sub(pattern, lambda found: by_lower[found[0].lower()], name, flags=re.IGNORECASE)
