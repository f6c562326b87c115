"""The label table: what the labelling form exports, brought to one row per frame.

A frame is called `<video>_frame<number>.<ext>`: its video is the text before `_frame`. One whose name only
numbers it, as ffmpeg writes them, is of the video that its folder is called. Any other still is its own.
"""

import itertools
import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.file_types import is_frame
from simclr_rhd.data.labels.annotators import (
    Conflict,
    inter_annotator_agreement,
    make_time_parser,
    resolve_conflict,
)
from simclr_rhd.data.labels.cells import parse_items, split_classes, split_on_separators, split_terms
from simclr_rhd.data.labels.table import (
    COLUMNS,
    FILE_COLUMN,
    PATIENT_COLUMN,
    TIME_COLUMN,
    Row,
    file_stem,
    is_only_number,
    match_rows_to_files,
    read_rows,
    row_path,
)
from simclr_rhd.data.splits.groups import HASHED_PREFIX, is_anonymous_id

logger = logging.getLogger("simclr_rhd")

TASKS = ("view", "condition", "severity")
NOT_ANNOTATED = -1  # in place of a class's index
NOT_APPLICABLE = "Not Applicable"
GRADES = frozenset({"trivial", "trace", "mild", "moderate", "severe"})  # beside them "none" is one
EXCLUSIVE_CLASSES = frozenset(
    {NOT_APPLICABLE, "Healthy"}
)  # conditions that contradict any lesion beside them
EMPTY_CELLS = frozenset({"", "nan", "na", "none", "null"})  # how tables write an empty cell, reduced
NO_LESION = "no lesion"
FRAME_FOLDER = re.compile(  # within a clip's folder: 'frames', 'JPEGImages', 'extracted_frames'
    r"(?:(?:extracted|frames?|images?|imgs?|stills?|pictures?|pngs?|jpe?gs?|tiffs?|bmps?)[\s_.-]*)+",
    re.IGNORECASE,
)
TRAILING_NUMBER = re.compile(r"[\s_.#-]*[(\[]?\d+[)\]]?\Z")
MULTI_LABEL_TASK = "condition"  # the task in which a frame may have several findings
MIN_PLACEHOLDER_FILES = 4  # DICOM files of one identifier, if they are half of all
MAX_CLASSES = 1_000  # of a task
MAX_SHOWN_CHARS = 80  # characters of a cell in a message
LESION_SEPARATOR = " + "  # joins the lesions of a condition with several

# The known classes of each task in clinical order, each with the spellings that stand for it, reduced to
# lower-case letters and digits. A pattern must match the whole spelling.
CLASS_PATTERNS: dict[str, dict[str, str]] = {
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
        "None": r"none",  # a degree only beside other grades, see GRADES
        "Normal": r"normal",
        "Trivial": r"trivial|trace",
        "Mild": r"mild",
        "Moderate": r"moderate",
        "Severe": r"severe",
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
        table_patients: all patients of the table, those without a frame, too.
        ambiguous_patients: (video, patient) that may belong together: of frames whose rows name several
            patients, and of those that have a patient in the table and another name for it in the file.
        conflicts: where rows of one file disagree. Not annotated for that task, unless the policy finds a
            reading; where they disagree on the patient, not annotated at all.
        rows_without_file: names in the tables that no file or folder, or more than one, has.
        files_without_row: files of the labelled folder that the table does not name.
        agreement: Cohen's kappa of each pair of annotators.
    """

    classes: dict[str, list[str]]
    values: dict[str, np.ndarray]
    videos: list[str]
    patients: list[str]
    table_patients: list[str]
    ambiguous_patients: list[tuple[str, str]]
    conflicts: list[Conflict]
    rows_without_file: list[str]
    files_without_row: list[str]
    agreement: list[dict[str, Any]]

    def annotated(self) -> np.ndarray:
        """(N,) bool: frames with a label for at least one task."""
        known: np.ndarray = np.any([values >= 0 for values in self.values.values()], axis=0)
        return known

    def subset(self, rows: np.ndarray) -> "Labels":
        """The labels of some frames."""
        return replace(
            self,
            values={task: values[rows] for task, values in self.values.items()},
            videos=[self.videos[row] for row in rows],
            patients=[self.patients[row] for row in rows],
        )


def read_labels(
    table: bytes,
    name: str,
    *,
    files: Sequence[str],
    listed: Sequence[str],
    prefixes: tuple[str, str],
    hashed_patients: Mapping[str, str] | None = None,
    patients: Sequence[Row] = (),
    policy: str = "drop",
) -> Labels:
    """Match the rows of a label table with frames.

    A row that names a file outside the labelled prefix, or a folder, tells the patient there.

    Args:
        table: the CSV file.
        name: what to call the table in messages.
        files: of each of the N frames the file it comes from; frames of one clip share its labels.
        listed: names of all files below the labelled prefix, the rejected ones too.
        prefixes: the folders of the labelled and of the unlabelled frames.
        hashed_patients: by file, of DICOM files.
        patients: rows of a table of patients, of any files and folders.
        policy: what to do where rows of one file disagree: 'drop', 'latest' or 'majority'.

    Raises:
        UserError: the table cannot be read, lacks a column, or names none of the files.
    """
    rows = read_rows(table, name)
    others = sorted(set(files) - set(listed))
    rows_of, outside = _match_rows(rows, listed, others, prefixes)
    if not rows_of:
        first = rows[0][FILE_COLUMN].strip()
        called = [key for key in listed if PurePosixPath(key).name == PurePosixPath(first).name]
        why = f"the first file is {listed[0]!r}"
        if len(called) > 1:
            wanted = "/".join(PurePosixPath(called[0]).parts[-2:])
            why = f"{len(called)} files are called so: put the folder before it, as in {wanted!r}"
        raise UserError(
            f"{name}: none of its {len(rows)} rows names a file below {prefixes[0]}. Its first "
            f"row names {first!r}; {why}"
        )
    readers = {task: _make_task_parser(task, rows, name) for task in COLUMNS}
    readers["patient"] = make_patient_parser([row.get(PATIENT_COLUMN) or "" for row in (*rows, *patients)])
    matched = rows_of, outside, *_match_rows(patients, listed, others, prefixes)
    about = {
        file: list(itertools.chain.from_iterable(of.get(file, ()) for of in matched))
        for file in {*itertools.chain(*matched)}
    }
    used = {id(row) for of_file in about.values() for row in of_file}
    if extra := sum(any(row[column].strip() for column in COLUMNS.values()) for row in _unique_rows(outside)):
        logger.info(
            "NOTICE %s: %d rows with labels name files outside %s: only their patient is used",
            name,
            extra,
            prefixes[0],
        )
    columns = COLUMNS | {"patient": PATIENT_COLUMN}
    found: dict[str, dict[str, str]] = {what: {} for what in columns}  # {column: {key: its one reading}}
    conflicts: list[Conflict] = []
    seconds = make_time_parser([row.get(TIME_COLUMN) or "" for row in rows])
    for file, what in itertools.product(sorted(about), columns):
        said_by = about[file] if what == "patient" else rows_of.get(file, ())
        readings = [(readers[what](row.get(columns[what]) or ""), row) for row in said_by]
        distinct = set().union(*(said for said, _ in readings))
        if len(distinct) == 1:
            found[what][file] = distinct.pop()
        elif distinct:
            picked = "" if what == "patient" else resolve_conflict(readings, policy, seconds)
            conflicts.append(Conflict.from_readings(file, what, readings, picked))
            found[what] |= {file: picked} if picked else {}
    if policy == "latest":
        _warn_unreadable_times(
            [conflict for conflict in conflicts if conflict.task != "patient"], seconds, name
        )
    several = {conflict.file: conflict for conflict in conflicts if conflict.task == "patient"}
    for file, task in itertools.product(several, TASKS):
        found[task].pop(file, None)  # rows that disagree on whose frame it is say nothing of value

    classes, values = {}, {}
    for task in TASKS:
        classes[task] = sorted(set(found[task].values()), key=lambda text: clinical_order(task, text))
        if len(classes[task]) > MAX_CLASSES:
            raise UserError(
                f"{name}: column {COLUMNS[task]} has {len(classes[task])} classes, such as "
                f"{classes[task][0]!r}; wanted at most {MAX_CLASSES}: is it a column of notes?"
            )
        index = {text: number for number, text in enumerate(classes[task])} | {None: NOT_ANNOTATED}
        values[task] = np.array([index[found[task].get(file)] for file in files], dtype=np.int64)
    hashed = {file: HASHED_PREFIX + patient for file, patient in (hashed_patients or {}).items()}
    hashed = _drop_placeholder_ids(hashed, found["patient"])
    videos = assign_videos(files, prefixes)
    video = dict(zip(files, videos, strict=True))
    named = [(conflict.file, reading) for conflict in several.values() for reading in conflict.readings]
    return Labels(
        classes=classes,
        values=values,
        videos=videos,
        patients=[found["patient"].get(file) or hashed.get(file, "") for file in files],
        table_patients=sorted(
            set().union(*(readers["patient"](row.get(PATIENT_COLUMN) or "") for row in (*rows, *patients)))
        ),
        ambiguous_patients=[
            (video[file], patient) for file, patient in [*named, *hashed.items()] if file in video
        ],
        conflicts=conflicts,
        rows_without_file=sorted({row[FILE_COLUMN] for row in (*rows, *patients) if id(row) not in used}),
        files_without_row=sorted(set(files) & set(listed) - set(rows_of)),
        agreement=inter_annotator_agreement(
            {
                task: {
                    file: [(readers[task](row[COLUMNS[task]]), row) for row in rows_of[file]]
                    for file in rows_of
                }
                for task in TASKS
            }
        ),
    )


class UnreadableCellError(ValueError):
    """A cell that is no class and no list of classes.

    Attributes:
        cell: its text.
    """

    def __init__(self, cell: str, reason: str) -> None:
        super().__init__(reason)
        self.cell = cell


def make_class_parser(task: str, cells: Sequence[str]) -> Callable[[str], set[str]]:
    """A function from a cell to the classes it can be read as: none = not annotated, two = contradictory.

    Spellings of a known class get its name; other texts that differ only in case, blanks or punctuation are
    one class, called as it is spelled most often in `cells`. A condition may be several
    (`cells.parse_items`); a text with a sign such as '/' in it is divided where its parts are
    classes by themselves, or stand in another order, too.

    Raises:
        UnreadableCellError: a cell looks like a list and cannot be read as one.
    """
    times = Counter(cells)
    whole = {cell: _split_cell(task, cell) for cell in times}
    alone = {_normalize(text) for texts in whole.values() for text in texts if len(split_terms(text)) < 2}
    orders: dict[frozenset[str], set[tuple[str, ...]]] = defaultdict(set)
    for text in itertools.chain.from_iterable(whole.values()):
        order = tuple(map(_normalize, split_terms(text)))
        orders[frozenset(order)].add(order)
    for several in orders.values():
        alone |= set().union(*several) if len(several) > 1 else set()

    graded = task == "severity" and not GRADES.isdisjoint(alone)
    missing = EMPTY_CELLS - {"none"} if graded else EMPTY_CELLS

    def is_term(text: str) -> bool:
        reduced = _normalize(text)
        return reduced in missing or reduced in alone or _known_class(task, reduced) is not None

    emptied = 0  # cells that say "none"
    texts_of, spellings = dict[str, list[str]](), defaultdict[str, Counter[str]](Counter)
    for cell, texts in whole.items():
        try:
            found = [
                part
                for text in texts
                for part in (split_classes(text, is_term) if task == MULTI_LABEL_TASK else [text])
            ]
        except ValueError as error:
            raise UnreadableCellError(cell, str(error)) from None
        texts_of[cell] = [text for text in found if _normalize(text) not in missing]
        emptied += times[cell] * any(_normalize(text) == "none" for text in found)
        for text in texts_of[cell]:
            spellings[_normalize(text)][" ".join(text.split())] += times[cell]
    if emptied:
        logger.info(
            "NOTICE %s: %d cells say 'None', which is read as %s",
            *(
                COLUMNS[task],
                emptied,
                "a degree, as it stands beside other grades" if graded else "not annotated",
            ),
        )
    # A severity table that never says "RHD" is about another disease: its "Definite" is not definite RHD.
    says_rhd = any("rhd" in reduced for reduced in spellings)
    names = {}
    for reduced, counts in spellings.items():
        names[reduced] = _known_class(task, reduced) or min(counts, key=lambda text: (-counts[text], text))
        if task == "severity" and not says_rhd:
            names[reduced] = names[reduced].removesuffix(" RHD")

    def read(cell: str) -> set[str]:
        found = {names[_normalize(text)] for text in texts_of.get(cell, ())}
        if EXCLUSIVE_CLASSES & found or len(found) < 2 or task != MULTI_LABEL_TASK:
            return found
        return {LESION_SEPARATOR.join(sorted(found, key=lambda name: clinical_order(task, name)))}

    return read


def make_patient_parser(cells: Sequence[str]) -> Callable[[str], set[str]]:
    """A function from a cell to its patient: none if empty; 'P01' and ' p01' are one, as first spelled."""
    spelling: dict[str, str] = {}
    for cell in cells:
        spelling.setdefault(" ".join(cell.split()).casefold(), " ".join(cell.split()))

    def read(cell: str) -> set[str]:
        name = spelling[" ".join(cell.split()).casefold()]
        return set() if is_anonymous_id(name, typed=True) else {name}

    return read


def clinical_order(task: str, name: str) -> tuple:
    """Sort key of a class: single findings before pairs, in the order of `CLASS_PATTERNS`, then by name."""
    order = [known.removesuffix(" RHD") for known in CLASS_PATTERNS[task]]
    parts = [part.removesuffix(" RHD") for part in name.split(LESION_SEPARATOR)]
    return len(parts), [order.index(part) if part in order else len(order) for part in parts], name


def ordinal_classes(classes: Sequence[str]) -> list[int]:
    """Numbers of the severities that are degrees, lowest first; 'Not Applicable' and others are none."""
    degrees = [known.removesuffix(" RHD") for known in CLASS_PATTERNS["severity"] if known != NOT_APPLICABLE]
    found = [number for number, name in enumerate(classes) if name.removesuffix(" RHD") in degrees]
    return sorted(found, key=lambda number: degrees.index(classes[number].removesuffix(" RHD")))


def video_id(name: str) -> str:
    """The name of the video that a file of this name is of, or is."""
    whole = file_stem(name)
    end = whole.lower().rfind("_frame") if is_frame(name) else -1
    return whole[:end] if end > 0 else whole


def locate_video(folder: str, name: str) -> tuple[str, str]:
    """The folder and the name of the video that a file is of.

    A still whose name only numbers it is of the video that its folder is called; so is 'clip7/clip7_12.png'.

    Args:
        folder: where the file is, "" for the top, of which no video is called.
        name: the file's, such as 'a_frame12.png', or 'frame_0012.png' and '0012.png' in a folder a clip.
    """
    parts = folder.split("/")
    while len(parts) > 1 and FRAME_FOLDER.fullmatch(parts[-1]):  # clip07/frames/0001.png
        parts.pop()
    if not (is_frame(name) and (is_only_number(name) or _strip_number(name) == parts[-1])):
        return folder, video_id(name)
    return "/".join(parts[:-1]), parts[-1] or video_id(name)


def _strip_number(name: str) -> str:
    """What a file's name begins with, before a number at its end."""
    return TRAILING_NUMBER.sub("", file_stem(name))


def format_label(value: np.ndarray | int, names: Sequence[str]) -> str:
    """The class of an index, or the lesions of (L,) that are present; "" for what is not annotated."""
    if np.min(value) < 0:
        return ""
    if np.ndim(value) == 0:
        return names[int(value)]
    found = [name for name, present in zip(names, np.atleast_1d(value), strict=True) if present]
    return LESION_SEPARATOR.join(found) or NO_LESION


def assign_videos(files: Sequence[str], prefixes: tuple[str, str]) -> list[str]:
    """The video of each file: a still's name up to `_frame`, in any case; a clip's without its extension.

    Stills whose names only number them are of the video that their folder is called (`locate_video`). Other
    folders do not count, so that a video's labelled and unlabelled frames meet. Only where one prefix has a
    video name in several folders, and those of the other prefix do not contradict, folders tell the videos of
    that name apart: the names then start with them. In doubt, frames of one video name are one video. But two
    files of one name are no frames of one video: folders tell these apart, and 'scene00001.png' in several
    folders is of one video 'scene' in each.
    """
    below = {prefix: f"{PurePosixPath(prefix)}/" for prefix in prefixes}
    same: dict[str, str] = {}  # one object for a text that a million frames share
    places = []  # of each file: its prefix, its folder below that
    for file in files:
        place = file.rpartition("/")[0]
        prefix = next((one for one in prefixes if below[one] == "./" or file.startswith(below[one])), ".")
        if below.get(prefix, "./") != "./":
            place = place.removeprefix(below[prefix][:-1]).lstrip("/")
        places.append((prefix, same.setdefault(place, place)))
    names = [file.rpartition("/")[2] for file in files]
    repeated = _repeated_names(names, places)
    counting = {_strip_number(name) for name in repeated if video_id(name) == file_stem(name)} - {""}

    stems: list[tuple[str, str]] = []
    of_stills, meeting = set[str](), set[str]()
    folders: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))  # by stem and prefix
    for name, (prefix, place) in zip(names, places, strict=True):
        place, video = locate_video(place, name)
        if is_frame(name) and video == file_stem(name) and _strip_number(name) in counting:
            video = _strip_number(name)
        folder = place or "."
        video, folder = same.setdefault(video, video), same.setdefault(folder, folder)
        if is_frame(name):
            of_stills.add(video)
        if name in repeated:
            meeting.add(video)
        stems.append((video, folder))
        folders[video][prefix].add(folder)

    def needs_folder(stem: str) -> bool:
        of_prefixes = folders[stem].values()
        # Clips and DICOM files are whole: two of one name are two videos, whatever the folders are called.
        return max(map(len, of_prefixes)) > 1 and (
            stem not in of_stills
            or bool(set.intersection(*of_prefixes))
            or (stem in meeting and not any("." in of for of in of_prefixes))
        )

    apart = {stem for stem in folders if needs_folder(stem)}
    videos = (f"{folder}/{stem}" if stem in apart and folder != "." else stem for stem, folder in stems)
    return [same.setdefault(video, video) for video in videos]


def _repeated_names(names: Sequence[str], places: Sequence[tuple[str, str]]) -> set[str]:
    """Names of stills that several folders of one prefix have."""
    seen: dict[tuple[str, str], str] = {}
    return {
        name
        for name, (prefix, place) in zip(names, places, strict=True)
        if is_frame(name) and seen.setdefault((prefix, name), place) != place
    }


def _match_rows(
    rows: Sequence[Row], listed: Sequence[str], others: Sequence[str], prefixes: tuple[str, str]
) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Rows by file: of labelled files, and of the others. A row that names a labelled file is of no other."""
    far = set(others)
    near, _ = match_rows_to_files(
        [row for row in rows if row_path(row) not in far], listed, prefixes=prefixes
    )
    of_a_file = {
        id(row)
        for file, of_file in near.items()
        for row in of_file
        if PurePosixPath(file).name == PurePosixPath(row_path(row)).name
    }
    return near, match_rows_to_files(
        [row for row in rows if id(row) not in of_a_file], others, prefixes=prefixes
    )[0]


def _unique_rows(rows_of: Mapping[str, Sequence[Row]]) -> list[Row]:
    return list({id(row): row for of_file in rows_of.values() for row in of_file}.values())


def _drop_placeholder_ids(hashed: Mapping[str, str], table_patients: Mapping[str, str]) -> dict[str, str]:
    """DICOM identifiers by file, without those that stand in files of several patients of the table.

    Such an identifier is a placeholder, or that of a device: the table wins.
    """
    patients_of = defaultdict[str, set[str]](set)
    for file, identifier in hashed.items():
        patients_of[identifier] |= {table_patients[file]} if file in table_patients else set()
    kept = {file: identifier for file, identifier in hashed.items() if len(patients_of[identifier]) < 2}
    alike = Counter(kept.values()).most_common(1)
    if alike and alike[0][1] >= MIN_PLACEHOLDER_FILES and 2 * alike[0][1] >= len(kept):
        logger.warning(
            "WARNING %d of %d DICOM files have one and the same patient identifier: they are taken for one "
            "patient, whose files stand on one side of the split. If it is of a device, a site or nobody, "
            "name the patients in a column %s, or in a table for --patients-csv",
            *(alike[0][1], len(hashed), PATIENT_COLUMN),
        )
    if several := [patients for patients in patients_of.values() if len(patients) > 1]:
        logger.warning(
            "WARNING %d patient identifiers in DICOM files stand in files of several patients of the table, "
            "one of them of %d: the table is used, and %d files of such an identifier are of nobody in it",
            *(len(several), max(map(len, several)), len(hashed.keys() - kept.keys() - table_patients.keys())),
        )
    return kept


def _warn_unreadable_times(
    conflicts: Sequence[Conflict], parse_time: Callable[[str], float], name: str
) -> None:
    """One sentence on the times of rows that disagree, where they cannot be read and so settle nothing."""
    times = [time for conflict in conflicts for time in conflict.times]
    if unread := [time for time in times if math.isnan(parse_time(time))]:
        shown = next(filter(None, unread), "")
        logger.warning(
            "WARNING --label-conflict latest: %d of the %d times of rows that disagree in %s cannot be read "
            "and settle nothing%s. Write 2021-09-21 07:07 in a column %s",
            *(len(unread), len(times), name),
            f", the first: {shown!r} (day or month first?)" if shown else ": there is none",
            TIME_COLUMN,
        )


def _make_task_parser(task: str, rows: Sequence[Row], name: str) -> Callable[[str], set[str]]:
    """The reader of a task's column; an unreadable cell is a UserError that names its row."""
    column = COLUMNS[task]
    try:
        return make_class_parser(task, [row[column] for row in rows])
    except UnreadableCellError as error:
        line = next(row.line for row in rows if row[column] == error.cell)
        shown = error.cell if len(error.cell) <= MAX_SHOWN_CHARS else error.cell[:MAX_SHOWN_CHARS] + "..."
        raise UserError(
            f"{name}: line {line}, column {column}: {shown!r} {error}. Write one class, or several as "
            "['A', 'B']"
        ) from None


def _split_cell(task: str, cell: str) -> list[str]:
    """The texts in a cell: the items of a list; of conditions what stands between commas, too."""
    try:
        found = parse_items(cell)
    except ValueError as error:
        raise UnreadableCellError(cell, str(error)) from None
    if found is None:
        return split_on_separators(cell) if task == MULTI_LABEL_TASK else [cell]
    return found


def _known_class(task: str, normalized: str) -> str | None:
    """The known class that a reduced spelling stands for."""
    return next(
        (name for name, pattern in CLASS_PATTERNS[task].items() if re.fullmatch(pattern, normalized)), None
    )


def _normalize(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())
