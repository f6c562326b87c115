import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.data import load
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.sources.open import open_data


def test_a_column_that_the_table_lacks_is_known_before_anything_is_decoded(tmp_path, monkeypatch):
    config = DataConfig(data=str(tmp_path), tasks="view,thickness", cache_dir=str(tmp_path / "cache"))
    for prefix in (config.labelled_prefix, config.unlabelled_prefix):
        (tmp_path / prefix).mkdir(parents=True)
        (tmp_path / prefix / "a_frame1.png").write_bytes(b"a picture, some day")
    (tmp_path / config.labels_csv).write_text("FILENAME,VIEW-APP\na_frame1.png,PLAX\n")
    monkeypatch.setattr(load, "open_store", lambda *_, **__: pytest.fail("decoding has begun"))
    with pytest.raises(UserError, match="no column THICKNESS; its columns are: FILENAME, VIEW-APP"):
        load.read_dataset(open_data(config), config, rejected_csv=tmp_path / "rejected.csv")
    with pytest.raises(UserError, match='To use the others alone: --tasks "view=VIEW-APP"$'):
        load.read_dataset(open_data(config), config, rejected_csv=tmp_path / "rejected.csv")
    (tmp_path / config.labels_csv).write_text("FILE,VIEW-APP\na_frame1.png,PLAX\n")
    with pytest.raises(UserError, match=r"no column FILENAME(?!.*--tasks)"):
        load.read_dataset(open_data(config), config, rejected_csv=tmp_path / "rejected.csv")
