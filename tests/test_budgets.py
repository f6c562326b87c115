"""Sizes that keep the code readable; ruff holds parameters and complexity (`pyproject.toml`)."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "simclr_rhd"
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = [PACKAGE, *sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)]
PUBLIC_LOSS = PACKAGE / "loss.py"  # only a public place of what a room has
# What must be read to know how the figures come about (docs/architecture.md, "The method").
METHOD = (
    "data/splits ssl/augment.py ssl/loss.py ssl/encoder/model.py ssl/step.py ssl/optim.py ssl/schedule.py "
    "ssl/trainer.py ssl/fit.py heads evaluation/scores/metrics.py evaluation/scores/figures.py "
    "evaluation/scores/bootstrap.py pipeline.py"
).split()
# {room: functions that take or give a `dict[str, Any]`}: types say more. A number may only fall.
MAX_UNTYPED = {
    "config.py": 1,
    "core": 1,
    "data": 4,
    "evaluation": 10,
    "heads": 2,
    "pipeline.py": 2,
    "planning": 2,
    "report": 12,
    "runs": 5,
    "ssl": 7,
}


def lines_of(path):
    return len(path.read_text().splitlines())


def test_no_file_is_longer_than_250_lines():
    assert {str(path.relative_to(ROOT)): lines_of(path) for path in FILES if lines_of(path) > 250} == {}


def test_no_function_is_longer_than_60_lines():
    functions = {
        f"{path.relative_to(ROOT)}: {node.name}": node.end_lineno - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: lines for name, lines in functions.items() if lines > 60} == {}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_no_room_has_more_than_12_entries(room):
    entries = [
        path
        for path in room.iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed") and path != PUBLIC_LOSS
    ]
    assert len(entries) <= 12, sorted(path.name for path in entries)


def test_signatures_with_untyped_tables_become_no_more():
    counts = Counter(
        path.relative_to(PACKAGE).parts[0]
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and "dict[str, Any]" in signature_of(node)
    )
    assert {room: n for room, n in counts.items() if n > MAX_UNTYPED.get(room, 0)} == {}


def signature_of(function):
    return ast.unparse(function.args) + ast.unparse(function.returns or ast.Constant(None))


def test_the_entry_and_the_pipeline_fit_their_page():
    assert lines_of(ROOT / "main.py") <= 30 and lines_of(PACKAGE / "pipeline.py") <= 200


def test_the_method_reads_alone():
    files = [
        file
        for name in METHOD
        for file in ([PACKAGE / name] if ".py" in name else (PACKAGE / name).rglob("*.py"))
    ]
    assert sum(map(lines_of, files)) <= 3800, "the aim is 3,500"
