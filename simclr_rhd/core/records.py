"""Values of JSON files that nobody vouches for: each is looked at before it is used.

What is missing, cut off or of another kind is said in one message, with its file and its place.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.text import shown

WANTED = "wanted the folder of a finished run of this program"
AGAIN = "name another folder, or repeat the run with --overwrite"
LONGEST = 40  # characters of a wrong value in a message


class Record:
    """A JSON object, whose values are asked for by their kind.

    Args:
        value: what stands in the file.
        where: the file, and the place in it.

    Raises:
        UserError: `value` is no object; the methods raise it for values of another kind than asked for.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise UserError(f"{where}: found {told(value)}, wanted an object; {AGAIN}")
        self.fields, self.where = value, where

    def of(self, name: str, fits: Callable[[Any], bool], wanted: str) -> Any:
        """A value that fits."""
        value = self.fields.get(name)
        if not fits(value):
            found = told(value) if name in self.fields else "nothing"
            raise UserError(f"{self.where}: {name[:LONGEST]}: found {found}, wanted {wanted}; {AGAIN}")
        return value

    def text(self, name: str) -> str:
        """A string."""
        return self.of(name, lambda x: isinstance(x, str), "text")

    def truth(self, name: str) -> bool:
        """True or false."""
        return self.of(name, lambda x: isinstance(x, bool), "true or false")

    def number(self, name: str) -> float | None:
        """A finite number; None for null, and where there is none."""
        value = self.of(name, lambda x: x is None or _is_number(x), "a number or null")
        return value if value is None else float(value)

    def share(self, name: str) -> float | None:
        """A number in [0, 1]; None for null, and where there is none."""
        return self.of(name, is_share, "a number from 0 to 1, or null")

    def count(self, name: str, least: int = 0) -> int:
        """A whole number."""
        fits = f"a whole number from {least} on"
        return self.of(name, lambda x: type(x) is int and least <= x < 2**31, fits)

    def names(self, name: str) -> list[str]:
        """Strings that all differ."""
        return self.of(name, _are_names, "a list of different names")

    def record(self, name: str) -> "Record":
        """An object."""
        return Record(self.fields.get(name), f"{self.where}: {name[:LONGEST]}")

    def items(self) -> Iterator[tuple[str, "Record"]]:
        """All values, which are objects."""
        return ((name, self.record(name)) for name in self.fields)


def told(value: Any) -> str:
    """What stands in a file, short enough for a message."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def is_share(value: Any) -> bool:
    """Whether it is None or a number in [0, 1]."""
    return value is None or (_is_number(value) and 0 <= value <= 1)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # False for NaN, too


def _are_names(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return False
    return len(set(value)) == len(value)


def read_object(path: Path) -> Record:
    """The object of a JSON file.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    try:
        return Record(parsed(read_text(path)), str(path))
    except ValueError as error:
        raise UserError(f"{path}: is cut off, or no JSON ({error}); {AGAIN}") from None


def read_text(path: Path) -> str:
    """The text of a file, fit to be shown.

    Raises:
        UserError: it is missing, or no text.
    """
    try:
        return shown(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; {WANTED}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {WANTED}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8; {AGAIN}") from None


def parsed(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none.
    """
    try:
        return _clean(json.loads(text))
    except RecursionError:
        raise ValueError("nested too deep") from None


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {_clean(name): _clean(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return shown(value) if isinstance(value, str) else value
