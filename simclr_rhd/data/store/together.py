"""A store that all ranks make together: each fetches and decodes a share of the files, once between them.

The leader has the listing. It divides the files into a part for each rank; a part that is on a disk already,
of a run that was stopped, is not made again. Then each disk gets the parts that it lacks from the others,
and they are joined there into the store that one process would have built. A disk that lacks a store which
another one has gets a copy. The ranks of one machine, and machines with a common cache folder, share a disk.
"""

import fcntl
import logging
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from simclr_rhd.core.distributed import broadcast, rank, world_size
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import LOCK_FILE, atomic_directory, cache_folder
from simclr_rhd.data.config import LabelledDataConfig
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.salt import load_salt
from simclr_rhd.data.sources.base import FileEntry, Source
from simclr_rhd.data.sources.open import open_data
from simclr_rhd.data.store import exchange
from simclr_rhd.data.store.build import check_disk_space, refuse_full_disk, write_frames
from simclr_rhd.data.store.parts import divide, is_whole_part, join_parts
from simclr_rhd.data.store.plan import StorePlan
from simclr_rhd.data.store.share import Share, pack_share
from simclr_rhd.data.store.store import Store, is_usable, read_store, store_path

logger = logging.getLogger("simclr_rhd")


def open_store_together(
    source: Source, entries: Sequence[FileEntry], options: DecodeOptions, *, cache_dir: Path
) -> Store:
    """`open_store` by all ranks: the leader calls this, the others `join_store`.

    Raises:
        ErrorOfAllRanks: a disk is too full, a package is missing, or nothing can be fetched.
    """
    name = store_path(source, entries, options, cache_dir=cache_dir).name
    plan = StorePlan(cache_dir, name, replace(options, salt=load_salt(cache_dir)), source.skipped)
    broadcast(plan.to_text())
    return _open(lambda: plan, lambda: source, entries)


def join_store(config: LabelledDataConfig) -> Store:
    """Make the store that the leader opens, without rejected files and patients, which it alone needs.

    Raises:
        ErrorOfAllRanks: as of `open_store_together`, or the leader has found no store to make.
    """
    received = broadcast(None)
    store = _open(
        lambda: StorePlan.from_text(received, cache_folder(config.cache_dir)), lambda: open_data(config), []
    )
    return replace(store, rejected=[], patients={})


def _open(
    make_plan: Callable[[], StorePlan],
    open_source: Callable[[], Source],
    entries: Sequence[FileEntry],
) -> Store:
    """The store, at every rank; `entries` are those of its files, which the leader has."""
    with exchange.raise_together():
        plan = make_plan()
    disks = exchange.first_ranks(plan.cache_dir)
    is_first, decoded, salt = disks[rank()] == rank(), 0, plan.options.salt
    with _lock_disks(plan, is_first=is_first):
        store = read_store(plan.folder) if is_first else None
        holders = [number for number, has in enumerate(exchange.gather(is_usable(store, salt))) if has]
        if not holders:
            store, decoded = None, _build(plan, open_source, entries, disks)
        elif not rank() and is_usable(store, salt):
            logger.info("store: %d decoded frames reused from %s", len(store.keys), plan.folder)
        else:
            logger.info("store: copied from the machine of rank %d", holders[0])
        if holders:
            _copy((plan.folder, holders[0], disk) for disk in sorted({*disks} - {*holders}))
        store = store if is_usable(store, salt) else read_store(plan.folder, verify=is_first)
    assert store is not None, f"{plan.folder} was made a moment ago"
    return replace(store, decoded=decoded)


@contextmanager
def _lock_disks(plan: StorePlan, *, is_first: bool) -> Iterator[None]:
    """Wait while another run makes the same store on one of the disks: it uses up the parts there.

    All locks are taken or none, so two runs do not wait for each other.
    """
    lock, waits = plan.parts_folder.with_suffix(LOCK_FILE), False
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as stream:
        while not all(exchange.gather(not is_first or _try_to_lock(stream))):
            fcntl.flock(stream, fcntl.LOCK_UN)
            if not waits:
                logger.info("store: waiting for another run, which makes the same one")
            waits = True
            time.sleep(random.uniform(1, 3))  # noqa: S311  # two runs that collide once do not do so again
        yield


def _try_to_lock(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _build(
    plan: StorePlan,
    open_source: Callable[[], Source],
    entries: Sequence[FileEntry],
    disks: Sequence[int],
) -> int:
    """Make the parts and join them on each disk; the number of files that all ranks have decoded."""
    is_first, parts = disks[rank()] == rank(), plan.parts
    whole = [number for number, part in enumerate(parts) if is_first and is_whole_part(part)]
    held = [
        {disk for disk, has in enumerate(exchange.gather(whole)) if number in has}
        for number in range(len(parts))
    ]
    decoded = _make_parts(
        plan, open_source, entries, [number for number in range(len(parts)) if not held[number]]
    )
    held = [by or {disks[number]} for number, by in enumerate(held)]
    _copy(
        (part, min(by), disk) for part, by in zip(parts, held, strict=True) for disk in sorted({*disks} - by)
    )
    with exchange.raise_together():
        if is_first:
            shutil.rmtree(plan.folder, ignore_errors=True)  # damaged, or it lacks what could not be fetched
            join_parts(plan.folder, parts, plan.skipped)
            shutil.rmtree(plan.parts_folder, ignore_errors=True)
    return decoded


def _make_parts(
    plan: StorePlan,
    open_source: Callable[[], Source],
    entries: Sequence[FileEntry],
    missing: Sequence[int],
) -> int:
    """Fetch and decode the parts that no disk has; the number of files."""
    need = 0.0
    with exchange.raise_together():
        share, source = _receive_share(entries, missing), open_source()
        if share:
            need = share.estimate_bytes(source, plan.options)
    needs = exchange.gather([share.n_files if share else 0, need])
    n_files, n_bytes = map(sum, zip(*needs, strict=True))
    with exchange.raise_together():
        plan.folder.parent.mkdir(parents=True, exist_ok=True)
        check_disk_space(plan.folder.parent, n_bytes)
    logger.info(
        "store: %d processes decode %d files, about %.2f GB in %s, this one %d files",
        *(len(missing), n_files, n_bytes / 1e9, plan.folder.parent, share.n_files if share else 0),
    )
    with exchange.raise_together():
        if share:
            part = plan.parts[rank()]
            shutil.rmtree(part, ignore_errors=True)
            with refuse_full_disk(part.parent), atomic_directory(part) as building:
                fetched = share.fetch_in_turn(source)
                write_frames(building, fetched, plan.options, n_files=share.n_files, is_part=True)
        logger.info("store: this process has its part; waiting for the others")
    counts = exchange.gather([share.n_fetched if share else 0, source.fetched])
    decoded, source.fetched = map(sum, zip(*counts, strict=True))
    return decoded


def _receive_share(entries: Sequence[FileEntry], missing: Sequence[int]) -> Share | None:
    """This rank's share from the leader, who has the files; None where its part is there already."""
    if not rank():
        shares = divide(entries, world_size())
        for number in sorted({*missing} - {0}):
            exchange.send_blocks(pack_share(shares[number]), number)
        return Share(pack_share(shares[0])) if 0 in missing else None
    return Share(exchange.receive_blocks(0)) if rank() in missing else None


def _copy(copies: Iterable[tuple[Path, int, int]]) -> None:
    """Copy folders, each from the disk of one rank to that of another, in the same order at all ranks.

    Raises:
        ErrorOfAllRanks: a disk is full, or a folder arrived damaged.
    """
    errors = list[UserError]()
    for folder, sender, receiver in copies:
        if rank() == sender:
            exchange.send_folder(folder, receiver)
        elif rank() == receiver:
            try:
                with refuse_full_disk(folder.parent):
                    exchange.receive_folder(folder, sender)
            except UserError as error:  # raised when nobody waits for this rank any more
                errors.append(error)
    with exchange.raise_together():
        if errors:
            raise errors[0]
