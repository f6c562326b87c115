import os

import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.sources.base import FileEntry, keep_valid
from simclr_rhd.data.sources.open import open_data


@pytest.fixture
def root(tmp_path):
    for name in ("lab/b_frame1.png", "lab/sub/a [1].x_frame2.png", "lab/.DS_Store", "table.csv", "other.csv"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "data"


def opened(root, tmp_path):
    return open_data(DataConfig(data=str(root), cache_dir=str(tmp_path / "cache")))


def test_a_folder_lists_its_files_in_order_and_hides_the_hidden(root, tmp_path):
    source = opened(root, tmp_path)
    entries = source.files("lab", flag="--labelled-prefix")
    assert [entry.key for entry in entries] == ["lab/b_frame1.png", "lab/sub/a [1].x_frame2.png"]
    paths, failed = source.fetch(entries)
    assert failed == {} and paths["lab/b_frame1.png"].read_text() == "lab/b_frame1.png"


def test_a_stamp_changes_with_the_content(root, tmp_path):
    source = opened(root, tmp_path)
    before = source.entry("table.csv").version
    (root / "table.csv").write_text("more than before")
    assert source.entry("table.csv").version != before


def test_a_stamp_changes_when_size_and_time_of_the_content_do_not(root, tmp_path):
    """As when files are anonymised in place by a tool that keeps their times."""
    source, path = opened(root, tmp_path), root / "table.csv"
    before, times = source.entry("table.csv"), path.stat()
    path.write_text("TABLE.CSV")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = source.entry("table.csv")
    assert after.size == before.size and after.version != before.version


def test_links_inside_are_left_out_and_counted(root, tmp_path, caplog):
    (tmp_path / "secret.png").write_text("secret")
    (root / "lab" / "link_frame1.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far_frame1.png").touch()
    (root / "lab" / "linked folder").symlink_to(tmp_path / "elsewhere")
    assert len(opened(root, tmp_path).files("lab", flag="--labelled-prefix")) == 2
    (message,) = caplog.messages
    assert "2 links" in message and "link_frame1.png" in message and "--labelled-prefix" in message


def test_a_link_that_the_user_names_is_followed(root, tmp_path, caplog):
    (root / "lab").rename(tmp_path / "elsewhere")
    (root / "lab").symlink_to(tmp_path / "elsewhere")
    assert len(opened(root, tmp_path).files("lab", flag="--labelled-prefix")) == 2
    assert caplog.messages == []


def test_what_is_missing_is_named_with_what_is_there(root, tmp_path):
    (root / "empty").mkdir()
    source = opened(root, tmp_path)
    with pytest.raises(
        UserError, match=r"--labelled-prefix wrong: no such folder.*lab/, other.csv, table.csv"
    ):
        source.files("wrong", flag="--labelled-prefix")
    with pytest.raises(UserError, match="--unlabelled-prefix empty: no files"):
        source.files("empty", flag="--unlabelled-prefix")
    with pytest.raises(UserError, match=r"--labels-csv wrong.csv.*table.csv"):
        source.entry("wrong.csv")
    with pytest.raises(UserError, match="--data .*nowhere: does not exist"):
        opened(tmp_path / "nowhere", tmp_path)
    with pytest.raises(UserError, match="table.csv: is a file"):
        opened(root / "table.csv", tmp_path)


def test_names_that_cannot_be_used_are_refused_by_name_and_hidden_ones_passed_over():
    keys = [
        "ok.png",
        "a/../b.png",
        "../x.png",
        "/etc/x.png",
        "a\x00b.png",
        "c/" + "n" * 300 + ".png",
        "d/" * 600,
    ]
    hidden = ["a//b.png", "a/", ".hid/x.png"]
    used, refused = keep_valid([FileEntry(key, 1, "") for key in keys + hidden])
    assert [entry.key for entry in used] == ["ok.png"] and len(refused) == len(keys) - 1
    reasons = dict(refused)
    assert "elsewhere" in reasons["a/../b.png"] and "control" in reasons["a\\x00b.png"]
    assert all(reason.startswith("unusable name") for reason in reasons.values())
