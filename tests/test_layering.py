"""The package's modules import downwards only, and what is heavy only where it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = [
    {"text"},
    {
        "errors",
        "process",
        "processor",
        "containers",
        "limits",
        "bootstrap",
        "calibration",
        "confusions",
        "parallel",
        "pooling",
        "prevalence",
        "ranking",
    },
    {"pseudonyms"},
    {"averaging", "convolution", "diagnostics", "groups", "optim", "records"},
    {
        "commands",
        "files",
        "frames",
        "phantom",
        "listing",
        "ranks",
        "intervals",
        "split",
        "projection",
        "table",
        "cells",
        "answers",
    },
    {
        "config",
        "loss",
        "syncnorm",
        "annotators",
        "demo",
        "checkpoint",
        "augment",
        "bucket",
        "clips",
        "earlier",
        "shards",
        "stages",
        "index",
    },
    {"metrics", "runtime", "audit", "canvas", "comparators", "dicom", "labels", "model"},
    {"earlier", "media", "precision", "runs"},
    {"mirror"},
    {"store", "sources"},
    {"dataset"},
    {"batches", "inventory", "reading", "novelty"},
    {"step", "features", "heads", "cohort", "saliency"},
    {"finetune", "study", "curves", "classifier", "selective"},
    {"inference"},
    {"predict", "__init__"},
    {"export"},
    {"evaluation"},
    {"efficiency"},
    {"pretrain", "journal"},
    {"watch"},
    {"costs"},
    {"probe", "settle"},
    {"plots_pretraining", "plots_tasks", "plots_evaluation", "summary"},
    {"webpage", "verdict", "figures", "compare"},
    {"card"},
    {"images", "panels", "plots_comparison"},
    {"gallery", "atlas", "comparison"},
    {"contents"},
    {"report"},
]
LEVEL = {name: number for number, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(path.stem for path in (ROOT / "simclr_rhd").glob("*.py"))


def imports(path):
    """Names of our modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "simclr_rhd":
            yield from (alias.name for alias in node.names if alias.name in LEVEL)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("simclr_rhd."):
            yield node.module.split(".")[1]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    assert module in LEVEL, f"give {module} its layer"
    for other in imports(ROOT / "simclr_rhd" / f"{module}.py"):
        assert LEVEL[other] < LEVEL[module], f"{module} imports {other}"


@pytest.mark.parametrize("module", MODULES)
def test_only_main_sees_the_configuration(module):
    assert "config" not in set(imports(ROOT / "simclr_rhd" / f"{module}.py"))


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("config", ["torch", "numpy", "PIL"]),
        ("process", ["torch", "numpy", "PIL"]),
        ("sources", ["google.cloud", "torch", "matplotlib"]),
        ("plots_pretraining", ["matplotlib", "seaborn", "umap", "sklearn", "torch"]),
        ("plots_tasks", ["matplotlib", "seaborn", "umap", "sklearn", "torch"]),
        ("plots_evaluation", ["matplotlib", "seaborn", "umap", "sklearn", "torch"]),
        ("comparison", ["torch", "matplotlib", "seaborn", "umap"]),
        ("pretrain", ["matplotlib", "sklearn", "google.cloud", "umap"]),
    ],
)
def test_heavy_packages_are_imported_where_they_are_used(module, absent):
    code = f"import sys, simclr_rhd.{module}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
