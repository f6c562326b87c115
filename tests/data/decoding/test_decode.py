"""Decoding of any file: packages, content flags, evenly spaced frames."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from echo_files import (
    picture,
)

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding import decode as media
from simclr_rhd.data.decoding.image import evenly_spaced, letterbox

pytest.importorskip("av", reason="PyAV is missing: pip install -r requirements-dev.txt")
pytest.importorskip("pydicom", reason="pydicom is missing: pip install -r requirements-dev.txt")


def test_evenly():
    assert evenly_spaced(0, 5) == [] and evenly_spaced(1, 5) == [0] and evenly_spaced(10, 4) == [0, 3, 6, 9]


@pytest.mark.parametrize(
    ("name", "missing", "package"),
    [("c.mp4", "av", "pip install av"), ("f.dcm", "pydicom", "pip install pydicom")],
)
def test_a_missing_package_is_named(name, missing, package, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=package):
        media.require_packages([name])
    media.require_packages(["a.png", "b.gif"])


def test_a_pyav_that_crashes_on_mpeg_files_is_refused(monkeypatch):
    monkeypatch.setattr("av.__version__", "17.0.1")
    with pytest.raises(UserError, match=r"av 17.0.1 is too old to read clips: pip install 'av>=17.1'"):
        media.require_packages(["c.mp4"])


def test_looks_and_digests():
    black, grey, speckle = (np.full((9, 9, 3), 12, np.uint8), np.full((8, 8, 3), 99, np.uint8), picture())
    found = [media._make_frame(None, letterbox(rgb, 8), rgb.shape) for rgb in (black, grey, speckle, speckle)]
    assert [frame.content_flag for frame in found] == [
        media.NEAR_BLACK,
        media.CONSTANT,
        media.OK,
        media.OK,
    ]
    assert found[2].digest == found[3].digest and len({frame.digest for frame in found}) == 3


def test_the_modules_are_imported_only_where_they_are_needed():
    code = "import sys; sys.modules.update(av=None, pydicom=None); import simclr_rhd.data.decoding.decode"
    root = Path(__file__).resolve().parents[3]  # blocked, not looked for: some torchvision imports av itself
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
