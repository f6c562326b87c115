import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.sources.folder import Folder
from simclr_rhd.data.store import share
from simclr_rhd.data.store.share import Share, pack_share


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "data" / "frames"
    folder.mkdir(parents=True)
    for number in range(7):
        (folder / f"v_frame{number}.png").write_bytes(b"x" * (number + 1))
    (folder / "notes.txt").write_text("no frame")
    return Folder(tmp_path / "data", location="data")


def test_a_share_holds_the_files_of_one_block_at_a_time(source, monkeypatch):
    monkeypatch.setattr(share, "FILES_PER_BLOCK", 3)
    entries = source.files("frames", flag="--x")
    of_rank = Share(pack_share(entries))
    assert (of_rank.n_files, of_rank.suffixes, len(of_rank.blocks)) == (7, [".png"], 3)
    assert set(of_rank.sample) <= set(entries)
    fetched = list(of_rank.fetch_in_turn(source))
    assert [len(some.paths) for some in fetched] == [2, 3, 2] and of_rank.n_fetched == 7
    assert [key for some in fetched for key in some.paths] == [entry.key for entry in entries[1:]]
    assert fetched[0].rejected == [("frames/notes.txt", "not a frame: .txt")]


def test_an_empty_share_needs_nothing(source):
    of_rank = Share(pack_share([]))
    assert of_rank.estimate_bytes(source, DecodeOptions(18)) == 0 and not list(of_rank.fetch_in_turn(source))


@pytest.mark.parametrize("change", ["another size", "missing"])
def test_a_machine_with_other_files_than_the_leader_is_refused(source, monkeypatch, change):
    of_rank = Share(pack_share(source.files("frames", flag="--x")))
    path = source.root / "frames" / "v_frame4.png"
    path.unlink() if change == "missing" else path.write_bytes(b"longer than before")
    list(of_rank.fetch_in_turn(source))  # the leader's own files may change: they are not compared
    monkeypatch.setattr(share, "rank", lambda: 1)
    with pytest.raises(UserError, match=r"data/frames/v_frame4.png is another file here.*every machine"):
        list(of_rank.fetch_in_turn(source))
