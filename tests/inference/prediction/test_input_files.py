"""The frames of a run, for commands that check a model on them."""

import pytest

from simclr_rhd.core.files import write_json
from simclr_rhd.data.config import InputConfig
from simclr_rhd.inference.prediction import input_files


@pytest.mark.parametrize(
    ("flag", "of_run", "offline"),
    [(False, False, False), (True, False, True), (False, True, True)],
)
def test_a_runs_frames_are_read_without_the_network_where_it_or_the_flag_says_so(
    tmp_path, monkeypatch, flag, of_run, offline
):
    class FakeSource:
        def files(self, prefix, *, flag):
            return []

    configs = []
    monkeypatch.setattr(input_files, "open_data", lambda config: configs.append(config) or FakeSource())
    config = {"data": "gs://bucket/study", "labelled_prefix": "lab", "demo_patients": 96, "offline": of_run}
    write_json(tmp_path / "run.json", {"config": config})
    input_files.labelled_of_run(tmp_path, InputConfig(cache_dir=str(tmp_path / "cache"), offline=flag))
    assert [config.offline for config in configs] == [offline]
