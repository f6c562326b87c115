"""What frames and patients are called on a page that may be sent on: patients by number, not by name."""

import unicodedata
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

FIRST_LINE = 2  # of split.csv; its header is line 1
SHORTEST = 4  # digits of a number that is looked for in names of other patients' files, too
DOTLESS = str.maketrans("ıſ", "is")


class Pseudonyms:
    """Names of frames without patients' identifiers.

    A file's name may carry an identifier, as the label table spells it, between characters that are no
    letters or digits: '[patient 5]' takes its place. Accents, capitals, and how a system stores them, do not
    count. Another spelling cannot be known.

    Args:
        keys: M names of frames, in the order of `split.csv`.
        patients: M identifiers, "" where unknown.
        others: identifiers of patients that have no frame.
    """

    def __init__(self, keys: Sequence[str], patients: Sequence[str], others: Collection[str] = ()) -> None:
        self.keys, self.patients = keys, patients
        known = dict.fromkeys(patient for patient in (*patients, *others) if patient)
        self.numbers = {patient: f"[patient {number}]" for number, patient in enumerate(known, start=1)}
        self.by_fold = {_fold(patient): number for patient, number in self.numbers.items()}
        self.longest = max(map(len, self.numbers), default=0)

    def frame(self, row: int) -> str:
        """The name of a frame's file, without folders."""
        return self._without(self.keys[row], self.patients[row])

    def line(self, row: int) -> int:
        """The line of `split.csv` that tells the frame's full name."""
        return row + FIRST_LINE

    def file(self, name: str) -> str:
        """A file's name, without folders."""
        return self._without(name, "")

    def patient(self, row: int) -> str:
        """What a frame's patient is called, "" where unknown."""
        return self.numbers.get(self.patients[row], "")

    def _without(self, key: str, own: str) -> str:
        """The longest identifier at a place gives way; a short number, maybe of a time, only if `own`."""
        name, own = unicodedata.normalize("NFC", PurePosixPath(key).name), _fold(own)
        edges = [place for place in range(len(name) + 1) if _free(name, place - 1) or _free(name, place)]
        shown, at = "", 0
        while at < len(name):
            ends = [end for end in edges if at < end <= at + 2 * self.longest and _free(name, end)]
            if _free(name, at - 1):
                for end in reversed(ends):
                    part = _fold(name[at:end])
                    if part in self.by_fold and (part == own or len(part) >= SHORTEST or not part.isdigit()):
                        shown, at = shown + self.by_fold[part], end
                        break
                else:
                    shown, at = shown + name[at], at + 1
            else:
                shown, at = shown + name[at], at + 1
        return shown


def _free(name: str, place: int) -> bool:
    """Whether a word may end before, or begin after, this place of a name."""
    return not 0 <= place < len(name) or not (name[place].isascii() and name[place].isalnum())


def _fold(text: str) -> str:
    """What two spellings of a name have in common."""
    apart = unicodedata.normalize("NFKD", text.translate(DOTLESS)).casefold()
    return "".join(letter for letter in apart if not unicodedata.combining(letter))
