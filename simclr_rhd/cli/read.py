"""The knobs of a command, as its command line sets them, and the file of --config below it."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from simclr_rhd.cli.config_file import read_settings, refuse, refuse_own_file
from simclr_rhd.cli.parser import CommandLine, fields_out_of_range, make_parser
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.text import printable

PATHS = (
    "save_dir",
    "cache_dir",
    "patients_csv",
    "split",
    "init",
    "model",
    "out",
    "html",
    "runs",
    "folders",
)  # in which ~ is the home folder


def read(parser: argparse.ArgumentParser, command: CommandLine, arguments: Sequence[str]) -> Any:
    """The command's knobs. Leaves with status 2 and one message on a mistake in the command line or file."""
    for argument in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in argument):  # Python's stand-ins for other bytes
            parser.error(f"{printable(argument)}: not in UTF-8, as names must be; rename it")
    values = vars(parser.parse_intermixed_args(list(arguments)))
    paths = values.pop("config", [])
    try:
        if len(paths) > 1:
            raise UserError(f"--config: found {len(paths)} files, wanted one")
        if paths == [""]:
            raise UserError("--config is empty; wanted a file of flags")
        if paths:
            return _with_file(os.path.expanduser(paths[0]), parser, command, arguments)
        return command.knobs(**_normalised(values))
    except UserError as error:
        parser.error(str(error))


def _with_file(
    path: str, parser: argparse.ArgumentParser, command: CommandLine, arguments: Sequence[str]
) -> Any:
    """The knobs of a file, and of the command line, which wins.

    Raises:
        UserError: something in the file is no flag, or no value of its flag.
    """
    settings = read_settings(path, make_parser(command, exit_on_error=False), command.knobs)
    # A flag that may be repeated would add to the file's list, so that list is set only where no flag is
    lists = {name: value for name, value in settings.items() if isinstance(value, list)}
    preset = argparse.Namespace(**{name: value for name, value in settings.items() if name not in lists})
    values = vars(parser.parse_intermixed_args(list(arguments), preset))
    del values["config"]
    values |= {name: values[name] or value for name, value in lists.items()}
    from_file = [name for name, value in settings.items() if values[name] is value]
    config = command.knobs(**_normalised(values))
    wrong = fields_out_of_range(config)
    refuse(path, [f"{name} {wrong[name]}" for name in from_file if name in wrong])
    refuse_own_file(path, getattr(config, "save_dir", ""))
    return config


def _normalised(values: dict[str, object]) -> dict[str, object]:
    """Values with tuples for lists, and with ~ replaced in paths."""
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = value = tuple(value)
        if name in PATHS and isinstance(value, str):
            values[name] = os.path.expanduser(value)
        elif name in PATHS and isinstance(value, tuple):
            values[name] = tuple(map(os.path.expanduser, value))
    for name in ("cache_dir", "patients_csv"):
        if name in values:
            values[name] = values[name] or None
    return values
