"""The label table: what the labelling form exports, brought to one row per frame.

A frame is called `<video>_frame<number>.<ext>`: its video is the text before `_frame`; a still is its own.
"""

import ast
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from simclr_rhd.annotators import Conflict, agreement, settle
from simclr_rhd.errors import UserError
from simclr_rhd.frames import is_frame
from simclr_rhd.groups import HASHED
from simclr_rhd.table import COLUMNS, FILE_COLUMN, PATIENT_COLUMN, match, read_rows

TASKS = ("view", "condition", "severity")
NOT_ANNOTATED = -1  # in place of a class's index
NOT_APPLICABLE = "Not Applicable"
ALONE = frozenset({NOT_APPLICABLE, "Healthy"})  # conditions that contradict any lesion beside them
MISSING = frozenset({"", "nan", "na", "none", "null"})  # how tables write an empty cell, reduced
LONGEST_CELL = 2_000  # characters that are parsed as a list
NO_LESION = "no lesion"
PAIR = " + "  # joins the lesions of a condition with several

# The known classes of each task in clinical order, each with the spellings that stand for it, reduced to
# lower-case letters and digits. A pattern must match the whole spelling.
KNOWN: dict[str, dict[str, str]] = {
    "view": {
        "Parasternal Long Axis (PLAX)": r"(parasternallongaxis(view)?)?(plax)?",
        "Parasternal Short Axis (PSAX)": r"(parasternalshortaxis(view)?)?(psax)?",
        "Apical Two Chamber (A2C)": r"(apical(two|2)chambers?(view)?)?(a2c|2ch)?",
        "Apical Three Chamber (A3C)": r"(apical(three|3)chambers?(view)?)?(a3c|3ch)?",
        "Apical Four Chamber (A4C)": r"(apical(four|4)chambers?(view)?)?(a4c|4ch)?",
        "Apical Five Chamber (A5C)": r"(apical(five|5)chambers?(view)?)?(a5c|5ch)?",
        "Subcostal": r"subcostal(view)?",
        "Doppler": r"(colou?r)?doppler",
        NOT_APPLICABLE: r"notapplicable",
    },
    "condition": {
        "Healthy": r"healthy|normal",
        "Aortic Valve Regurgitation": r"aortic(valve)?(regurgitation|insufficiency)|ar",
        "Mitral Valve Prolapse": r"mitral(valve)?prolapse|mvp",
        "Mitral Valve Regurgitation": r"mitral(valve)?(regurgitation|insufficiency)|mr",
        "Pulmonary Valve Regurgitation": r"pulmon(ary|ic)(valve)?(regurgitation|insufficiency)|pr",
        "Tricuspid Valve Regurgitation": r"tricuspid(valve)?(regurgitation|insufficiency)|tr",
        NOT_APPLICABLE: r"notapplicable",
    },
    "severity": {
        NOT_APPLICABLE: r"notapplicable",
        "Normal": r"normal",
        "Borderline RHD": r"borderline(rhd)?",
        "Definite RHD": r"definite(rhd)?|rhd",
    },
}


@dataclass(frozen=True)
class Labels:
    """One row per frame, in the order of the frames.

    Attributes:
        classes: class names of each task, in clinical order; a task with fewer than two cannot be learnt.
        values: {task: (N,) int64 index into `classes`, -1 = not annotated}.
        videos: N names of videos.
        patients: N patients: of the table, else of the DICOM file, "" where unknown.
        named: all patients of the table, those without a frame, too.
        doubts: (video, patient) that may belong together: of frames whose rows name several patients, and of
            those that have a patient in the table and another name for it in the file.
        conflicts: where rows of one file disagree. Not annotated for that task, unless the policy finds a
            reading; where they disagree on the patient, not annotated at all.
        rows_without_file: file names of the table that no file, or more than one, has.
        files_without_row: files of the labelled folder that the table does not name.
        agreement: Cohen's kappa of each pair of annotators.
    """

    classes: dict[str, list[str]]
    values: dict[str, np.ndarray]
    videos: list[str]
    patients: list[str]
    named: list[str]
    doubts: list[tuple[str, str]]
    conflicts: list[Conflict]
    rows_without_file: list[str]
    files_without_row: list[str]
    agreement: list[dict[str, Any]]

    def annotated(self) -> np.ndarray:
        """(N,) bool: frames with a label for at least one task."""
        return np.any([values >= 0 for values in self.values.values()], axis=0)


def read_labels(
    table: bytes,
    name: str,
    *,
    files: Sequence[str],
    listed: Sequence[str],
    prefixes: tuple[str, str],
    hashed_patients: Mapping[str, str] | None = None,
    policy: str = "drop",
) -> Labels:
    """Match the rows of a label table with frames.

    Args:
        table: the CSV file.
        name: what to call the table in messages.
        files: of each of the N frames the file it comes from; frames of one clip share its labels.
        listed: names of all files below the labelled prefix, the rejected ones too.
        prefixes: the folders of the labelled and of the unlabelled frames.
        hashed_patients: by file, of DICOM files.
        policy: what to do where rows of one file disagree: 'drop', 'latest' or 'majority'.

    Raises:
        UserError: the table cannot be read, lacks a column, or names none of the files.
    """
    rows = read_rows(table, name)
    rows_of, rows_without_file = match(rows, listed)
    if not rows_of:
        raise UserError(
            f"{name}: none of its {len(rows)} rows names a file below {prefixes[0]}. Its first "
            f"row names {rows[0][FILE_COLUMN]!r}; the first file is {listed[0]!r}"
        )
    readers = {task: class_reader(task, [row[column] for row in rows]) for task, column in COLUMNS.items()}
    readers["patient"] = patient_reader([row.get(PATIENT_COLUMN) or "" for row in rows])
    columns = COLUMNS | {"patient": PATIENT_COLUMN}
    found: dict[str, dict[str, str]] = {what: {} for what in columns}  # {column: {key: its one reading}}
    conflicts: list[Conflict] = []
    for file, what in itertools.product(sorted(rows_of), columns):
        readings = [(readers[what](row.get(columns[what]) or ""), row) for row in rows_of[file]]
        distinct = set().union(*(said for said, _ in readings))
        if len(distinct) == 1:
            found[what][file] = distinct.pop()
        elif distinct:
            used = "" if what == "patient" else settle(readings, policy)
            conflicts.append(Conflict.of(file, what, readings, used))
            found[what] |= {file: used} if used else {}
    several = {conflict.file: conflict for conflict in conflicts if conflict.task == "patient"}
    for file, task in itertools.product(several, TASKS):
        found[task].pop(file, None)  # rows that disagree on whose frame it is say nothing of value

    classes, values = {}, {}
    for task in TASKS:
        classes[task] = sorted(set(found[task].values()), key=lambda text: clinical_order(task, text))
        index = {text: number for number, text in enumerate(classes[task])} | {None: NOT_ANNOTATED}
        values[task] = np.array([index[found[task].get(file)] for file in files], dtype=np.int64)
    hashed = {file: HASHED + patient for file, patient in (hashed_patients or {}).items()}
    videos = videos_of(files, prefixes)
    video = dict(zip(files, videos, strict=True))
    named = [(conflict.file, reading) for conflict in several.values() for reading in conflict.readings]
    return Labels(
        classes=classes,
        values=values,
        videos=videos,
        patients=[found["patient"].get(file) or hashed.get(file, "") for file in files],
        named=sorted(set().union(*(readers["patient"](row.get(PATIENT_COLUMN) or "") for row in rows))),
        doubts=[(video[file], patient) for file, patient in [*named, *hashed.items()] if file in video],
        conflicts=conflicts,
        rows_without_file=rows_without_file,
        files_without_row=sorted(set(files) & set(listed) - set(rows_of)),
        agreement=agreement(
            {
                task: {
                    file: [(readers[task](row[COLUMNS[task]]), row) for row in rows_of[file]]
                    for file in rows_of
                }
                for task in TASKS
            }
        ),
    )


def class_reader(task: str, cells: Sequence[str]) -> Callable[[str], set[str]]:
    """A function from a cell to the classes it can be read as: none = not annotated, two = contradictory.

    Spellings of a known class get its name; other texts that differ only in case, blanks or punctuation are
    one class, called as it is spelled most often in `cells`.
    """
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for text in itertools.chain.from_iterable(_texts(task, cell or "") for cell in cells):
        spellings[_reduced(text)][" ".join(text.split())] += 1
    # A severity table that never says "RHD" is about another disease: its "Definite" is not definite RHD.
    says_rhd = any("rhd" in reduced for reduced in spellings)
    names = {}
    for reduced, counts in spellings.items():
        known = next((name for name, pattern in KNOWN[task].items() if re.fullmatch(pattern, reduced)), None)
        names[reduced] = known or min(counts, key=lambda text: (-counts[text], text))
        if task == "severity" and not says_rhd:
            names[reduced] = names[reduced].removesuffix(" RHD")

    def read(cell: str) -> set[str]:
        found = {names[_reduced(text)] for text in _texts(task, cell)}
        if ALONE & found or len(found) < 2:
            return found
        return {PAIR.join(sorted(found, key=lambda name: clinical_order(task, name)))}

    return read


def patient_reader(cells: Sequence[str]) -> Callable[[str], set[str]]:
    """A function from a cell to its patient: none if empty; 'P01' and ' p01' are one, as first spelled."""
    spelling: dict[str, str] = {}
    for cell in cells:
        spelling.setdefault(" ".join(cell.split()).casefold(), " ".join(cell.split()))

    def read(cell: str) -> set[str]:
        name = spelling[" ".join(cell.split()).casefold()]
        return set() if _reduced(name) in MISSING else {name}

    return read


def clinical_order(task: str, name: str) -> tuple:
    """Sort key of a class: single findings before pairs, known ones in the order of `KNOWN`, then by name."""
    order = [known.removesuffix(" RHD") for known in KNOWN[task]]
    parts = [part.removesuffix(" RHD") for part in name.split(PAIR)]
    return len(parts), [order.index(part) if part in order else len(order) for part in parts], name


def ordinal(classes: Sequence[str]) -> list[int]:
    """Numbers of the severities that are degrees, lowest first; 'Not Applicable' and others are none."""
    degrees = [known.removesuffix(" RHD") for known in KNOWN["severity"] if known != NOT_APPLICABLE]
    found = [number for number, name in enumerate(classes) if name.removesuffix(" RHD") in degrees]
    return sorted(found, key=lambda number: degrees.index(classes[number].removesuffix(" RHD")))


def stem_of(name: str) -> str:
    """The name of the video that a file of this name is of, or is."""
    before, _, suffix = name.rpartition(".")
    stem = before if before and suffix and not suffix.isdigit() else name  # numbers: a DICOM identifier's
    end = stem.lower().rfind("_frame") if is_frame(name) else -1
    return stem[:end] if end > 0 else stem


def in_words(value: np.ndarray | int, names: Sequence[str]) -> str:
    """The class of an index, or the lesions of (L,) that are present; "" for what is not annotated."""
    if np.min(value) < 0:
        return ""
    if np.ndim(value) == 0:
        return names[int(value)]
    found = [name for name, present in zip(names, np.atleast_1d(value), strict=True) if present]
    return PAIR.join(found) or NO_LESION


def videos_of(files: Sequence[str], prefixes: tuple[str, str]) -> list[str]:
    """The video of each file: a still's name up to `_frame`, in any case; a clip's without its extension.

    Folders do not count, so that a video's labelled and unlabelled frames meet. Only where one prefix has a
    video name in several folders, and those of the other prefix do not contradict, folders tell the videos of
    that name apart: the names then start with them. In doubt, frames of one video name are one video.
    """
    stems: list[tuple[str, str]] = []
    of_stills: set[str] = set()
    folders: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))  # by stem and prefix
    below = {prefix: f"{PurePosixPath(prefix)}/" for prefix in prefixes}
    same: dict[str, str] = {}  # one object for a text that a million frames share
    for file in files:
        place, _, name = file.rpartition("/")
        prefix = next((one for one in prefixes if below[one] == "./" or file.startswith(below[one])), ".")
        if below.get(prefix, "./") != "./":
            place = place.removeprefix(below[prefix][:-1]).lstrip("/")
        stem, folder = stem_of(name), place or "."
        stem, folder = same.setdefault(stem, stem), same.setdefault(folder, folder)
        if is_frame(name):
            of_stills.add(stem)
        stems.append((stem, folder))
        folders[stem][prefix].add(folder)

    def told_apart(stem: str) -> bool:
        several = max(map(len, folders[stem].values())) > 1
        # Clips and DICOM files are whole: two of one name are two videos, whatever the folders are called.
        return several and (stem not in of_stills or bool(set.intersection(*folders[stem].values())))

    apart = {stem for stem in folders if told_apart(stem)}
    videos = (f"{folder}/{stem}" if stem in apart and folder != "." else stem for stem, folder in stems)
    return [same.setdefault(video, video) for video in videos]


def _texts(task: str, cell: str) -> list[str]:
    """The class texts in a cell: for conditions the items of a list, else the cell; none if empty."""
    items: object = [cell]
    if task == "condition":
        try:
            items = ast.literal_eval(cell.strip()[:LONGEST_CELL])
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            items = re.split("[,;]", cell.strip(" []()"))  # a list that lost its quotes, or never had any
    texts = [str(item) for item in items] if isinstance(items, list | tuple) else [str(items)]
    return [text for text in texts if _reduced(text) not in MISSING]


def _reduced(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())
