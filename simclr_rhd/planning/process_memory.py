"""The memory of this process: used, at its peak, and what it may still take."""

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch


def used_memory(device: torch.device) -> int:
    """Bytes that this process has now; on a GPU 0: it holds next to nothing there before the steps."""
    if device.type == "cuda":
        return 0
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return peak_memory(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that this process has had so far, on a GPU the most that was in use there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # on Linux ru_maxrss begins with what the process that started this one had
        return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_memory(device: torch.device) -> int:
    """Bytes that this process may still take: of the GPU, else of the machine or of its control group."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        meminfo = Path("/proc/meminfo").read_text()
        free = 1024 * int(meminfo.split("MemAvailable:")[1].split()[0])
    except OSError:  # no Linux: half of what the machine has
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        free = min(free, address_space - taken)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # ranks of this machine share it
    return max(0, min([free, *_left_in_control_groups()])) // here


def _left_in_control_groups() -> Iterator[int]:
    """Bytes that each control group of this process (a container, a scheduler's job) may still take."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        root = Path("/sys/fs/cgroup", *kinds.split(), path.strip("/"))
        limit, used = (
            ("memory.max", "memory.current")
            if not kinds
            else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        for folder in (root, *root.parents[: len(root.parents) - 3]):
            try:
                stat = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
                # given back when it is needed
                cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
                yield int((folder / limit).read_text()) - int((folder / used).read_text()) + cached
            except (OSError, ValueError):  # no such group, or 'max'
                continue
