"""The package's rooms import only rooms above them, and what is heavy only where it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "simclr_rhd"
# In the order of imports: each room may use those before it.
ROOMS = "core data runs ssl heads evaluation config inference report planning pipeline cli".split()
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)
FILES += [Path("config.py"), Path("pipeline.py")]


def imported(path):
    """Dotted names of our modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "simclr_rhd":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if module_of(name) else node.module


def module_of(name):
    """The file of a dotted name; None if it is no module."""
    path = ROOT.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file if file.exists() else None


def test_every_room_is_in_the_list():
    names = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(ROOMS) == sorted(names | {"config", "pipeline"})


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_room_imports_only_rooms_above_it(file):
    for name in imported(PACKAGE / file):
        room, own = (name.split(".") + [""])[1], file.parts[0].removesuffix(".py")
        assert not room or ROOMS.index(room) <= ROOMS.index(own), f"{file} imports {name}"


def test_no_modules_import_each_other_in_a_circle():
    graph = {path: {module_of(name) for name in imported(path)} for path in PACKAGE.rglob("*.py")}
    while leaves := [path for path, needed in graph.items() if not needed & graph.keys()]:
        for path in leaves:
            del graph[path]
    assert not graph, f"a circle among {sorted(str(path.relative_to(PACKAGE)) for path in graph)}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("cli", ["torch", "numpy", "PIL"]),
        ("core.logs", ["torch", "numpy", "PIL"]),
        ("core.signals", ["torch", "numpy", "PIL"]),
        ("data.sources.open", ["google.cloud", "torch", "matplotlib"]),
        ("report.charts.pretraining", ["matplotlib", "seaborn", "umap", "sklearn", "torch"]),
        ("report.charts.tasks", ["matplotlib", "seaborn", "umap", "sklearn", "torch"]),
        ("report.charts.evaluation", ["matplotlib", "seaborn", "umap", "sklearn", "torch"]),
        ("report.compare.page", ["torch", "matplotlib", "seaborn", "umap"]),
        ("ssl.trainer", ["matplotlib", "sklearn", "google.cloud", "umap"]),
    ],
)
def test_heavy_packages_are_imported_where_they_are_used(module, absent):
    code = f"import sys, simclr_rhd.{module}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
