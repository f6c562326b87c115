"""Flags from a file: TOML, or the `run.json` of another run. Flags on the command line win."""

import argparse
import dataclasses
import difflib
import os
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simclr_rhd.cli.parser import base_type
from simclr_rhd.core.config import NOT_IN_FILES, NOT_TAKEN_OVER, flag_name
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import CONFIG_FILE
from simclr_rhd.core.records import parse_json
from simclr_rhd.core.text import printable
from simclr_rhd.runs.record import CONFIG_HEAD

MAX_TOML_BYTES, MAX_RECORD_BYTES = 100_000, 10_000_000
MAX_LINE_CHARS = 2000  # of TOML: the time for a.b.c. ... rises with the square of its length
MAIN_JOB = "the main job"
MAX_SHOWN, MAX_SHOWN_CHARS = 20, 300  # problems in a message, and the length of each


def read_settings(path: str, parser: argparse.ArgumentParser, knobs: type[Any]) -> dict[str, object]:
    """The values of the flags that a file sets.

    Args:
        path: of the file.
        parser: of the command; raises errors instead of leaving.
        knobs: the dataclass of the command's flags.

    Raises:
        UserError: the file cannot be read, or sets what is no flag, or a value of another type.
    """
    fields = {
        field.name: field
        for field in dataclasses.fields(knobs)
        if field.metadata and not field.metadata["options"].get("positional")
    }
    hints = typing.get_type_hints(knobs)
    settings, problems = dict[str, object](), list[str]()
    for key, value in _read_file(path, parser.prog).items():
        name = key.replace("-", "_")
        try:
            if isinstance(value, dict):
                raise ValueError("is a table; wanted flags without [tables] and without {}")
            if name not in fields:
                raise ValueError(f"no such flag{_nearest(name, fields)}")
            if name in NOT_IN_FILES:
                raise ValueError("is for the command line alone")
            if name in settings:
                raise ValueError("is set twice, with - and with _")
            if value is not None:
                words = [flag_name(name) + text for text in _as_words(value, fields[name], hints[name])]
                settings[name] = getattr(parser.parse_args(words), name)
        except ValueError as error:
            problems.append(f"{key}: {error}")
        except argparse.ArgumentError as error:
            problems.append(f"{key}: {error.message}")
    refuse(path, problems)
    return settings


def refuse(path: str, problems: list[str]) -> None:
    """Report what is wrong in a file, each in a line.

    Raises:
        UserError: there is anything.
    """
    if problems:
        lines = [f"{path}: {printable(problem)[:MAX_SHOWN_CHARS]}" for problem in problems[:MAX_SHOWN]]
        lines += [f"and {len(problems) - MAX_SHOWN} more"] * (len(problems) > MAX_SHOWN)
        raise UserError("\n  ".join(["invalid configuration:", *lines]))


def refuse_own_file(path: str, save_dir: str) -> None:
    """Keep a file that a user wrote from being replaced by the run that reads it.

    Raises:
        UserError: it has the place of the file that the run writes.
    """
    written = os.path.join(save_dir, CONFIG_FILE)
    if os.path.realpath(path) == os.path.realpath(written) and not _is_written_by_a_run(path):
        refuse(path, [f"the run writes that file anew in --save-dir {save_dir}; copy it to another place"])


def _is_written_by_a_run(path: str) -> bool:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(len(CONFIG_HEAD)) == CONFIG_HEAD


def _read_file(path: str, prog: str) -> Mapping[str, object]:
    """The values that a file sets, by key; of a record those that are taken over from it."""
    is_record = path.lower().endswith(".json")
    text = _read_text(path, MAX_RECORD_BYTES if is_record else MAX_TOML_BYTES)
    if not is_record and any(len(line) > MAX_LINE_CHARS for line in text.splitlines()):
        raise UserError(f"--config {path}: a line has more than {MAX_LINE_CHARS:,} characters")
    try:
        content = parse_json(text) if is_record else tomllib.loads(text)
    except RecursionError:
        raise UserError(f"--config {path}: is nested too deep") from None
    except ValueError as error:
        kind = "JSON" if is_record else "TOML"
        raise UserError(
            f"--config {path}: is not valid {kind} ({printable(str(error))[:MAX_SHOWN_CHARS]})"
        ) from None
    return _taken_over(content, path, prog) if is_record else content


def _taken_over(record: object, path: str, prog: str) -> dict[str, object]:
    """The values that a run takes over from the record of another one."""
    config = record.get("config") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(config, dict):
        raise UserError(f"--config {path}: has no configuration; wanted the run.json of a run, or TOML")
    command, of = prog.partition(" ")[2] or MAIN_JOB, record.get("command", MAIN_JOB)
    if of != command:
        raise UserError(f"--config {path}: is a record of {of}, wanted one of {command}, or TOML")
    return {key: value for key, value in config.items() if key not in (*NOT_TAKEN_OVER, "command")}


def _read_text(path: str, max_bytes: int) -> str:
    if not os.path.isfile(path):  # a pipe would be waited for
        raise UserError(f"--config {path}: {'is no file' if os.path.exists(path) else 'no such file'}")
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise UserError(f"--config {path}: has more than {max_bytes:,} bytes; wanted a file of flags")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"--config {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"--config {path}: is not text in UTF-8") from None


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"; the nearest is {near[0]}" if near else ""


def _as_words(value: object, field: "dataclasses.Field[Any]", hint: Any) -> list[str]:
    """Format a value as what follows the flag's name on a command line, such as `=300`; false is none.

    Raises:
        ValueError: a flag of this kind has no such value.
    """
    options = field.metadata["options"]
    kind = options.get("type", base_type(hint))
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError("wanted true or false")
        return [""] if value else []
    if options.get("action") == "append":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError('wanted a list of texts, such as ["a", "b"]')
        return [f"={item}" for item in value]
    if kind is str and not isinstance(value, str):
        raise ValueError("wanted text in quotation marks")
    if kind in (int, float) and isinstance(value, str):
        raise ValueError("wanted a number, without quotation marks")
    if isinstance(value, list) and "type" in options:
        return ["=" + ",".join(map(str, value))]
    return [f"={str(value).lower() if isinstance(value, bool) else value}"]
