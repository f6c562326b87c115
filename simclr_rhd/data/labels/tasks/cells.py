"""A cell of the label table that holds several things: the items of a list, in the writings of many tools."""

import ast
import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from simclr_rhd.core.text import printable

MAX_CELL_CHARS = 2_000  # characters; a list of classes is shorter
QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
ITEM_SEPARATOR = r"[\s,;|()\[\]{}]"  # stands between the items of a list: numpy writes blanks alone
ITEM = rf"[bru]?(?:{QUOTED})|None|nan|null"
LIST = re.compile(
    rf"{ITEM_SEPARATOR}*(?:(?:{ITEM})(?:{ITEM_SEPARATOR}+(?:{ITEM}))*)?{ITEM_SEPARATOR}*", re.IGNORECASE
)
WRAPPER = re.compile(
    r"\b(?:(?:np|numpy|pd|torch)\.)?"
    r"(?:array|c|deque|dict_keys|dict_values|frozenset|Index|list|Series|set|str_|tensor|tuple)\("
)
OTHER_WRAPPER = re.compile(r"\w+\(\s*[\[({'\"]")  # an object of Python's that is not known here
NUMBERS = re.compile(r"[\s,;]*(?:\d+\.?\d*[\s,;]*)+")
OPTION = re.compile(r",\s*(?:dtype|name|length)\s*=[^,)\]]*")  # of numpy and pandas
CURLY_QUOTES = str.maketrans("“”„‟‘’‚‛", "\"\"\"\"''''")
# of labelling tools
CHOICE_KEYS = ("taxonomy", "answers", "answer", "value", "values", "title", "text", "name")
SEPARATOR = re.compile(r"[,;|，；、](?![^(]*\))")  # a comma inside parentheses divides nothing
AMBIGUOUS_SEPARATOR = re.compile(
    r"\s*(?:\\n(?=[A-Z])|<br\s*/?>|[/+&_\\·•\n\r\t#^~:<>]+)\s*"
    r"|\s+(?:and|plus|with|et|avec|e|y|con|und|[-–—]|-?->)\s+",
    re.IGNORECASE,
)
ITEM_NUMBER = re.compile(r"(?:^|[\s,;|]+)\(?\d+[.)]\s+")  # '1. A 2. B'; of a text that begins so
# of an item: '- A', '1. A', 'A, and B'
ITEM_PREFIX = re.compile(r"(?:[-*•·]|\d+[.)]|and\b|&)\s+", re.IGNORECASE)
VALVE = r"(aortic|mitral|tricuspid|pulmon(?:ary|ic))(?:\s+valve)?"


def parse_items(cell: str) -> list[str] | None:
    """The items of a cell that is clearly a list, None of one that is not.

    A list is one of Python, numpy (without commas), pandas, R, PostgreSQL or JSON, whose objects are read as
    labelling tools write them, such as {"choices": ["A", "B"]} or {"A": true, "B": false}.

    Raises:
        ValueError: it begins like a list and cannot be read as one; the message is the reason.
    """
    if len(cell) > MAX_CELL_CHARS:
        raise ValueError(f"has {len(cell)} characters, a list of classes at most {MAX_CELL_CHARS}")
    text = printable(cell, keep="\r\n\t").strip().translate(CURLY_QUOTES)
    if re.fullmatch(f"b?(?:{QUOTED})", text):
        inside = re.sub(r"\\(.)", r"\1", text.removeprefix("b")[1:-1])
        items = parse_items(inside)
        return [inside] if items is None else items
    wrapped = WRAPPER.match(text)
    if not wrapped and OTHER_WRAPPER.match(text):
        raise ValueError("begins like an object of a program and cannot be read as a list")
    if not text or not (wrapped or text[0] in "[({\"'"):
        return None
    with suppress(ValueError, RecursionError):
        return _json_items(json.loads(text))
    bare = OPTION.sub("", WRAPPER.sub("(", text))
    if LIST.fullmatch(bare) and _is_balanced(bare):
        return [re.sub(r"\\(.)", r"\1", quoted[1:-1]) for quoted in re.findall(QUOTED, bare)]
    if text[0] == "{" and ":" in text:
        return _json_items(_parse_literal(bare))
    if not (wrapped or _is_enclosed(text)):
        if text[0] in "[{":
            raise ValueError("begins like a list that has no end")
        return None
    if NUMBERS.fullmatch(bare[1:-1]):
        return _number_items(bare[1:-1])
    return [_unquote(part) for part in SEPARATOR.split(bare[1:-1])]


def split_classes(text: str, is_term: Callable[[str], bool]) -> list[str]:
    """Split a cell at separators that may also be part of a class name, such as '/' and 'and'.

    It is split only if all parts are terms: 'A / B', 'A + B', 'A and B', or one a line.

    Raises:
        ValueError: it has several lines, and can be read as one class, or as several.
    """
    joined = " ".join(text.split())
    terms = [joined] if is_term(joined) else split_terms(text)
    if all(map(is_term, terms)):
        return terms
    if "\n" in text.strip():
        raise ValueError("has several lines: is it one class, or several?")
    return [joined]


def split_terms(text: str) -> list[str]:
    """Split a text at every sign and word that may separate classes.

    'Aortic and Mitral Regurgitation' is the regurgitation of both.
    """
    return _expand_valves(
        [
            ITEM_PREFIX.sub("", part.strip(), count=1)
            for part in AMBIGUOUS_SEPARATOR.split(text.strip())
            if part.strip()
        ]
    )


def _expand_valves(terms: list[str]) -> list[str]:
    """Terms of which the last one names the finding of all the valves."""
    if kind := re.fullmatch(rf"{VALVE}\s+(.+)", terms[-1] if terms else "", re.IGNORECASE):
        terms = [f"{part} {kind[2]}" if re.fullmatch(VALVE, part, re.IGNORECASE) else part for part in terms]
    return terms


def split_on_separators(cell: str) -> list[str]:
    """The parts of a cell between commas, semicolons and vertical bars outside parentheses, or numbers.

    'Mitral, Aortic Regurgitation' is the regurgitation of both.
    """
    listed = ITEM_NUMBER.match(cell.strip())
    parts = [part for part in ITEM_NUMBER.split(cell.strip()) if part] if listed else SEPARATOR.split(cell)
    return (
        _expand_valves([ITEM_PREFIX.sub("", part.strip(), count=1) for part in parts])
        if len(parts) > 1
        else parts
    )


def _json_items(value: Any) -> list[str]:
    """The texts in a value of JSON; of an object those that are chosen."""
    if isinstance(value, dict):
        if all(isinstance(chosen, bool | int | float | None) for chosen in value.values()):
            return [printable(str(name)) for name, chosen in value.items() if chosen]
        named = [key for key in value if str(key).lower().endswith(("choices", "choice", "labels", "label"))]
        named += [key for key in CHOICE_KEYS if key in value] + list(value) * (len(value) == 1)
        if not named:
            raise ValueError("is an object without choices")
        if named[0] == "taxonomy":  # paths from the trunk to the class
            return [path[-1] for path in value["taxonomy"] if path]
        return _json_items(value[named[0]])
    if isinstance(value, list) and value and all(type(item) in (int, float) for item in value):
        return _number_items(" ".join(map(str, value)))
    if isinstance(value, list | tuple | set | frozenset):
        return [text for item in value for text in _json_items(item)]
    if isinstance(value, bool):
        raise ValueError("says yes or no, and not of what")
    if (
        isinstance(value, str)
        and (items := parse_items(value) if value[:1] in ("[", "{") else None) is not None
    ):
        return items
    return [] if value is None else [printable(str(value), keep="\n")]  # JSON escapes what it likes


def _number_items(text: str) -> list[str]:
    """The numbers in a list, as names of classes.

    Raises:
        ValueError: one repeats, as where each class has its 0 or 1.
    """
    numbers = re.split(r"[\s,;]+", text.strip(" \t\r\n,;"))
    if len(set(numbers)) < len(numbers):
        raise ValueError("has numbers that repeat, and no names: which class is which?")
    return numbers


def _parse_literal(text: str) -> Any:
    if re.search(rf"(?:{QUOTED})\s*(?:{QUOTED})", text):  # Python makes one text of neighbours
        raise ValueError("has items without a comma between them")
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError("begins like an object and cannot be read as one") from None


def _is_balanced(text: str) -> bool:
    outside = re.sub(QUOTED, "", text)
    return all(outside.count(start) == outside.count(end) for start, end in ("()", "[]", "{}"))


def _is_enclosed(text: str) -> bool:
    """Return True if the last character closes the bracket that the text begins with."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter in "[({") - (letter in "])}")
        if depth <= 0:
            return place == len(text) - 1 and depth == 0
    return False


def _unquote(part: str) -> str:
    part = part.strip()
    if len(part) > 1 and part[0] == part[-1] and part[0] in "\"'":
        part = part[1:-1]
    if re.search(r"""^['"]|"$|[\[\]{}]|['"][\s'"]|\s['"]""", part):  # an apostrophe stands between letters
        raise ValueError("begins like a list whose quotation marks or brackets do not match")
    return part
