"""The tasks of a run, as the flag --tasks names them."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from simclr_rhd.data.labels.table import FILE_COLUMN, PATIENT_COLUMN, PATIENT_ID, TIME_COLUMN, USER_COLUMN
from simclr_rhd.data.labels.tasks.terms import Scale
from simclr_rhd.data.labels.vocabulary import NOT_APPLICABLE, VOCABULARY, Task, normalize

LIST, USER_SCALE = "[]", "--tasks"
OTHER_CLASSES = {NOT_APPLICABLE: VOCABULARY["view"].patterns[NOT_APPLICABLE]}  # known in any column
GRAMMAR = "wanted NAME=COLUMN, NAME=COLUMN=LOW<HIGH or NAME=COLUMN=[]"
TASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,30}")  # pictures are called after it
OTHER_COLUMNS = (FILE_COLUMN, PATIENT_COLUMN, PATIENT_ID, USER_COLUMN, TIME_COLUMN)
# What stands beside the tasks in history, conflicts and outputs; then what a torch.nn.ModuleDict has itself
RESERVED_NAMES = frozenset(
    "simclr finetune patient features novelty "
    "append apply bfloat16 buffers children clear compile cpu cuda double eval float forward half ipu items "
    "keys modules mtia parameters pop to train training type update values xpu".split()
)


def parse_tasks(text: str) -> tuple[Task, ...]:
    """The tasks of a text such as 'view,condition,thickness=THICKNESS,grade=GRADE=Low<Middle<High'.

    Entries have commas between them. An entry is NAME=COLUMN; COLUMN alone, which is then its name in lower
    case, too; or the name of a known task (`VOCABULARY`). '=LOW<HIGH' after it are the degrees of an ordinal
    task, '=[]' marks a column of lists of findings. A known name or column keeps its spellings and its order.

    Raises:
        ValueError: an entry cannot be read, or two have one name or one column.
    """
    tasks = tuple(_parse_entry(entry) for entry in text.split(","))
    for what, names in {
        "name": [task.name.casefold() for task in tasks],
        "column": [normalize(task.column) for task in tasks],
    }.items():
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{count} tasks have the {what} {name!r}, wanted one")
    return tasks


def tasks_text(tasks: Iterable[Task]) -> str:
    """The text of tasks that `parse_tasks` makes them of."""
    return ",".join(map(_entry_text, tasks))


def _entry_text(task: Task) -> str:
    entry, degrees = f"{task.name}={task.column}", "<".join(task.scales[0].degrees if task.scales else ())
    entries = (entry, f"{entry}={LIST}", f"{entry}={degrees}")
    return next(text for text in entries if _parse_entry(text) == task)


def is_task_name(name: object) -> bool:
    """Return True for a name that files and records can have beside their own."""
    fits = isinstance(name, str) and TASK_NAME.fullmatch(name) is not None
    return fits and str(name).casefold() not in RESERVED_NAMES


def _parse_entry(entry: str) -> Task:
    fields = [field.strip() for field in entry.split("=")]
    shape = fields.pop() if len(fields) > 1 and ("<" in fields[-1] or fields[-1] == LIST) else ""
    if len(fields) > 2 or not all(map(normalize, fields)):
        raise ValueError(f"{entry.strip()!r}: {GRAMMAR}, with commas between tasks")
    if fields[0] in VOCABULARY and len(fields) == 1:
        fields.append(VOCABULARY[fields[0]].column)
    column = fields[-1].upper()
    name = fields[0] if len(fields) == 2 else re.sub(r"[^a-z0-9]+", "-", column.lower()).strip("-")
    if not TASK_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r}: cannot be in the names of files; wanted a letter, then up to 30 letters, digits or "
            f"'-', as in my-task={column}"
        )
    if name.casefold() in RESERVED_NAMES:
        raise ValueError(f"{name!r}: is used by the program itself; wanted another, as in my-{name}={column}")
    if normalize(column) in map(normalize, OTHER_COLUMNS):
        raise ValueError(f"{entry.strip()!r}: the column {column} has no labels")
    return _make_task(name, column, shape)


def _make_task(name: str, column: str, shape: str) -> Task:
    known = VOCABULARY.get(name) or next(
        (task for task in VOCABULARY.values() if normalize(task.column) == normalize(column)), None
    )
    if shape == LIST:
        lists = known if known and known.multilabel else VOCABULARY["condition"]
        return Task(name, column, lists.patterns, multilabel=True)
    if shape:
        return _ordinal_task(name, column, [degree.strip() for degree in shape.split("<")], known)
    return replace(known or Task(name, column, OTHER_CLASSES), name=name, column=column)


def _ordinal_task(name: str, column: str, degrees: list[str], known: Task | None) -> Task:
    """A task of degrees in the user's order and words, with the spellings of known classes."""
    others = dict(known.patterns if known else OTHER_CLASSES)
    patterns: dict[str, str] = {}
    for degree in degrees:
        text = normalize(degree)
        if not text:
            raise ValueError(f"{column}={'<'.join(degrees)}: a degree is empty; wanted LOW<HIGH")
        if any(re.fullmatch(pattern, text) for pattern in patterns.values()):
            raise ValueError(f"{column}={'<'.join(degrees)}: the degree {degree!r} stands there twice")
        known_class = known.known_class(text) if known else None
        patterns[degree] = others.pop(known_class or "", re.escape(text))
    return Task(name, column, patterns | others, scales=(Scale(USER_SCALE, tuple(degrees)),))
