"""Texts without the characters that a terminal, a log or a table must not get."""

import re
import sys
from pathlib import Path

INSTALLED_COMMAND, SCRIPT_COMMAND = "simclr-rhd", "python3 main.py"

# Commands to a terminal, ECMA-48: colours and cursor (CSI), titles and links (OSC); no delimiter of a table
ESCAPES = re.compile(r"\x1b\[[0-9:;?]*[A-Za-z]|\x1b\][^\x07\x1b\r\n\t,\"]*(?:\x07|\x1b\\)")

# What a spreadsheet takes for a formula, but for numbers; a text that is marked already is marked once more
FORMULA_START = re.compile(r"(?![+-]?[\d.]+(?:[eE][+-]?\d+)?\Z)'*[=+\-@＝＋－＠\t\r\n]")

# Codes that steer a terminal, unusual ends of lines, turns of the direction of reading, halves of characters
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str, *, keep: str = "") -> str:
    """A text without the characters that are not seen: control, private-use, unassigned and formatting ones.

    Commands to a terminal go as a whole. What divides words, such as a no-break blank, becomes a blank.

    Args:
        text: any.
        keep: characters that stay.
    """
    hidden = {letter for letter in set(text) if not letter.isprintable()} - set(keep)
    if not hidden:
        return text
    text = ESCAPES.sub("", text)
    return text.translate({ord(letter): " " if letter.isspace() else None for letter in hidden})


def as_cell(value: object) -> object:
    """A cell of a CSV file that no spreadsheet takes for a formula: texts like one begin with '."""
    return f"'{value}" if isinstance(value, str) and FORMULA_START.match(value) else value


def from_cell(cell: str) -> str:
    """The text that `as_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and FORMULA_START.match(cell[1:]) else cell


def replace_unprintable(text: str) -> str:
    """`text` with '?' for what no page or terminal should be given."""
    return UNPRINTABLE.sub("?", text)


def command_name() -> str:
    """The command that the user typed: `simclr-rhd` where it was called so, else `python3 main.py`."""
    return INSTALLED_COMMAND if Path(sys.argv[0]).stem == INSTALLED_COMMAND else SCRIPT_COMMAND
