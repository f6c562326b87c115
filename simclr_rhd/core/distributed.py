"""Several processes that train one model together, started by torchrun: each is a rank, rank 0 leads.

Without torchrun there is one process, of rank 0, and nothing here does anything. The leader alone writes
files and decides; the others compute their share of each batch.

Notation: W ranks.
"""

import io
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from simclr_rhd.core import signals
from simclr_rhd.core.errors import ErrorOfAllRanks, RankLost, UserError
from simclr_rhd.core.logs import rank

logger = logging.getLogger("simclr_rhd")

MAX_MEETING = timedelta(minutes=10)  # a rank that cannot start has no heartbeat
MAX_COLLECTIVE = timedelta(hours=12)  # the leader may decode a bucket; a lost rank has no heartbeat
HEARTBEAT_INTERVAL_S = 1.0  # seconds between signs of life
HEARTBEAT_TIMEOUT_S = 30.0  # seconds without one after which a rank is lost
LOST_RANK_MESSAGES = ("gloo", "NCCL", "closed by peer", "Connection reset", "Broken pipe")

Rows = TypeVar("Rows", Tensor, np.ndarray)


def launched_world_size() -> int:
    """Number of processes that torchrun started, this one among them; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def world_size() -> int:
    """W: the processes that have met; 1 before."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Return True for rank 0."""
    return rank() == 0


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Meet the other ranks, and part when all have come to the end. A rank that dies ends the others.

    Raises:
        RankLost: a rank went away.
    """
    if (n := launched_world_size()) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    life = None
    try:
        with translate_dist_errors():
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=_meet(), rank=rank(), world_size=n, timeout=MAX_COLLECTIVE)
            life = _Heartbeat()
            yield
            dist.barrier()
    finally:
        if life:
            life.stopped.set()
    dist.destroy_process_group()


def _meet() -> dist.Store:
    """The store of all ranks, once each of them has come; an error after `MAX_MEETING`."""
    store: dist.Store = next(iter(rendezvous("env://", timeout=MAX_MEETING)))[0]
    store.set(f"simclr-rhd/here/{rank()}", "1")
    store.wait([f"simclr-rhd/here/{other}" for other in range(launched_world_size())], MAX_MEETING)
    return store


@contextmanager
def translate_dist_errors() -> Iterator[None]:
    """Turn what the backends raise when a rank goes away into `RankLost`."""
    try:
        yield
    except RuntimeError as error:
        message = str(error)
        if not isinstance(error, dist.DistError) and not any(part in message for part in LOST_RANK_MESSAGES):
            raise
        raise RankLost(message.partition("\n")[0]) from error


class _Heartbeat:
    """Signs of life, to and from the other ranks: a machine that vanishes closes no connection.

    One thread talks to the store, which may block for ever where the store's machine has vanished; another
    one judges by the clock alone.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.last_seen = dict.fromkeys(range(world_size()), time.monotonic())  # the last sign of each rank
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self.store = dist.TCPStore(address, port, is_master=False, wait_for_workers=False)
        for work in (self._exchange_heartbeats, self._detect_silence):
            threading.Thread(target=work, daemon=True).start()

    def _exchange_heartbeats(self) -> None:
        store, signs, beat = self.store, dict.fromkeys(self.last_seen, b""), 0
        try:
            while not self.stopped.wait(HEARTBEAT_INTERVAL_S):
                beat += 1
                store.set(f"simclr-rhd/alive/{rank()}", str(beat))
                for other in self.last_seen:
                    name = f"simclr-rhd/alive/{other}"
                    sign = store.get(name) if store.check([name]) else b""
                    if sign != signs[other]:
                        signs[other], self.last_seen[other] = sign, time.monotonic()
                stopping = bool(signals.signal_exit_status())
                if stopping and not is_main_process():  # this machine is taken away: the leader saves
                    store.set("simclr-rhd/stop", "1")
                if not stopping and is_main_process() and store.check(["simclr-rhd/stop"]):
                    os.kill(os.getpid(), signal.SIGTERM)
        except (RuntimeError, OSError):
            return  # nothing is heard any more

    def _detect_silence(self) -> None:
        before = time.monotonic()
        while not self.stopped.wait(HEARTBEAT_INTERVAL_S):
            now = time.monotonic()
            if now - before > HEARTBEAT_TIMEOUT_S / 2:  # this process itself was asleep
                self.last_seen = dict.fromkeys(self.last_seen, now)
            before = now
            silent = [other for other, when in self.last_seen.items() if now - when > HEARTBEAT_TIMEOUT_S]
            if silent:
                others = ", ".join(str(other) for other in silent if other != rank())
                logger.error(
                    "error: rank %d has had no signal from rank %s for %.0f seconds and stops; the same "
                    "command continues from the last checkpoint",
                    *(rank(), others, HEARTBEAT_TIMEOUT_S),
                )
                signals.force_exit(1)


@contextmanager
def errors_reach_followers() -> Iterator[None]:
    """Stop the followers, too, at a `UserError` of the leader: they wait for its next broadcast.

    Raises:
        UserError: the same.
    """
    try:
        yield
    except ErrorOfAllRanks:
        raise
    except UserError as error:
        message = str(error).encode()
        if world_size() > 1:
            with suppress(RuntimeError):  # a rank that went away: the error is what counts
                _broadcast_bytes(lambda: message, is_error=True)
        raise


def broadcast(value: Any) -> Any:
    """The leader's `value` (JSON's types) at every rank.

    Raises:
        ErrorOfAllRanks: at the followers, where the leader ends in a `UserError` instead.
    """
    return json.loads(_broadcast_bytes(lambda: json.dumps(value).encode())) if world_size() > 1 else value


def broadcast_state(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """The leader's state (tensors and JSON's types, or None) at every rank, on the CPU; errors as there."""
    if world_size() == 1:
        return state

    def serialize() -> bytes:
        stream = io.BytesIO()
        torch.save(state, stream)
        return stream.getvalue()

    stream = io.BytesIO(_broadcast_bytes(serialize))
    received: dict[str, Any] | None = torch.load(stream, map_location="cpu", weights_only=True)
    return received


def _broadcast_bytes(make: Callable[[], bytes], *, is_error: bool = False) -> bytes:
    # not `broadcast_object_list`: it unpickles, which runs code (its `weights_only` is newer than torch 2.9)
    data = torch.frombuffer(bytearray(make()), dtype=torch.uint8) if is_main_process() else torch.empty(0)
    header = torch.tensor([len(data), is_error])
    dist.broadcast(header, 0)
    if not is_main_process():
        data = torch.empty(int(header[0]), dtype=torch.uint8)
    dist.broadcast(data, 0)
    received = data.numpy().tobytes()
    if header[1] and not is_main_process():
        raise ErrorOfAllRanks(received.decode())
    return received


def shard(rows: Rows) -> Rows:
    """This rank's part of a batch's rows, whose number W divides."""
    if world_size() == 1:
        return rows
    n = len(rows) // world_size()
    return rows[rank() * n : (rank() + 1) * n]


def all_gather(x: Tensor) -> Tensor:
    """The ranks' `x`, one after another: (n, ...) -> (W n, ...), with exact gradients."""
    return x if world_size() == 1 else _AllGather.apply(x)


def all_reduce_mean(x: Tensor) -> Tensor:
    """The mean of the ranks' `x`, without gradients."""
    if world_size() > 1:
        x = x.detach().clone()
        dist.all_reduce(x)
        x /= world_size()
    return x


class _AllGather(torch.autograd.Function):
    """Gather rows with their gradients, summed: every rank's loss depends on every rank's rows.

    PyTorch's own (`torch.distributed.nn.functional.all_gather`) is deprecated.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return shard(gradient)
