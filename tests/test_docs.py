"""The documents: what is generated is up to date, what they name exists, and no sentence is in two places."""

import ast
import re
import runpy
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
PLACES = ("simclr_rhd/", "benchmarks/", "docs/", "tests/")  # other paths are those of a run or of an example
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(
    r"(?<![\w/.-])(?:[\w.-]+/)+[\w.-]*|\b(?:main\.py|Makefile|requirements\S*\.txt|pyproject\.toml)\b"
)
CODE = re.compile(r"```.*?```", re.DOTALL)


CODE_NAME = re.compile(
    r"`(?!torch|numpy)(?:\w+\.)*(\w+)\.(?!(?:csv|html|jsonl?|md|onnx|pt2?|py|safetensors|toml)\b)(\w+)[`(]"
)


def names(document):
    return document.relative_to(ROOT).as_posix()


def anchors(document):
    """The anchors of its headings, as GitHub makes them."""
    text = CODE.sub("", document.read_text())
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }


def sentences(document):
    """Its sentences of eight words and more: of paragraphs, items and cells of tables; without code."""
    text = CODE.sub("", document.read_text())
    for part in re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) |\|", text):
        for sentence in re.split(r"(?<=[.!?:;])\s+", " ".join(part.split())):
            if len(re.findall(r"\w+", sentence)) >= 8:
                yield sentence.lower().strip(" *.")


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
        assert flags - {"-h", "--help", "--version"} == set(re.findall(r"^\| `(--[a-z0-9-]+)", section, re.M))


@pytest.mark.parametrize("document", DOCS, ids=names)
def test_every_link_leads_to_a_file_or_a_heading(document):
    for link in LINK.findall(CODE.sub("", document.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{names(document)}: {link}"
        assert not anchor or anchor in anchors(target), f"{names(document)}: {link}: no such heading"


@pytest.mark.parametrize("document", [d for d in DOCS if d.parent.name != "benchmarks"], ids=names)
def test_every_file_that_is_named_exists(document):
    for name in NAMED.findall(LINK.sub("]", document.read_text())):
        name = name.rstrip(".")
        if "/" not in name or name.startswith(PLACES):
            assert (ROOT / name).exists(), f"{names(document)}: {name}"


def test_every_page_is_reached_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    for document in DOCS:
        assert document.name == "README.md" or f"]({names(document)})" in readme


def test_no_sentence_is_in_two_places():
    places = defaultdict(list)
    for document in DOCS:
        if document.name != "cli.md":  # its texts are those of --help, where two commands may have one flag
            for sentence in sentences(document):
                places[sentence].append(names(document))
    assert not {sentence: where for sentence, where in places.items() if len(where) > 1}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def test_what_docstrings_name_of_the_code_exists():
    trees = {path: ast.parse(path.read_text()) for path in (ROOT / "simclr_rhd").rglob("*.py")}
    members, named = defaultdict(set), set()
    for path, tree in trees.items():
        members[path.parent.name].add(path.stem)
        for owner in ast.walk(tree):
            if isinstance(owner, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(owner) or ""
                named |= {(path.name, *parts) for parts in CODE_NAME.findall(text)}
            if isinstance(owner, ast.Module | ast.ClassDef):
                members[getattr(owner, "name", path.stem)] |= set(map(defined_name, ast.walk(owner)))
    assert {place for place in named if place[1] in members and place[2] not in members[place[1]]} == set()
    assert len(named) > 30


def defined_name(node):
    """The name that a node of the code defines; "" if it defines none."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    stored = isinstance(getattr(node, "ctx", None), ast.Store)
    return getattr(node, "attr", getattr(node, "id", "")) if stored else ""
