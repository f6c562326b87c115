"""Exchange between the ranks of a run that make a store together: values, errors, folders of files.

Nothing is unpickled, and a folder gets only files of the names that a store has.
"""

import json
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import torch
import torch.distributed as dist

from simclr_rhd.core.distributed import broadcast, rank, world_size
from simclr_rhd.core.errors import ErrorOfAllRanks, UserError
from simclr_rhd.core.files import atomic_directory

BLOCK_BYTES = 4 << 20  # bytes that are sent at a time
STORE_FILE = re.compile(
    r"(grey|colour)-\d+\.u8|index\.json|names\.(txt|npy)|frames\.npy|contents\.bin", re.ASCII
)


def gather(value: Any) -> list[Any]:
    """The `value` (JSON's types, small) of each rank, in their order, at every rank."""
    data = json.dumps(value).encode()
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(data)]))
    longest = int(torch.cat(sizes).max())
    texts = [torch.empty(longest, dtype=torch.uint8) for _ in sizes]
    dist.all_gather(texts, torch.frombuffer(bytearray(data.ljust(longest)), dtype=torch.uint8))
    return [json.loads(text.numpy().tobytes()) for text in texts]


@contextmanager
def raise_together() -> Iterator[None]:
    """Raise one rank's `UserError` at all ranks at the end of the block, which must leave no rank waiting.

    Raises:
        ErrorOfAllRanks: one has raised a `UserError`.
    """
    message = ""
    try:
        yield
    except UserError as error:
        message = f"rank {rank()}: {error}" if rank() else str(error)
    if messages := [text for text in gather(message) if text]:
        raise ErrorOfAllRanks(messages[0])


def first_ranks(cache_dir: Path) -> list[int]:
    """For each rank the first one that has the same cache folder: they share a disk."""
    folder = cache_dir / f".ranks-{broadcast(secrets.token_hex(8))}"
    folder.mkdir(exist_ok=True)
    (folder / str(rank())).touch()
    dist.barrier()
    # each is looked up by its name: the listing of a network's folder may be an old one
    first = next(number for number in range(world_size()) if (folder / str(number)).exists())
    firsts: list[int] = gather(first)
    if first == rank():
        shutil.rmtree(folder, ignore_errors=True)
    return firsts


def send_blocks(blocks: Iterable[bytes], receiver: int) -> None:
    """Send some blocks, of any size but 0, to a rank that calls `receive_blocks`."""
    for block in blocks:
        dist.send(torch.tensor([len(block), google_crc32c.value(block)]), receiver)
        dist.send(torch.frombuffer(bytearray(block), dtype=torch.uint8), receiver)
    dist.send(torch.zeros(2, dtype=torch.int64), receiver)


def receive_blocks(sender: int) -> Iterator[bytes]:
    """The blocks that a rank sends; all of them must be taken.

    Raises:
        UserError: one has changed on its way; after the last, so that the sender need not wait.
    """
    intact = True
    while True:
        header = torch.zeros(2, dtype=torch.int64)
        dist.recv(header, sender)
        size, checksum = header.tolist()
        if not size:
            break
        block = torch.empty(size, dtype=torch.uint8)
        dist.recv(block, sender)
        data = block.numpy().tobytes()
        intact = intact and google_crc32c.value(data) == checksum
        yield data
    if not intact:
        raise UserError(f"what rank {sender} sent arrived damaged; the same command tries again")


def send_folder(folder: Path, receiver: int) -> None:
    """Send a store, or a part of one, to a rank that calls `receive_folder`."""
    send_blocks(_blocks_of_files(folder), receiver)


def _blocks_of_files(folder: Path) -> Iterator[bytes]:
    """The name and the size of each file, followed by its content."""
    for path in sorted(folder.iterdir()):
        left = path.stat().st_size
        yield json.dumps([path.name, left]).encode()
        with path.open("rb") as stream:
            while left and (block := stream.read(min(left, BLOCK_BYTES))):
                left -= len(block)
                yield block


def receive_folder(folder: Path, sender: int) -> None:
    """Take what `send_folder` sends; the folder appears whole.

    Raises:
        OSError: it cannot be written; all of it was received even so, so that nobody waits.
        UserError: it arrived damaged.
    """
    incoming = receive_blocks(sender)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        with atomic_directory(folder) as building:
            _write_files(building, incoming)
    finally:
        for _ in incoming:
            pass


def _write_files(folder: Path, blocks: Iterator[bytes]) -> None:
    for header in blocks:
        name, left = json.loads(header)
        if not STORE_FILE.fullmatch(name):
            raise UserError(f"a file named {name!r:.80} is none of a store; it was sent by another program")
        with (folder / name).open("wb") as stream:
            while left:
                block = next(blocks)
                stream.write(block)
                left -= len(block)
