"""The tasks, and the known classes of each in clinical order with their spellings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NOT_ANNOTATED = -1  # in place of a class's index
NOT_APPLICABLE = "Not Applicable"
EXCLUSIVE_CLASSES = frozenset({NOT_APPLICABLE, "Healthy"})  # contradict any lesion beside them
GRADES = frozenset({"trivial", "trace", "mild", "moderate", "severe"})  # beside them "none" is one
EMPTY_CELLS = frozenset({"", "nan", "na", "none", "null"})  # an empty cell as tables write it, normalized
NO_LESION = "no lesion"
LESION_SEPARATOR = " + "  # joins the lesions of a condition with several
DISEASE_SUFFIX = " RHD"  # of severities, where a table names the disease


def target_name(task: str, lesion: str = "") -> str:
    """The name of a target: the task, or 'task: lesion'."""
    return f"{task}: {lesion}" if lesion else task


def parent_task(target: str) -> str:
    """The task of a target, which may be one of its lesions."""
    return target.partition(": ")[0]


@dataclass(frozen=True)
class Task:
    """A task: one class of each frame, from a column of the label table.

    Attributes:
        name: in every file and on every page.
        column: of the label table.
        patterns: the known classes in clinical order; a pattern must match a whole spelling, normalized.
        multilabel: whether a frame may have several findings.
        ordinal: whether the known classes, except 'Not Applicable', are degrees of one thing.
        required: whether every label table needs the column.
    """

    name: str
    column: str
    patterns: Mapping[str, str]
    multilabel: bool = False
    ordinal: bool = False
    required: bool = True

    def known_class(self, normalized: str) -> str | None:
        """The known class that a normalized spelling stands for."""
        matches = (name for name, pattern in self.patterns.items() if re.fullmatch(pattern, normalized))
        return next(matches, None)

    def clinical_order(self, name: str) -> tuple[int, list[int], str]:
        """Sort key of a class: single findings before pairs, in the order of `patterns`, then by name."""
        order = [known.removesuffix(DISEASE_SUFFIX) for known in self.patterns]
        parts = [part.removesuffix(DISEASE_SUFFIX) for part in name.split(LESION_SEPARATOR)]
        return len(parts), [order.index(part) if part in order else len(order) for part in parts], name

    def ordinal_classes(self, classes: Sequence[str]) -> list[int]:
        """Numbers of the classes that are degrees, lowest first; none if the task is not ordinal."""
        known = self.patterns if self.ordinal else ()
        degrees = [name.removesuffix(DISEASE_SUFFIX) for name in known if name != NOT_APPLICABLE]
        names = [name.removesuffix(DISEASE_SUFFIX) for name in classes]
        numbers = [number for number, name in enumerate(names) if name in degrees]
        return sorted(numbers, key=lambda number: degrees.index(names[number]))


VOCABULARY = {
    task.name: task
    for task in (
        Task(
            "view",
            "VIEW-APP",
            {
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
        ),
        Task(
            "condition",
            "CONDITION",
            {
                "Healthy": r"healthy|normal",
                "Aortic Valve Regurgitation": r"aortic(valve)?(regurgitation|insufficiency)|ar",
                "Mitral Valve Prolapse": r"mitral(valve)?prolapse|mvp",
                "Mitral Valve Regurgitation": r"mitral(valve)?(regurgitation|insufficiency)|mr",
                "Pulmonary Valve Regurgitation": r"pulmon(ary|ic)(valve)?(regurgitation|insufficiency)|pr",
                "Tricuspid Valve Regurgitation": r"tricuspid(valve)?(regurgitation|insufficiency)|tr",
                NOT_APPLICABLE: r"notapplicable",
            },
            multilabel=True,
        ),
        Task(
            "severity",
            "SEVERITY",
            {
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
            ordinal=True,
        ),
    )
}
TASKS = tuple(VOCABULARY)
COLUMNS = {name: task.column for name, task in VOCABULARY.items()}


def normalize(text: str) -> str:
    """A spelling, reduced to lower-case letters and digits."""
    return "".join(character for character in text.lower() if character.isalnum())


def format_label(value: np.ndarray | int, names: Sequence[str]) -> str:
    """The class of an index, or the lesions of (L,) that are present; "" for what is not annotated."""
    if np.min(value) < 0:
        return ""
    if np.ndim(value) == 0:
        return names[int(value)]
    lesions = [name for name, present in zip(names, np.atleast_1d(value), strict=True) if present]
    return LESION_SEPARATOR.join(lesions) or NO_LESION
