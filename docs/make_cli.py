"""Write docs/cli.md: the flags of every command, from their parsers.

.venv/bin/python docs/make_cli.py
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from simclr_rhd.cli.command_line import COMMANDS, parse

TARGET = ROOT / "docs" / "cli.md"
HEAD = """# Commands and flags

<!-- Made by `make docs`. Change the help in each room's config.py or in simclr_rhd/cli. -->

`--help` after a command prints the same text, `--version` the program's version. Flags cannot be shortened.
Flags that contradict each other are reported together, in one message.
"""
DEFAULT = " (default: %(default)s)"


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that answers `main.py COMMAND --help`."""
    found: list[argparse.ArgumentParser] = []
    with (
        mock.patch.object(argparse.ArgumentParser, "print_help", lambda self, file=None: found.append(self)),
        mock.patch.dict(os.environ),
        contextlib.suppress(SystemExit),
    ):
        os.environ.pop("SIMCLR_RHD_DATA", None)  # it changes a default
        parse([command, "--help"])
    return found[0]


def row(action: argparse.Action) -> str:
    """A flag or an argument as a row of the table: how it is written, its default, what it does."""
    text, values = action.help or "", vars(action) | {"default": action.default}
    name, default = action.option_strings[-1] if action.option_strings else "", ""
    if action.nargs == 0:
        default = "off"
    elif text.endswith(DEFAULT.strip()):
        text, default = text.removesuffix(DEFAULT.strip()).rstrip(), f"`{action.default}`"
    value = str(action.metavar or "{" + ",".join(action.choices or ()) + "}")
    value = "VALUE" if value == action.dest.upper() else value
    value += "..." if action.nargs in ("*", "+") else ""
    written = [name] * bool(name) + [value] * (action.nargs != 0)
    cells = [f"`{' '.join(written)}`", default, text % values]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def markdown() -> str:
    """The whole of docs/cli.md."""
    commands_of: dict[str, list[str]] = {}  # by usage: `train` and `estimate` share a parser
    parsers = {command: parser_of(command) for command in COMMANDS}
    for command, parser in parsers.items():
        commands_of.setdefault(parser.format_usage(), []).append(command)
    lines = [HEAD]
    for commands in commands_of.values():
        parser = parsers[commands[0]]
        rows = [row(action) for action in parser._actions if action.dest not in ("help", "version")]
        usage = [line.strip() for line in (parser.usage or parser.format_usage()).splitlines()]
        lines += [f"## {', '.join(commands)}", "", "```", *usage, "```", ""]
        lines += [parser.description or "", "", "| flag | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    TARGET.write_text(markdown(), encoding="utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")
