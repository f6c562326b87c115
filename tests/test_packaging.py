"""The package, the image and the launchers: what can be checked without a cluster, a cloud or Docker."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import simclr_rhd

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LAUNCHERS = ROOT / "launch"


def requirements(name):
    """{package: line} of a requirements file, without those that it includes."""
    lines = [line for line in (ROOT / name).read_text().split() if re.match(r"\w", line)]
    return {re.split(r"[><=]", line)[0]: line for line in lines}


def test_the_package_needs_what_requirements_name():
    assert PROJECT["dependencies"] == list(requirements("requirements.txt").values())


def test_extras_have_the_floors_of_the_tests():
    tested = requirements("requirements-dev.txt")
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    assert {line for line in extras if re.split(r"[><=]", line)[0] in tested} <= set(tested.values())


def test_the_version_is_in_one_place():
    assert "version" not in PROJECT and PROJECT["dynamic"] == ["version"]
    assert f"## {simclr_rhd.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("flag", "text"),
    [("--version", f"simclr-rhd {simclr_rhd.__version__}"), ("--help", "usage: simclr-rhd [")],
)
def test_the_installed_command_names_itself(flag, text, tmp_path):
    script = tmp_path / "simclr-rhd"  # as pip writes it
    script.write_text("import sys\nfrom simclr_rhd.cli import main\nsys.exit(main())\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script, flag], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and text in done.stdout and "main.py" not in done.stdout


def linter(name):
    """A linter of shell scripts or Dockerfiles, from its package."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.skip("it is missing: pip install -r requirements-dev.txt")
    return path


@pytest.mark.parametrize("name", ["launch/slurm.sbatch", "launch/vertex.sh", ".ci/run"])
def test_shell_scripts_are_sound(name):
    subprocess.run(["bash", "-n", ROOT / name], check=True)
    subprocess.run([linter("shellcheck"), "--shell", "bash", ROOT / name], check=True)


def test_the_dockerfile_is_sound():
    subprocess.run([linter("hadolint"), ROOT / "Dockerfile"], check=True)


def test_the_image_has_all_that_its_build_reads():
    """The files that the Dockerfile copies are there, reach Docker, and suffice to build the package."""
    copied = re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    assert names == let_in and all((ROOT / name).exists() for name in names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    read = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "requirements.txt"}
    assert names == read | set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
