"""Values of JSON files that may be damaged: each is checked before it is used.

A value that is missing, cut off or of another kind raises one message, with its file and its place.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
            raise UserError(f"{where}: found {shorten(value)}, wanted an object; {RECOVERY_ADVICE}")
        self.fields, self.where = value, where

    def get(self, name: str, fits: Callable[[Any], bool], wanted: str) -> Any:
        """A value that fits."""
        value = self.fields.get(name)
        if not fits(value):
            shown = shorten(value) if name in self.fields else "nothing"
            raise UserError(
                f"{self.where}: {name[:MAX_SHOWN_CHARS]}: found {shown}, wanted {wanted}; {RECOVERY_ADVICE}"
            )
        return value

    def text(self, name: str) -> str:
        """A string."""
        return str(self.get(name, lambda x: isinstance(x, str), "text"))

    def boolean(self, name: str) -> bool:
        """True or false."""
        return bool(self.get(name, lambda x: isinstance(x, bool), "true or false"))

    def number(self, name: str) -> float | None:
        """A finite number; None for null, and where there is none."""
        value = self.get(name, lambda x: x is None or _is_number(x), "a number or null")
        return value if value is None else float(value)

    def fraction(self, name: str) -> float | None:
        """A number in [0, 1]; None for null, and where there is none."""
        value: float | None = self.get(name, is_fraction, "a number from 0 to 1, or null")
        return value

    def count(self, name: str, minimum: int = 0) -> int:
        """A whole number."""
        fits = f"a whole number from {minimum} on"
        return int(self.get(name, lambda x: type(x) is int and minimum <= x < 2**31, fits))

    def names(self, name: str) -> list[str]:
        """Strings that all differ."""
        return list(self.get(name, _are_names, "a list of different names"))

    def object(self, name: str) -> "JsonObject":
        """An object."""
        return JsonObject(self.fields.get(name), f"{self.where}: {name[:MAX_SHOWN_CHARS]}")

    def items(self) -> Iterator[tuple[str, "JsonObject"]]:
        """All values, which are objects."""
        return ((name, self.object(name)) for name in self.fields)


def shorten(value: Any) -> str:
    """Format a value of a file, short enough for a message."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"


def is_fraction(value: Any) -> bool:
    """Return True for None and for a number in [0, 1]."""
    return value is None or (_is_number(value) and 0 <= value <= 1)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # False for NaN, too


def _are_names(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return False
    return len(set(value)) == len(value)


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
