"""The classes in the cells of a task's column, whatever their spelling."""

import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.labels.table import Row
from simclr_rhd.data.labels.tasks.cells import parse_items, split_classes, split_on_separators, split_terms
from simclr_rhd.data.labels.vocabulary import (
    DISEASE_SUFFIX,
    EMPTY_CELLS,
    EXCLUSIVE_CLASSES,
    LESION_SEPARATOR,
    Task,
    normalize,
)

logger = logging.getLogger("simclr_rhd")

DISEASE_WORDS = ("rhd", "rheumatic", "whf")  # by one of them a column of severities is about RHD
MAX_SHOWN_CHARS = 80  # characters of a cell in a message


class UnreadableCellError(ValueError):
    """A cell that is no class and no list of classes.

    Attributes:
        cell: its text.
    """

    def __init__(self, cell: str, reason: str) -> None:
        super().__init__(reason)
        self.cell = cell


def make_class_parser(task: Task, cells: Sequence[str]) -> Callable[[str], set[str]]:
    """A function from a cell to the classes it can be read as: none = not annotated, two = contradictory.

    Spellings of a known class get its name; other texts that differ only in case, blanks or punctuation are
    one class, called as it is spelled most often. Of a multilabel task, a cell may have several findings
    (`cells.parse_items`); a text with a sign such as '/' in it is divided where its parts are classes by
    themselves, or stand in another order, too.

    Args:
        task: whose classes they are.
        cells: the whole column.

    Raises:
        UnreadableCellError: a cell looks like a list and cannot be read as one.
    """
    counts = Counter(cells)
    items = {cell: _split_cell(task, cell) for cell in counts}
    single = _single_terms(itertools.chain.from_iterable(items.values()))
    graded = task.reads_none(single)
    empty = EMPTY_CELLS - {"none"} if graded else EMPTY_CELLS

    def is_term(text: str) -> bool:
        normalized = normalize(text)
        return normalized in empty or normalized in single or task.known_class(normalized) is not None

    none_cells = 0
    texts_of, spellings = dict[str, list[str]](), defaultdict[str, Counter[str]](Counter)
    for cell, texts in items.items():
        terms = _split_terms(cell, texts, is_term) if task.multilabel else texts
        texts_of[cell] = [text for text in terms if normalize(text) not in empty]
        none_cells += counts[cell] * any(normalize(text) == "none" for text in terms)
        for text in texts_of[cell]:
            spellings[normalize(text)][" ".join(text.split())] += counts[cell]
    if none_cells:
        logger.info(
            "NOTICE %s: %d cells contain 'None', which is read as %s",
            *(task.column, none_cells),
            "a degree, as it stands beside other grades" if graded else "not annotated",
        )
    names = _class_names(task, spellings)

    def parse(cell: str) -> set[str]:
        classes = {names[normalize(text)] for text in texts_of.get(cell, ())}
        if EXCLUSIVE_CLASSES & classes or len(classes) < 2 or not task.multilabel:
            return classes
        return {LESION_SEPARATOR.join(sorted(classes, key=task.clinical_order))}

    return parse


def _single_terms(texts: Iterable[str]) -> set[str]:
    """Normalized texts that stand alone somewhere, and parts of texts that stand in several orders."""
    single, orders = set[str](), defaultdict[frozenset[str], set[tuple[str, ...]]](set)
    for text in texts:
        terms = split_terms(text)
        if len(terms) < 2:
            single.add(normalize(text))
        order = tuple(map(normalize, terms))
        orders[frozenset(order)].add(order)
    return single.union(*(term for several in orders.values() if len(several) > 1 for term in several))


def _split_terms(cell: str, texts: Sequence[str], is_term: Callable[[str], bool]) -> list[str]:
    try:
        return [part for text in texts for part in split_classes(text, is_term)]
    except ValueError as error:
        raise UnreadableCellError(cell, str(error)) from None


def _class_names(task: Task, spellings: Mapping[str, Counter[str]]) -> dict[str, str]:
    """The class of each normalized text: the known one, or the most frequent spelling."""
    # A severity table without a word for RHD is about another disease: its "Definite" is not definite RHD.
    named = any(word in text for word in DISEASE_WORDS for text in spellings)
    other_disease = task.ordinal and not named
    names = {}
    for text, counts in spellings.items():
        name = task.known_class(text) or min(counts, key=lambda spelling: (-counts[spelling], spelling))
        names[text] = name.removesuffix(DISEASE_SUFFIX) if other_disease else name
    return names


def make_task_parser(task: Task, rows: Sequence[Row], name: str) -> Callable[[str], set[str]]:
    """The parser of a task's column.

    Raises:
        UserError: a cell cannot be read; the message names its row of the table `name`.
    """
    column = task.column
    try:
        return make_class_parser(task, [row.get(column, "") for row in rows])
    except UnreadableCellError as error:
        line = next(row.line for row in rows if row.get(column, "") == error.cell)
        shown = error.cell if len(error.cell) <= MAX_SHOWN_CHARS else error.cell[:MAX_SHOWN_CHARS] + "..."
        raise UserError(
            f"{name}: line {line}, column {column}: {shown!r} {error}. Write one class, or several as "
            "['A', 'B']"
        ) from None


def _split_cell(task: Task, cell: str) -> list[str]:
    """The texts in a cell: the items of a list; of a multilabel task the texts between commas, too."""
    try:
        items = parse_items(cell)
    except ValueError as error:
        raise UnreadableCellError(cell, str(error)) from None
    if items is None:
        return split_on_separators(cell) if task.multilabel else [cell]
    return items
