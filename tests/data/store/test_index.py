import json

import numpy as np
import pytest

from simclr_rhd.data.store import index
from simclr_rhd.data.store.index import FRAME_DTYPE, Header
from simclr_rhd.data.store.index_writer import IndexWriter
from simclr_rhd.data.store.names import STILL_NUMBER, FrameNames

FILES = ["a_frame1.png", "clip ö.mp4", "z_frame2.png", "日本.dcm"]
ROWS = np.array(
    [
        (0, STILL_NUMBER, 0, 0, 2**64 - 1, 640, 480),
        (1, 0, 1, 0, 5, 64, 48),
        (1, 12345, 1, 2, 6, 64, 48),
        (2, STILL_NUMBER, 0, 0, 7, 8, 9),
        (3, 4, 2, 1, 8, 8, 9),
    ],
    dtype=FRAME_DTYPE,
)
KEYS = ["a_frame1.png", "clip ö.mp4#0000", "clip ö.mp4#12345", "z_frame2.png", "日本.dcm#0004"]


HEADER = Header(5, {}, [], "", "")


def write(folder, files, rows, header=HEADER, shards=None):
    with IndexWriter(folder) as writer:
        writer.append_names(files)
        writer.append_rows(rows)
        writer.finish(header, shards or {})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "grey-00000.u8").write_bytes(b"pixels")
    header = Header(5, {"日本.dcm": "hash"}, [("bad.png", "empty file")], "f", "salt")
    write(tmp_path, FILES, ROWS, header, {"grey-00000.u8": index.crc32c(tmp_path / "grey-00000.u8")})
    return tmp_path


def test_what_is_written_is_read(folder):
    read = index.read_index(folder)
    assert list(read.files) == FILES and (read.rows == ROWS).all()
    assert (read.side, read.patients, read.fingerprint) == (5, {"日本.dcm": "hash"}, "f")
    assert read.salt_id == "salt"
    assert read.rejected == [("bad.png", "empty file")]


def test_names_are_a_sequence_like_a_list(folder):
    read = index.read_index(folder)
    keys = FrameNames(read.files, read.rows, numbered=True)
    files = FrameNames(read.files, read.rows, numbered=False)
    assert list(keys) == KEYS == [keys[number] for number in range(len(keys))]
    assert list(files) == [key.split("#")[0] for key in KEYS]
    for names, expected in ((read.files, FILES), (keys, KEYS)):
        assert names[-1] == expected[-1] and names[1:3] == expected[1:3] and names[::-2] == expected[::-2]
        assert expected[2] in names and "other" not in names and names.index(expected[2]) == 2
        assert names[np.int64(1)] == expected[1]
        with pytest.raises(IndexError):
            names[len(expected)]


@pytest.mark.parametrize("n", [1, 6, 7, 8, 14, 20])
def test_names_in_order_are_the_names_one_by_one(tmp_path, monkeypatch, n):
    monkeypatch.setattr("simclr_rhd.data.store.names.NAMES_PER_BLOCK", 7)
    files = [f"v{number}" * (number % 3 + 1) for number in range(n)]
    rows = np.array(
        [(number // 2, number % 2, 0, 0, 0, 640, 480) for number in range(2 * n)], dtype=FRAME_DTYPE
    )
    write(tmp_path, files, rows)
    read = index.read_index(tmp_path)
    assert list(read.files) == files
    keys = FrameNames(read.files, read.rows[1::2], numbered=True)  # files of no frame are passed over
    assert list(keys) == [f"{file}#0001" for file in files]
    some = FrameNames(read.files, read.rows[4:], numbered=False)
    assert list(some) == [file for file in files[2:] for _ in range(2)]


def test_no_frames_at_all(tmp_path):
    write(tmp_path, [], np.array([], dtype=FRAME_DTYPE))
    read = index.read_index(tmp_path)
    assert list(read.files) == [] and len(read.rows) == 0


@pytest.mark.parametrize(
    "name", [index.NAMES_FILE, index.OFFSETS_FILE, index.FRAMES_FILE, index.INDEX_FILE, "grey-00000.u8"]
)
def test_a_changed_byte_is_seen(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        index.read_index(folder)


def test_pickled_arrays_are_refused(folder):
    np.save(folder / index.FRAMES_FILE, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError):
        index.read_index(folder)


def test_of_very_large_stores_some_shards_are_looked_at(tmp_path):
    names = [f"grey-{number:05d}.u8" for number in range(9)]
    for name in names:
        (tmp_path / name).write_bytes(b"pixels")
    sums = {name: index.crc32c(tmp_path / name) for name in names}
    write(tmp_path, FILES, ROWS, shards=sums)
    (tmp_path / names[3]).write_bytes(b"Pixels")
    assert list(index.read_index(tmp_path, max_bytes=3 * 6).files) == FILES
    (tmp_path / names[8]).write_bytes(b"Pixels")
    with pytest.raises(ValueError, match="grey-00008.u8 is damaged"):
        index.read_index(tmp_path, max_bytes=3 * 6)
    (tmp_path / names[1]).unlink()
    with pytest.raises(OSError):
        index.read_index(tmp_path, max_bytes=3 * 6)


KIND = "holds values of another kind"
NAMES_MISFIT, ROWS_MISFIT = "names.npy does not fit names.txt", "frames.npy does not fit names.txt"


def made_up(what):
    """Parts of an index that do not fit together."""
    ends = np.array([12, 24, 37, 48], "<i8")
    parts = {"side": 5, "ends": ends, "rows": ROWS.copy(), "names": None}
    if what == "file":
        parts["rows"]["file"][-1] = 9
    elif what == "order":
        parts["rows"]["file"][:2] = 1, 0
    elif what == "number":
        parts["rows"]["number"][1] = -2
    elif what == "kind":
        parts["rows"]["kind"][1] = 7
    elif what == "side":
        parts["side"] = -5
    elif what == "negative":
        parts["ends"] = -ends
    elif what == "huge":
        parts["ends"][-1] = 2**63 - 1
    elif what == "large":
        parts["ends"][-1] = 2**60
    elif what == "few":
        parts["ends"] = ends[:3]
    elif what == "floats":
        parts["ends"] = ends.astype(float)
    elif what == "flat":
        parts["rows"] = np.zeros((5, 2))
    elif what == "text":
        parts["names"] = b"\xff\xfe\n" * 4
    return parts


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("file", ROWS_MISFIT),
        ("order", ROWS_MISFIT),
        ("number", ROWS_MISFIT),
        ("kind", ROWS_MISFIT),
        ("side", KIND),
        ("negative", NAMES_MISFIT),
        ("huge", NAMES_MISFIT),
        ("large", NAMES_MISFIT),
        ("few", NAMES_MISFIT),
        ("floats", KIND),
        ("flat", KIND),
        ("text", "can't decode"),
    ],
)
def test_an_index_that_is_made_up_is_refused(tmp_path, what, reason):
    parts = made_up(what)
    write(tmp_path, FILES, ROWS, Header(parts["side"], {}, [], "", ""))
    np.save(tmp_path / index.OFFSETS_FILE, parts["ends"])
    np.save(tmp_path / index.FRAMES_FILE, parts["rows"])
    if parts["names"]:
        (tmp_path / index.NAMES_FILE).write_bytes(parts["names"])
        np.save(tmp_path / index.OFFSETS_FILE, np.arange(2, 12, 3, dtype="<i8"))
    record = json.loads((tmp_path / index.INDEX_FILE).read_text())
    record.pop("checksum")
    record["sums"] = {name: index.crc32c(tmp_path / name) for name in record["sums"]}
    checksum = index.header_checksum(record)
    (tmp_path / index.INDEX_FILE).write_text(json.dumps(record | {"checksum": checksum}))
    with pytest.raises(ValueError, match=reason):
        index.read_index(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patients", ["text"]),
        ("patients", {"a": 3}),
        ("patients", "text"),
        ("rejected", {"ab": "cd"}),
        ("rejected", ["ab", "cd"]),
        ("rejected", [["a", 3]]),
        ("rejected", [["a"]]),
        ("fingerprint", 3),
        ("fingerprint", None),
        ("side", True),
        ("sums", []),
    ],
)
def test_an_index_whose_values_are_of_another_kind_is_refused(folder, name, value):
    record = json.loads((folder / index.INDEX_FILE).read_text())
    record.pop("checksum")
    record[name] = value
    (folder / index.INDEX_FILE).write_text(json.dumps(record | {"checksum": index.header_checksum(record)}))
    with pytest.raises(ValueError, match=KIND):
        index.read_index(folder)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "[" * 900 + "]" * 900, "3", "null"])
def test_an_index_that_is_none_is_refused(folder, content):
    (folder / index.INDEX_FILE).write_text(content)
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        index.read_index(folder)
