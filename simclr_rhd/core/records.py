"""Values of JSON files that may be damaged: each is checked before it is used.

A value that is missing, cut off or of another kind raises one message, with its file and its place.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin

from simclr_rhd.core.config import Check
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.text import replace_unprintable

RUN_FOLDER_WANTED = "wanted the folder of a finished run of this program"
RECOVERY_ADVICE = "name another folder, or repeat the run with --overwrite"
MAX_SHOWN_CHARS = 40  # characters of a wrong value in a message


class JsonObject:
    """A JSON object, whose values are read by their kind.

    Args:
        value: what stands in the file.
        where: the file, and the place in it.

    Raises:
        UserError: `value` is no object; the methods raise it for values of another kind.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise wrong_value(value, "an object", where)
        self.fields, self.where = value, where

    def get(self, name: str, fits: Callable[[Any], bool], wanted: str) -> Any:
        """A value that fits."""
        value = self.fields.get(name)
        if not fits(value):
            raise wrong_value(self.fields.get(name, MISSING), wanted, self.place(name))
        return value

    def text(self, name: str) -> str:
        """A string."""
        return str(self.get(name, *_SCALARS[str]))

    def boolean(self, name: str) -> bool:
        """True or false."""
        return bool(self.get(name, *_SCALARS[bool]))

    def typed(self, name: str, kind: Any) -> Any:
        """A value of a type: a scalar's, a record's, or a list or table of them, or None.

        A record is a class with the method `from_json`. A type may be annotated with a `Check`.
        """
        return _parse(kind, self.fields.get(name, MISSING), self.place(name))

    def number(self, name: str) -> float | None:
        """A finite number; None for null, and where there is none."""
        value = self.get(name, lambda x: x is None or is_number(x), "a number or null")
        return value if value is None else float(value)

    def fraction(self, name: str) -> float | None:
        """A number in [0, 1]; None for null, and where there is none."""
        value: float | None = self.get(name, is_fraction, "a number from 0 to 1, or null")
        return value

    def count(self, name: str, minimum: int = 0) -> int:
        """A whole number."""
        fits = f"a whole number from {minimum} on"
        return int(self.get(name, lambda x: type(x) is int and minimum <= x < 2**31, fits))

    def object(self, name: str) -> "JsonObject":
        """An object."""
        return JsonObject(self.fields.get(name), self.place(name))

    def items(self) -> Iterator[tuple[str, "JsonObject"]]:
        """All values, which are objects."""
        return ((name, self.object(name)) for name in self.fields)

    def place(self, name: str) -> str:
        """The file, and the place of a value in it."""
        return f"{self.where}: {name[:MAX_SHOWN_CHARS]}"


def wrong_value(value: Any, wanted: str, where: str) -> UserError:
    """The error of a value that is not what was wanted; MISSING for none."""
    return UserError(f"{where}: found {shorten(value)}, wanted {wanted}; {RECOVERY_ADVICE}")


def shorten(value: Any) -> str:
    """Format a value of a file, short enough for a message."""
    if value is MISSING:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"


def is_fraction(value: Any) -> bool:
    """Return True for None and for a number in [0, 1]."""
    return value is None or (is_number(value) and 0 <= value <= 1)


def is_number(value: Any) -> bool:
    """Return True for a finite number."""
    return type(value) in (int, float) and abs(value) < 1e300  # False for NaN, too


Names = Annotated[list[str], Check(lambda names: len(set(names)) == len(names), "a list of different names")]

_SCALARS: dict[type, tuple[Callable[[Any], bool], str]] = {  # {type: whether a value is of it, in words}
    str: (lambda x: isinstance(x, str), "text"),
    bool: (lambda x: isinstance(x, bool), "true or false"),
    int: (lambda x: type(x) is int and 0 <= x < 2**31, "a whole number from 0 on"),
    float: (is_number, "a number"),
}


def _parse(kind: Any, value: Any, where: str) -> Any:
    """See `JsonObject.typed`."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        (check,) = kind.__metadata__
        if not check.holds(parsed := _parse(args[0], value, where)):
            raise wrong_value(value, check.wanted, where)
        return parsed
    if origin is UnionType:
        other = next(of for of in args if of is not NoneType)
        return None if value is None else _parse(other, value, where)
    if origin is dict:
        record = JsonObject(value, where)
        return {name: record.typed(name, args[1]) for name in record.fields}
    if origin is list:
        if not isinstance(value, list):
            raise wrong_value(value, "a list", where)
        return [_parse(args[0], item, where) for item in value]
    if kind not in _SCALARS:
        return kind.from_json(value, where)
    fits, wanted = _SCALARS[kind]
    if not fits(value):
        raise wrong_value(value, wanted, where)
    return value


def empty_value(kind: Any) -> Any:
    """The value of a type, as of `JsonObject.typed`, where a file has none: None, NaN, no items, "", 0."""
    origin = get_origin(kind)
    if origin is Annotated:
        return empty_value(get_args(kind)[0])
    if kind is Any or origin is UnionType:
        return None
    if origin or kind in _SCALARS:
        return math.nan if kind is float else (origin or kind)()
    return kind.from_json({})


def read_json_object(path: Path) -> JsonObject:
    """The object of a JSON file.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    try:
        return JsonObject(parse_json(read_text(path)), str(path))
    except ValueError as error:
        raise UserError(f"{path}: is cut off, or no JSON ({error}); {RECOVERY_ADVICE}") from None


def read_text(path: Path) -> str:
    """The text of a file, fit to be shown.

    Raises:
        UserError: it is missing, or no text.
    """
    try:
        return replace_unprintable(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; {RUN_FOLDER_WANTED}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {RUN_FOLDER_WANTED}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8; {RECOVERY_ADVICE}") from None


def parse_json(text: str) -> Any:
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
    return replace_unprintable(value) if isinstance(value, str) else value
