"""One of four ranks on two disks that make stores together; writes what happened in each case to a file.

python store_worker.py FOLDER LOCATION      (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT as torchrun sets them)

Each case reads LOCATION/<case>, and has a cache folder for each disk, FOLDER/<case>/<disk>.
"""

import json
import shutil
import sys
import threading
from pathlib import Path
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core.errors import ErrorOfAllRanks, UserError
from simclr_rhd.data.config import LabelledDataConfig
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.sources.open import open_data
from simclr_rhd.data.store import build, exchange, share, together
from simclr_rhd.data.store.store import open_store

SIDE = 18
CASES = (
    *("two disks", "one disk", "a disk is lost", "stopped", "full", "full later", "another run", "refused"),
    *("the leader is lost", "another run elsewhere"),
)


class Stopped(Exception):
    """The run ends here."""


class Ranks:
    """Runs the cases, one after another.

    Args:
        folder: for cache folders and results.
        location: of the data.
    """

    def __init__(self, folder, location):
        self.folder, self.location, self.case = folder, location, ""

    def make(self, *, disk=None):
        """Make the case's store; its folder's name, the files decoded and fetched, or an error's message."""
        cache = self.folder / self.case / str(ranks.rank() // 2 if disk is None else disk)
        cache.mkdir(parents=True, exist_ok=True)
        config = LabelledDataConfig(
            data=f"{self.location}/{self.case.replace(' ', '-')}", cache_dir=str(cache)
        )
        try:
            if ranks.rank():
                store, fetched = together.join_store(config), 0
            else:
                with ranks.errors_reach_followers():
                    store, fetched = self.lead(config, cache)
        except UserError as error:
            return {"error": str(error), "of all": isinstance(error, ErrorOfAllRanks)}
        return {"frames": len(store.keys), "decoded": store.decoded, "fetched": fetched}

    def lead(self, config, cache):
        source = open_data(config)
        entries = source.files("frames", flag="--x")
        options = DecodeOptions(SIDE)
        return together.open_store_together(source, entries, options, cache_dir=cache), source.fetched

    def two_disks(self):
        return [self.make(), self.make()]

    def one_disk(self):
        return [self.make(disk=0)]

    def a_disk_is_lost(self):
        made = [self.make()]
        if ranks.rank() == 2:
            shutil.rmtree(self.folder / self.case / "1")
        return [*made, self.make()]

    def the_leader_is_lost(self):
        """And with it the salt that the other disk's patients are hashed with."""
        made = [self.make()]
        if ranks.rank() == 0:
            shutil.rmtree(self.folder / self.case / "0")
        return [*made, self.make()]

    def stopped(self):
        """Once, when the parts are made and not yet joined."""
        with mock.patch.object(together, "_copy", side_effect=Stopped):
            try:
                self.make()
            except Stopped:
                ranks.dist.barrier()
        with mock.patch.object(together, "write_frames", side_effect=AssertionError("its part is there")):
            return [self.make()]

    def full(self):
        free = 10 if ranks.rank() == 3 else 10**12
        with mock.patch.object(build.shutil, "disk_usage", lambda path: mock.Mock(free=free)):
            made = [self.make()]
        return [*made, self.make()]

    def full_later(self):
        """The disk of the second machine has no room for what the first one sends; it goes on with room."""
        write = exchange._write_files

        def fill(folder, blocks):
            next(blocks)
            raise OSError(28, "No space left on device")

        with mock.patch.object(exchange, "_write_files", fill if ranks.rank() == 2 else write):
            made = [self.make()]
        return [*made, self.make()]

    def another_run(self):
        """It holds what the leader needs to make the store, and lets go after a while."""
        return self.make_beside_another_run(of=0, disk=0)

    def another_run_elsewhere(self):
        """On the disk of the second machine."""
        return self.make_beside_another_run(of=2)

    def make_beside_another_run(self, *, of, disk=None):
        if ranks.rank() != of:
            return [self.make(disk=disk)]
        held, flock = [], together.fcntl.flock

        def lock(stream, how):
            """Another run has the lock when it is first asked for."""
            if not held and "parts" in str(stream.name):
                held.append(open(stream.name))
                flock(held[0], together.fcntl.LOCK_EX)
                threading.Timer(1.0, held[0].close).start()
            flock(stream, how)

        with mock.patch.object(together.fcntl, "flock", lock):
            made = self.make(disk=disk)
        return [made | {"waited": held[0].closed}]

    def refused(self):
        def refuse(names):
            if ranks.rank() == 1:
                raise UserError("a package is missing")

        with mock.patch.object(share, "require_packages", refuse):
            made = [self.make()]
        with mock.patch.object(self, "lead", side_effect=UserError("no such bucket")):
            return [*made, self.make()]


def alone(folder, location):
    """The store that one process makes, of the salt of the first disk."""
    cache = folder / "alone"
    (cache / "cache").mkdir(parents=True)
    shutil.copy(folder / "two disks" / "0" / "salt", cache / "cache" / "salt")
    source = open_data(LabelledDataConfig(data=f"{location}/two-disks", cache_dir=str(cache / "cache")))
    open_store(source, source.files("frames", flag="--x"), DecodeOptions(SIDE), cache_dir=cache / "cache")


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Ranks(Path(sys.argv[1]), sys.argv[2])
    found = {}
    with ranks.process_group(torch.device("cpu")):
        for target.case in CASES:
            found[target.case] = getattr(target, target.case.replace(" ", "_"))()
    (target.folder / f"found.{ranks.rank()}").write_text(json.dumps(found))
