"""The tasks, and the known classes of each in clinical order with their spellings."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simclr_rhd.data.labels.tasks import terms
from simclr_rhd.data.labels.tasks.terms import Scale

if TYPE_CHECKING:  # the command line reads --tasks without it
    import numpy as np

NOT_ANNOTATED = -1  # in place of a class's index
NOT_APPLICABLE = "Not Applicable"
EXCLUSIVE_CLASSES = frozenset({NOT_APPLICABLE, "Healthy"})  # contradict any lesion beside them
EMPTY_CELLS = frozenset({"", "nan", "na", "none", "null"})  # an empty cell as tables write it, normalized
NO_LESION = "no lesion"
LESION_SEPARATOR = " + "  # joins the lesions of a condition with several
SIGNED_OR_DECIMAL = re.compile(r"[+-]\d{1,9}([.,]\d{1,9})?|\d{1,9}[.,]\d{1,9}", re.ASCII)
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
        scales: scales that its classes may be degrees of; none for classes without an order.
    """

    name: str
    column: str
    patterns: Mapping[str, str]
    multilabel: bool = False
    scales: tuple[Scale, ...] = ()

    @property
    def ordinal(self) -> bool:
        """Return True if classes may be degrees of one thing."""
        return bool(self.scales)

    def known_class(self, normalized: str) -> str | None:
        """The known class that a normalized spelling stands for."""
        matches = (name for name, pattern in self.patterns.items() if re.fullmatch(pattern, normalized))
        return next(matches, None)

    def clinical_order(self, name: str) -> tuple[int, list[int], str]:
        """Sort key of a class: single findings before pairs, in the order of `patterns`, then by name."""
        order = _without_disease(self.patterns)
        parts = _without_disease(name.split(LESION_SEPARATOR))
        return len(parts), [order.index(part) if part in order else len(order) for part in parts], name

    def scales_of(self, classes: Iterable[str]) -> list[Scale]:
        """The scales of which some class is a degree that no other scale has."""
        names = set(_without_disease(classes))
        counts = Counter(degree for scale in self.scales for degree in scale.degrees)
        return [
            scale
            for scale in self.scales
            if names & set(_without_disease(degree for degree in scale.degrees if counts[degree] == 1))
        ]

    def reads_none(self, texts: Iterable[str]) -> bool:
        """Return True if 'None' beside these normalized texts is a degree, and no empty cell."""
        scales = self.scales_of(filter(None, map(self.known_class, texts)))
        return any(normalize(degree) == "none" for scale in scales for degree in scale.degrees)

    def ordinal_classes(self, classes: Sequence[str]) -> list[int]:
        """Numbers of the classes that are degrees, lowest first; none where they are of several scales."""
        scales = self.scales_of(classes) or self.scales[:1]
        degrees = _without_disease(scales[0].degrees) if len(scales) == 1 else []
        names = _without_disease(classes)
        numbers = [number for number, name in enumerate(names) if name in degrees]
        return sorted(numbers, key=lambda number: degrees.index(names[number]))


def _without_disease(names: Iterable[str]) -> list[str]:
    return [name.removesuffix(DISEASE_SUFFIX) for name in names]


_NOT_APPLICABLE = {NOT_APPLICABLE: r"notapplicable"}
VOCABULARY = {
    task.name: task
    for task in (
        Task("view", "VIEW-APP", terms.VIEWS | _NOT_APPLICABLE),
        Task("condition", "CONDITION", terms.CONDITIONS | terms.FINDINGS | _NOT_APPLICABLE, multilabel=True),
        Task("severity", "SEVERITY", _NOT_APPLICABLE | terms.SEVERITIES, scales=terms.SEVERITY_SCALES),
        Task(
            "thickness",
            "THICKNESS",
            _NOT_APPLICABLE | terms.THICKNESS,
            scales=(Scale("thickness", tuple(terms.THICKNESS)),),
        ),
        Task("findings", "FINDINGS", terms.NO_FINDING | terms.FINDINGS | _NOT_APPLICABLE, multilabel=True),
    )
}
DEFAULT_TASKS = tuple(VOCABULARY[name] for name in ("view", "condition", "severity"))


def task_named(name: str, tasks: Iterable[Task]) -> Task:
    """The task of this name; one without known classes if there is none."""
    return next((task for task in tasks if task.name == name), Task(name, name.upper(), {}))


def diagnostic_limits(classes: Iterable[str]) -> list[str]:
    """Sentences on classes that depend on more than a frame shows, such as age and weight."""
    names = set(map(normalize, classes))
    return [
        scale.limits
        for scale in terms.SEVERITY_SCALES
        if scale.limits and names & (set(map(normalize, scale.degrees)) - {"none", "normal"})
    ]


def normalize(text: str) -> str:
    """A spelling in lower-case letters and digits alone; of a number its value: 1.0 is 1, and -1 is not."""
    if SIGNED_OR_DECIMAL.fullmatch(text.strip()):
        return str(float(text.replace(",", "."))).removesuffix(".0")
    return "".join(character for character in text.lower() if character.isalnum())


def format_label(value: "np.ndarray | int", names: Sequence[str]) -> str:
    """The class of an index, or the lesions of (L,) that are present; "" for what is not annotated."""
    numbers = value if isinstance(value, int) else value.tolist()
    if isinstance(numbers, int):
        return names[numbers] if numbers >= 0 else ""
    if min(numbers) < 0:
        return ""
    lesions = [name for name, present in zip(names, numbers, strict=True) if present]
    return LESION_SEPARATOR.join(lesions) or NO_LESION
