import threading
import time

import pytest

from simclr_rhd.data.decoding import salt
from simclr_rhd.data.decoding.salt import SALT_BYTES, load_salt


def salts_of_many(cache, monkeypatch, *, threads=4):
    """The salts of runs that start together."""
    chosen, begin = iter(range(1, 100)), threading.Barrier(threads)

    def slowly(n):
        number = next(chosen)
        time.sleep(0.02)
        return bytes([number]) * n

    monkeypatch.setattr(salt.secrets, "token_bytes", slowly)
    salts = []

    def take():
        begin.wait()
        salts.append(load_salt(cache))

    several = [threading.Thread(target=take) for _ in range(threads)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    return salts


def test_runs_that_start_together_take_one_salt(tmp_path, monkeypatch):
    salts = salts_of_many(tmp_path, monkeypatch)
    assert len(salts) == 4 and len(set(salts)) == 1 and len(salts[0]) == SALT_BYTES
    assert load_salt(tmp_path) == salts[0]
    assert (tmp_path / "salt").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["salt"]


@pytest.mark.parametrize("left", [b"", b"x", b"x" * 31, bytes(32), b"x" * 33])
def test_an_empty_or_half_written_salt_is_never_used(tmp_path, monkeypatch, left):
    (tmp_path / "salt").write_bytes(left)
    salts = salts_of_many(tmp_path, monkeypatch)
    assert len(set(salts)) == 1 and len(salts[0]) == SALT_BYTES and salts[0] != left
    assert (tmp_path / "salt").read_bytes() == salts[0]
