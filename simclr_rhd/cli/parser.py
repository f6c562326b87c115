"""Make a command line of declared knobs: one parser for all commands."""

import argparse
import dataclasses
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from simclr_rhd.core import __version__
from simclr_rhd.core.config import NOT_TAKEN_OVER, flag_name
from simclr_rhd.core.text import INSTALLED_COMMAND, SCRIPT_COMMAND, command_name

CONFIG_HELP = (
    "a file with flags: TOML, with lines such as epochs = 300, or the run.json of the same command, of which "
    f"{', '.join(map(flag_name, NOT_TAKEN_OVER))} are not taken over. Flags on the command line win"
)


@dataclass(frozen=True)
class CommandLine:
    """Description of a command.

    Attributes:
        knobs: a dataclass whose fields are made by `core.config.flag`; those with the option `positional`
            are given without a name.
        prog: the command in messages, as of a checkout.
        usage: how it is called, as of a checkout.
        description: what it does.
        problems: of a value of `knobs`, each in one sentence.
        takes_config: whether `--config` reads flags from a file.
    """

    knobs: type[Any]
    prog: str
    usage: str
    description: str
    problems: Callable[[Any], Iterable[str]]
    takes_config: bool = False


def make_parser(command: CommandLine, *, exit_on_error: bool = True) -> argparse.ArgumentParser:
    """A parser with a flag for each declared field of the knobs; it takes no abbreviations."""
    prog, usage = command.prog, command.usage
    if command_name() == INSTALLED_COMMAND:
        prog = prog.replace("main.py", INSTALLED_COMMAND)
        usage = usage.replace(SCRIPT_COMMAND, INSTALLED_COMMAND)
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=usage,
        description=command.description,
        allow_abbrev=False,
        exit_on_error=exit_on_error,
    )
    parser.add_argument(
        "--version", action="version", version=f"simclr-rhd {__version__}", help="print the version, and stop"
    )
    if command.takes_config:
        parser.add_argument("--config", metavar="FILE", action="append", default=[], help=CONFIG_HELP)
    hints = typing.get_type_hints(command.knobs)
    for field in dataclasses.fields(command.knobs):
        if not field.metadata:
            continue
        options = dict(field.metadata["options"])
        text = field.metadata["help"].replace("%", "%%")
        if options.pop("positional", False):
            parser.add_argument(field.name, help=text, **options)
            continue
        name = flag_name(field.name)
        if hints[field.name] is bool:
            parser.add_argument(name, action="store_true", help=text)
            continue
        default = os.environ.get(options.pop("environment", "")) or field.default
        if isinstance(default, tuple):  # a text with commas where the flag takes one
            default = ",".join(map(str, default)) if "type" in options else list(default)
        shown = "" if default in (None, []) else " (default: %(default)s)"
        if "action" not in options:
            options.setdefault("type", base_type(hints[field.name]))
        if "choices" not in options:
            options.setdefault("metavar", field.name.upper())
        parser.add_argument(name, default=default, help=text + shown, **options)
    return parser


def out_of_range(config: Any) -> Iterator[str]:
    """A sentence for each field whose value is not what its declaration wants."""
    for name, problem in fields_out_of_range(config).items():
        yield f"{flag_name(name)} {problem}"


def fields_out_of_range(config: Any) -> dict[str, str]:
    """{field whose value is not what its declaration wants: the value, and what is wanted}."""
    checked = [field for field in dataclasses.fields(config) if field.metadata.get("check")]
    return {
        field.name: f"{value!s}: wanted {field.metadata['check'].wanted}"
        for field in checked
        if not field.metadata["check"].accepts(value := getattr(config, field.name))
    }


def base_type(hint: Any) -> Any:
    """`int` for `int` and for `int | None`; `str` for a list of texts."""
    if isinstance(hint, types.UnionType):
        return typing.get_args(hint)[0]
    return str if typing.get_origin(hint) is tuple else hint
