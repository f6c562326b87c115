"""The machine under a run: its devices, its memory, and what makes it repeatable."""

import ctypes
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core.errors import UserError

CPUINFO = Path("/proc/cpuinfo")


def resolve_device(name: str) -> torch.device:
    """The device that `--device` names.

    Raises:
        UserError: PyTorch has no such device here.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no CUDA device here; use --device auto or cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: PyTorch sees no GPU of Apple here; use --device auto or cpu")
    if name == "mps" and ranks.launched_world_size() > 1:
        raise UserError("--device mps: works in one process; start it without torchrun")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and ranks.launched_world_size() > 1:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device(name)


def make_deterministic() -> None:
    """Make PyTorch repeatable, and keep freed memory in the process."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not repeatable
    torch.use_deterministic_algorithms(True, warn_only=True)
    # else each new tensor is filled before an operation writes it: 5 to 8 % of a training step's time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    with warnings.catch_warnings():  # PyTorch 2.9 recommends a name that not all of its own parts can read
        warnings.simplefilter("ignore", UserWarning)
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32: a GPU computes what the processor does
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks for the next step instead of giving them back to the system.

    A training step frees and takes hundreds of megabytes; handing them back each time costs a page fault
    for every 4 KiB of the next step, up to a third of its time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(m_mmap_max, 0)
    libc.mallopt(m_trim_threshold, 2**31 - 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: for tensors so small that sharing them costs more than it saves.

    Beside another program on the same cores, threads that wait for one another take many times longer.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked to."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def describe_device(device: torch.device) -> str:
    """The device in words: 'CPU, 2 threads', '2 x NVIDIA H100', '4 ranks, each CPU, 1 threads'."""
    if device.type == "mps":
        return f"GPU of Apple, {platform.processor() or platform.machine()}"
    several = f"{ranks.launched_world_size()} ranks, each " if ranks.launched_world_size() > 1 else ""
    if device.type == "cuda":
        n = 1 if several else torch.cuda.device_count()
        return f"{several}{n} x {torch.cuda.get_device_name(device)}"
    return f"{several}CPU, {torch.get_num_threads()} threads"


@cache
def has_amx() -> bool:
    """Return True for a processor that multiplies bfloat16 matrices by AMX, ten times as fast as by vectors.

    `ONEDNN_MAX_CPU_ISA` can forbid it to the library that does so.
    """
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if allowed not in ("ALL", "DEFAULT") and "AMX" not in allowed:
        return False
    try:
        return "amx_bf16" in CPUINFO.read_text().split()
    except OSError:  # no Linux
        return False


def default_workers() -> int:
    """Threads that read ahead: one for each core that the training steps leave over, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes on this machine
    return max(0, min(8, (cores - 2) // here))
