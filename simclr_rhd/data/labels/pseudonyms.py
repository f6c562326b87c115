"""The names of frames and patients on a page that may be sent on: patients by number, not by name."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from simclr_rhd.data.sources.remote import SCHEMES

FIRST_DATA_LINE = 2  # of split.csv; its header is line 1
MIN_IDENTIFIER_CHARS = 4  # characters of an identifier that stands nowhere by chance
PATH_FLAGS = ("data", "save_dir", "cache_dir", "init")  # flags
NON_PATH_VALUES = ("demo", "random", "imagenet")  # what they may be beside paths
FRAME_NUMBER = re.compile(r"frame\d+")  # the number of a frame
PATH_STARTS = "|".join([*(scheme.removesuffix("/") for scheme in SCHEMES), "~", r"\.\."])
FOLDER_PATH = re.compile(rf"(?<![\w.])(?:{PATH_STARTS})?/(?:[^\s/'\"()]+/)+")  # of a path in a sentence
DOTLESS = str.maketrans("ıſ", "is")


class Pseudonyms:
    """Names of frames without patients' identifiers.

    A file's name may carry an identifier, as the label table spells it: '[patient 5]' takes its place,
    wherever it stands. Accents, capitals, and how a system stores them, do not count. Of short identifiers,
    which may stand in a name by chance, some places do not count (`_is_identifier`). Another spelling cannot
    be known.

    Args:
        keys: M names of frames, in the order of `split.csv`.
        patients: M identifiers, "" where unknown.
        others: identifiers of patients that have no frame.
    """

    def __init__(self, keys: Sequence[str], patients: Sequence[str], others: Collection[str] = ()) -> None:
        self.keys, self.patients = keys, patients
        known = dict.fromkeys(patient for patient in (*patients, *others) if patient)
        self.numbers = {patient: f"[patient {number}]" for number, patient in enumerate(known, start=1)}
        by_fold = {_fold(patient): number for patient, number in self.numbers.items()}
        self.by_folded_name = {folded: number for folded, number in by_fold.items() if folded}
        self.lengths = sorted({len(folded) for folded in self.by_folded_name}, reverse=True)

    def frame(self, row: int) -> str:
        """The name of a frame's file, without folders."""
        return self._redact(PurePosixPath(self.keys[row]).name, self.patients[row])

    def line(self, row: int) -> int:
        """The line of `split.csv` that has the frame's full name."""
        return row + FIRST_DATA_LINE

    def file(self, name: str) -> str:
        """A file's name, without folders; one that cannot be used is written with escapes, and stays so."""
        escaped = "\\" in name
        if escaped:
            with suppress(UnicodeDecodeError):
                name = name.encode("latin-1", "backslashreplace").decode("unicode_escape")
        shown = self._redact(PurePosixPath(name).name, "")
        return shown.encode("unicode_escape").decode() if escaped else shown

    def redact(self, text: str) -> str:
        """A sentence of other programs, which may quote a file's name; its folders are left out."""
        return self._redact(FOLDER_PATH.sub("", text), "")

    def patient(self, row: int) -> str:
        """The name of a frame's patient, "" where unknown."""
        return self.numbers.get(self.patients[row], "")

    def _redact(self, text: str, own: str) -> str:
        """Replace the longest identifier at each place; `own` is that of the frame's patient."""
        text, own = unicodedata.normalize("NFC", text), _fold(own)
        folded, place = "", list[int]()  # for each folded letter, which letter of the text it is of
        for number, letter in enumerate(text):
            part = _fold(letter)
            folded, place = folded + part, place + [number] * len(part)
        place.append(len(text))
        frame = FRAME_NUMBER.search(folded)
        numbered = range(*frame.span()) if frame else range(0)
        shown, done, at = "", 0, 0  # `done` letters of the text are in `shown`
        while at < len(folded):
            ends = (at + n for n in self.lengths if place[at] >= done)
            end = next((end for end in ends if self._is_identifier(folded, at, end, own, numbered)), None)
            if end is None:
                at += 1
                continue
            shown += text[done : place[at]] + self.by_folded_name[folded[at:end]]
            done, at = max(place[end], place[end - 1] + 1), end
        return shown + text[done:]

    def _is_identifier(self, folded: str, begin: int, end: int, own: str, numbered: range) -> bool:
        """Return whether an identifier stands there, and not by chance.

        One of four characters, or of three letters, is one anywhere. A shorter one is none in a longer word
        or number, or in the number of a frame. A short number must be of the frame's own patient, or, where
        that is unknown, follow a letter: others may be of a time.
        """
        part, before, after = folded[begin:end], folded[:begin][-1:], folded[end : end + 1]
        if part not in self.by_folded_name:
            return False
        if len(part) >= MIN_IDENTIFIER_CHARS - part.isalpha():
            return True
        if begin in numbered or end - 1 in numbered or _same_token(part[-1], after):
            return False
        if part.isdigit():
            within = before.isdigit() or (_is_letter(before) and _is_letter(after))  # as in A4C
            return not within and (part == own or (not own and _is_letter(before)))
        if part.isalpha():
            return not any(_is_letter(letter) or letter.isdigit() for letter in (before, after))
        return not (before.isdigit() and part[0].isdigit())


def _is_letter(letter: str) -> bool:
    return letter.isascii() and letter.isalpha()


def _same_token(letter: str, other: str) -> bool:
    """Return whether two neighbours belong to one word, or to one number."""
    return (_is_letter(letter) and _is_letter(other)) or (letter.isdigit() and other.isdigit())


def redact_paths(value: Any, config: Mapping[str, Any]) -> Any:
    """A run's record without the places of its files on a machine, which may name people: no path but names.

    Args:
        value: of JSON's types.
        config: the run's configuration.
    """
    places: dict[str, str] = {}
    for name in PATH_FLAGS:
        place = str(config.get(name) or "").rstrip("/")
        if place and place not in NON_PATH_VALUES:
            whole = place if "://" in place else str(Path(place).expanduser().absolute())
            places |= dict.fromkeys((place, whole), f"[--{name.replace('_', '-')}]")
    return _redact_paths(value, dict(sorted(places.items(), key=lambda item: -len(item[0]))))


def _redact_paths(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _redact_paths(item, places) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_paths(item, places) for item in value]
    if not isinstance(value, str):
        return value
    flag, equals, text = value.rpartition("=") if value.startswith("--") else ("", "", value)
    for place, name in places.items():
        if text.rstrip("/") == place:
            return flag + equals + name
        if place.startswith(("/", *SCHEMES)):
            text = text.replace(place, name)
    if text.startswith(("/", "~", "../")):  # of another flag
        text = ".../" + PurePosixPath(text).name
    return flag + equals + text


def _fold(text: str) -> str:
    """Fold a name: two spellings of it are equal then."""
    apart = unicodedata.normalize("NFKD", text.translate(DOTLESS)).casefold()
    return "".join(letter for letter in apart if not unicodedata.combining(letter))
