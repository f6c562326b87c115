"""The columns that `--subgroups` and `--folds-by` name, as the command line has them."""

from dataclasses import dataclass

SITE, DEVICE, AGE, SEX = KNOWN_COLUMNS = ("SITE", "DEVICE", "AGE", "SEX")
ORIGIN_COLUMNS = (SITE, DEVICE)  # who scanned with what; age and sex may have to do with the disease
DEFAULT_EDGES = {AGE: (10.0, 15.0, 20.0, 40.0)}  # years; stage A of WHF 2023 ends at 20
NO_SUBGROUPS = "none"


@dataclass(frozen=True)
class Column:
    """A column, and the edges at which its numbers are cut; no edges for values as they are."""

    name: str
    edges: tuple[float, ...] = ()


def parse_columns(text: str) -> list[Column]:
    """The columns that `--subgroups` names: 'SITE,AGE=10/15/20'.

    Raises:
        ValueError: the text is not of that form.
    """
    columns = []
    for part in text.split(","):
        name, _, edges = (piece.strip() for piece in part.partition("="))
        numbers = tuple(float(edge) for edge in edges.split("/")) if edges else ()
        if not name or ("=" in part and not edges) or list(numbers) != sorted(set(numbers)):
            raise ValueError(text)
        columns.append(Column(name.upper(), numbers or DEFAULT_EDGES.get(name.upper(), ())))
    if len({column.name for column in columns}) < len(columns):
        raise ValueError(text)
    return columns


def is_column_list(text: str) -> bool:
    """Return whether `--subgroups` can have this value."""
    try:
        return text == NO_SUBGROUPS or bool(parse_columns(text))
    except ValueError:
        return False


def is_column(text: str) -> bool:
    """Return whether `--folds-by` can have this value."""
    return text != NO_SUBGROUPS and is_column_list(text) and len(parse_columns(text)) == 1
