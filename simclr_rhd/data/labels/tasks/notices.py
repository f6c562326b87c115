"""Notices on the columns of a label table: others that look like labels, degrees of several scales."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.labels.table import Row
from simclr_rhd.data.labels.tasks.flag import USER_SCALE, parse_tasks, tasks_text
from simclr_rhd.data.labels.vocabulary import DISEASE_SUFFIX, EMPTY_CELLS, Task, normalize

logger = logging.getLogger("simclr_rhd")

PLAIN_TITLE = re.compile(r"[\w .-]+")  # no sign that means something in a shell, which it may be copied to
MAX_LABELS, MIN_ROWS_PER_LABEL = 12, 5  # of a column that looks like labels
# What describes a patient, an exam or a reader, and is not read off a frame; letters alone, in lower case
DESCRIPTIONS = frozenset(
    "age ageyears sex gender weight height bmi site hospital clinic centre center country school device "
    "machine vendor probe operator sonographer reader annotator doctor date year time split part fold set "
    "group study exam video clip frame comment comments notes id".split()
)


def log_column_notices(
    rows: Sequence[Row], tasks: tuple[Task, ...], classes: Mapping[str, Sequence[str]], name: str
) -> None:
    """Log what to know of the columns of the table `name`; values of those not learnt are never shown.

    Args:
        rows: of the table.
        tasks: of the run.
        classes: {task: its classes}.
        name: what to call the table.

    Raises:
        UserError: a column has none of the degrees that --tasks gives it.
    """
    for task in tasks:
        _log_scales(task, classes[task.name], name)
    if others := list(_label_columns(rows, tasks)):
        logger.info(
            'NOTICE %s: columns that look like labels and are not learnt: %s. To learn them: --tasks "%s"',
            name,
            ", ".join(task.column for task in others),
            tasks_text((*tasks, *others)),
        )


def _label_columns(rows: Sequence[Row], tasks: Sequence[Task]) -> Iterator[Task]:
    """Tasks of the other columns in which a few values stand again and again."""
    names, learnt = {task.name for task in tasks}, {task.column for task in tasks}
    for column in (title for title in rows[0] if title not in learnt and PLAIN_TITLE.fullmatch(title)):
        cells = [cell for cell in (normalize(row.get(column, "")) for row in rows) if cell not in EMPTY_CELLS]
        n_labels = len(set(cells))
        if not 2 <= n_labels <= min(MAX_LABELS, len(cells) // MIN_ROWS_PER_LABEL):
            continue
        try:
            (task,) = parse_tasks(column)
        except ValueError:  # it cannot have a name of its own, or is no column of labels
            continue
        if normalize(column) not in DESCRIPTIONS and task.name not in names:
            yield task


def _log_scales(task: Task, classes: Sequence[str], name: str) -> None:
    if len(scales := task.scales_of(classes)) > 1:
        logger.warning(
            "WARNING %s: column %s has degrees of several scales: %s. They have no common order, so its "
            "classes are taken as unordered, without an ordinal kappa. Bring them to one scale, or give "
            'their order: --tasks "%s=%s=LOW<HIGH"',
            *(name, task.column, ", ".join(scale.name for scale in scales), task.name, task.column),
        )
    if len(task.scales) != 1 or not classes:
        return
    degrees, bare = task.scales[0].degrees, {of.removesuffix(DISEASE_SUFFIX) for of in classes}
    absent = [degree for degree in degrees if degree.removesuffix(DISEASE_SUFFIX) not in bare]
    if len(absent) == len(degrees) and task.scales[0].name == USER_SCALE:
        raise UserError(
            f"--tasks: column {task.column} of {name} has none of the degrees {', '.join(degrees)}; its "
            f"classes are {', '.join(classes)}"
        )
    if absent:
        logger.info("NOTICE %s: column %s has no %s", name, task.column, ", ".join(absent))
