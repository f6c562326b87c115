"""What steps take, measured before the long ones: memory and time.

On a CPU that is done in a process of its own, where nothing else is in the way:
`python -m simclr_rhd.planning.profiler`.
What one pair costs does not depend on how many there are, so a few sizes tell.

Notation: n pairs, in the network at once.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from simclr_rhd.core.device import make_deterministic
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.planning.run_estimate import USABLE_MEMORY_FRACTION, FitsPredicate, StepCost
from simclr_rhd.ssl.augment import PRESETS, sample_view_params
from simclr_rhd.ssl.averaging import EMA
from simclr_rhd.ssl.batches import Batch
from simclr_rhd.ssl.encoder.model import SimCLR, build
from simclr_rhd.ssl.optim import make_optimizer
from simclr_rhd.ssl.step import PRECISIONS, Step

PROFILED_PAIRS = (4, 16, 64)  # pairs of the measured steps, where a batch has so many
STOP_PROFILING_S = 1.0  # a step that takes longer tells enough about larger ones


def profile_step(
    size: int,
    optimizer: str,
    *,
    grey: bool,
    precision: str,
    device: torch.device,
    max_pairs: int = PROFILED_PAIRS[-1],
    smaller: Sequence[int] = (),
) -> StepCost:
    """Take a few steps and see.

    Args:
        size: pixels of a view's side.
        optimizer: 'adamw' or 'lars'.
        grey: whether frames are grey.
        precision: a key of `PRECISIONS`.
        device: where.
        max_pairs: pairs that a step may have at once.
        smaller: sizes of other views of the run.

    Raises:
        UserError: not even these steps could be taken.
    """
    options: dict[str, Any] = {
        "size": size,
        "grey": grey,
        "optimizer": optimizer,
        "precision": precision,
        "max_pairs": max_pairs,
        "smaller": list(smaller),
    }
    if device.type == "cuda":
        return _profile(**options, device=device)
    options["threads"] = torch.get_num_threads()
    finished = subprocess.run(
        [sys.executable, "-m", "simclr_rhd.planning.profiler", json.dumps(options)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        reason = finished.stderr.strip().splitlines()[-1:] or [
            f"status {finished.returncode}, as of too little memory"
        ]
        raise UserError(
            f"a training step of {min(max_pairs, PROFILED_PAIRS[1])} frames at --image-size {size} could not "
            f"be taken: {reason[0]}; use a smaller --image-size, or --batch-size"
        )
    return StepCost(**json.loads(finished.stdout))


def _profile(
    *,
    size: int,
    grey: bool,
    optimizer: str,
    precision: str,
    max_pairs: int,
    smaller: Sequence[int],
    device: torch.device,
) -> StepCost:
    sizes = [n for n in PROFILED_PAIRS if n <= max_pairs]
    if len(sizes) < 2:
        sizes = sorted({max(1, max_pairs // 4), max(2, max_pairs)})
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = peak_memory(device)
    options: dict[str, Any] = {"grey": grey, "precision": precision, "device": device}
    state, peaks, seconds = _run_steps(size, optimizer, sizes, None, **options)
    fewest, largest = min(peaks), max(peaks)
    per_pair = (peaks[largest] - peaks[fewest]) / (largest - fewest)
    batch = make_batch(largest, size=size, grey=grey)
    shares = []
    for side in smaller:
        state.step.size = side
        shares.append((side, _time_step(state, batch) / seconds[largest]))
    state.step.size = size
    state.step.embed_eval(state.average.model, batch)
    start = time.perf_counter()
    state.step.embed_eval(state.average.model, batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    frame_s = (time.perf_counter() - start) / (2 * largest)
    parameters = sum(p.numel() for p in state.model.parameters())
    return StepCost(
        parameters=parameters,
        weights=8 * parameters,
        optimizer=sum(
            x.nbytes
            for buffers in state.optimizer.state.values()
            for x in buffers.values()
            if torch.is_tensor(x)
        ),
        fixed=max(0, round(peaks[fewest] - before - per_pair * fewest)),
        per_pair=round(per_pair),
        pair_s=seconds[largest] / largest,
        frame_s=frame_s,
        smaller=shares,
    )


class _TrainState(NamedTuple):
    """All that a step changes, and what changes it."""

    model: SimCLR
    average: EMA[SimCLR]
    optimizer: torch.optim.Optimizer
    step: Step


def _run_steps(
    size: int,
    optimizer: str,
    sizes: Sequence[int],
    micro_batch: int | None,
    *,
    grey: bool,
    precision: str,
    device: torch.device,
) -> tuple[_TrainState, dict[int, int], dict[int, float]]:
    """Two steps of each size, until they take long: the peak memory so far, and the seconds of the second."""
    model = build("random", seed=0).to(device).train()
    optimize = make_optimizer(model, optimizer, learning_rate=1e-4, weight_decay=0.0)
    options: dict[str, Any] = {"size": size, "augment_config": PRESETS["standard"], "temperature": 0.5}
    options["precision"] = PRECISIONS[precision]
    step = Step(model, **options, device=device, micro_batch=micro_batch)
    state = _TrainState(model, EMA(model, 0.99), optimize, step)
    peaks, seconds = {}, {}
    for n in sizes:
        batch = make_batch(n, size=size, grey=grey)
        seconds[n] = _time_step(state, batch)
        peaks[n] = peak_memory(device)
        if len(peaks) > 1 and seconds[n] > STOP_PROFILING_S:
            break
    return state, peaks, seconds


def _time_step(state: _TrainState, batch: Batch) -> float:
    """Seconds of the second of two steps: the first one is slower, since it takes its memory."""
    device = state.step.device
    batch = batch.map(lambda x: x.to(device))  # the loop hides the copy behind the step before
    for _ in range(2):
        start = time.perf_counter()
        state.optimizer.zero_grad(set_to_none=True)
        float(state.step.backward(batch))
        state.optimizer.step()
        state.average.update(state.model)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter() - start


def make_batch(n: int, *, size: int, grey: bool) -> Batch:
    """`n` pairs of noise, to be measured with."""
    side, rng = storage_size(size), np.random.default_rng(0)
    frames = rng.integers(0, 256, (n, 1 if grey else 3, side, side), dtype=np.uint8)
    return Batch(
        torch.from_numpy(frames),
        torch.full((n,), 0 if grey else 1, dtype=torch.uint8),
        sample_view_params(0, 1, np.arange(n))[0],
        torch.arange(n),
    )


def fits_by_trying(
    size: int, optimizer: str, *, grey: bool, precision: str, device: torch.device
) -> FitsPredicate:
    """Whether a batch fits on a GPU with a margin: a step is taken. Arguments as of `profile_step`."""

    def fits(batch: int, micro_batch: int | None) -> bool:
        torch.cuda.empty_cache()
        available = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        try:
            _run_steps(size, optimizer, [batch], micro_batch, grey=grey, precision=precision, device=device)
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()
        return torch.cuda.max_memory_allocated(device) <= USABLE_MEMORY_FRACTION * available

    return fits


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
                cached = int(
                    stat.get("total_inactive_file", stat.get("inactive_file", 0))
                )  # given back when it is needed
                yield int((folder / limit).read_text()) - int((folder / used).read_text()) + cached
            except (OSError, ValueError):  # no such group, or 'max'
                continue


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    torch.set_num_threads(options.pop("threads"))
    make_deterministic()
    print(json.dumps(asdict(_profile(**options, device=torch.device("cpu")))))
