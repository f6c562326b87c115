import json

import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.store.exchange import _write_files


@pytest.mark.parametrize(
    "name", ["../grey-00000.u8", "grey-00000.u8/../../x", ".profile", "index.json\n", "grey-٣.u8", ""]
)
def test_a_folder_that_arrives_has_only_files_of_a_store(tmp_path, name):
    blocks = iter([json.dumps([name, 1]).encode(), b"x"])
    with pytest.raises(UserError, match="none of a store"):
        _write_files(tmp_path, blocks)
    assert list(tmp_path.iterdir()) == []


def test_files_of_any_size_arrive_whole(tmp_path):
    files = {"index.json": b"{}", "names.txt": b"", "grey-00000.u8": b"abcdef"}
    blocks = []
    for name, data in files.items():
        blocks += [json.dumps([name, len(data)]).encode()]
        blocks += [data[first : first + 4] for first in range(0, len(data), 4)]
    _write_files(tmp_path, iter(blocks))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
