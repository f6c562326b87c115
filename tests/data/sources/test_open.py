import pytest

from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.demo import dataset as demo
from simclr_rhd.data.sources.folder import Folder
from simclr_rhd.data.sources.open import make_demo, open_data


def test_the_demo_is_drawn_once_and_a_half_made_one_is_not_believed(tmp_path, monkeypatch):
    calls = []

    def draw(root, *, patients, seed):
        calls.append(patients)
        (root / "half").touch()
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(demo, "write_demo", draw)
    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path, 12)
    assert list(tmp_path.iterdir()) == []
    folder = make_demo(tmp_path, 12)
    assert make_demo(tmp_path, 12) == folder and calls == [12, 12]
    others = {folder, make_demo(tmp_path, 24), make_demo(tmp_path, 12, 1), make_demo(tmp_path, 12, 2)}
    assert len(others) == 4


def test_the_demo_says_that_it_is_synthetic(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "write_demo", lambda root, *, patients, seed: None)
    source = open_data(DataConfig(data="demo", cache_dir=str(tmp_path), demo_patients=12))
    assert "synthetic" in source.location and isinstance(source, Folder)
