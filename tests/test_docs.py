"""The documents: what is generated is up to date."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("script", "function", "target"),
    [("make_cli.py", "markdown", "cli.md"), ("draw_rooms.py", "svg", "rooms.svg")],
)
def test_what_is_generated_is_up_to_date(script, function, target, monkeypatch):
    monkeypatch.setenv("SIMCLR_RHD_DATA", "gs://another-default")
    made = runpy.run_path(str(ROOT / "docs" / script))[function]()
    assert (ROOT / "docs" / target).read_text() == made, f"docs/{target} is out of date: make docs"


def test_every_flag_of_every_command_is_in_the_table():
    found = runpy.run_path(str(ROOT / "docs" / "make_cli.py"))
    for command in found["COMMANDS"]:
        flags = {flag for action in found["parser_of"](command)._actions for flag in action.option_strings}
        (section,) = re.findall(
            rf"^## [\w, ]*\b{command}\b[\w, ]*$(.*?)(?=^## |\Z)", found["markdown"](), re.M | re.S
        )
        assert flags - {"-h", "--help"} == set(re.findall(r"^\| `(--[a-z0-9-]+)", section, re.M))
