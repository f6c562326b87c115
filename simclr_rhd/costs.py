"""What a run will take, from steps that are measured before the long ones: memory, time, the best batch.

On a CPU they are measured in a process of their own, where nothing else is in the way:
`python -m simclr_rhd.costs`. What one pair costs does not depend on how many there are, so two sizes tell.

Notation: n pairs, in the network at once.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simclr_rhd.augment import PRESETS, draws
from simclr_rhd.batches import WATCHED_MOST, Batch
from simclr_rhd.errors import UserError
from simclr_rhd.model import build
from simclr_rhd.optim import make_optimizer
from simclr_rhd.process import duration
from simclr_rhd.runtime import prepare_torch
from simclr_rhd.step import Step
from simclr_rhd.store import stored_side
from simclr_rhd.watch import KNN_MOST

SIZES = (4, 16, 64)  # pairs of the measured steps, where a batch has so many
ENOUGH_S = 1.0  # a step that takes longer tells enough about larger ones
LOSS_BYTES = 4 * 4  # of one similarity: a float32 in each of four tables
AGAIN = 4 / 3  # time of a step in pieces to that in one: the forward pass, a third, is done twice
MARGIN = 0.85  # of the available memory may be used
OTHER_FILES = 30 << 20  # bytes of pictures, tables, report
# of the later stages, on a core of 2020s make; the pretraining is what counts
HEAD_S, PROJECTION_S = 5e-5, 4e-3  # for a frame: an epoch of three heads; t-SNE and UMAP
METRICS_S, PICTURES_S, SAVE_S = 2.0, 3.0, 0.5  # once; the last for an epoch's checkpoints
BATCHES = tuple(2**k for k in range(4, 13))  # sizes that 'auto' chooses from, and the table shows


@dataclass(frozen=True)
class Cost:
    """What steps were measured to take.

    Attributes:
        parameters: numbers in the model.
        weights: bytes of the parameters and their gradients.
        optimizer: bytes of its state.
        fixed: bytes that a step of any size adds, weights and optimizer among them.
        per_pair: bytes for each pair in the network at once.
        pair_s: seconds of a training step for each pair.
        frame_s: seconds to extract a frame's features.
    """

    parameters: int
    weights: int
    optimizer: int
    fixed: int
    per_pair: int
    pair_s: float
    frame_s: float

    def step_memory(self, batch: int, micro_batch: int | None = None) -> int:
        """Bytes that steps add to the process."""
        return self.fixed + self.per_pair * min(batch, micro_batch or batch) + LOSS_BYTES * (2 * batch) ** 2

    def step_s(self, batch: int, micro_batch: int | None = None) -> float:
        """Seconds of a step."""
        return self.pair_s * batch * (AGAIN if micro_batch and micro_batch < batch else 1)


Fits = Callable[[int, int | None], bool]


def fits_by_model(cost: Cost, free: int) -> Fits:
    """Whether a batch, in pieces or not, fits into `free` bytes with a margin, by what was measured."""
    return lambda batch, piece: cost.step_memory(batch, piece) <= MARGIN * free


def fits_by_trying(size: int, optimizer: str, *, grey: bool, device: torch.device) -> Fits:
    """Whether a batch fits on a GPU with a margin: a step is taken. Arguments as of `measure`."""

    def fits(batch: int, piece: int | None) -> bool:
        torch.cuda.empty_cache()
        most = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        try:
            _steps(size, optimizer, [batch], piece, grey=grey, device=device)
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()
        return torch.cuda.max_memory_allocated(device) <= MARGIN * most

    return fits


def largest_batch(fits: Fits, *, in_pieces: int | None = None) -> int:
    """The largest of `BATCHES` that fits, the smallest if none does."""
    return _largest(lambda n: fits(n, in_pieces), BATCHES)


def largest_piece(fits: Fits, batch: int) -> int:
    """The largest piece out of `BATCHES` in which a batch fits."""
    return min(batch, _largest(lambda n: fits(batch, n), [n for n in BATCHES if n <= batch] or [batch]))


def _largest(fits: Callable[[int], bool], sizes: Sequence[int]) -> int:
    """The last size before the first that does not fit, at least the first one."""
    found = sizes[0]
    for n in sizes:
        if not fits(n):
            break
        found = n
    return found


@dataclass(frozen=True)
class Plan:
    """The amounts that a run's time depends on.

    Attributes:
        rows: frames to pretrain on.
        watched: frames whose loss is watched after each epoch.
        labelled: labelled frames.
        batch: pairs of a batch.
        micro_batch: pairs of a piece of it, None for one piece.
        epochs: at most.
        patience: epochs without improvement after which it stops.
        knn_every: epochs between two votes of the neighbours, 0 for none.
        linear_epochs: of the heads.
        figures: whether pictures are drawn.
        before_s: seconds until pretraining begins.
        ranks: processes that share a batch.
    """

    rows: int
    watched: int
    labelled: int
    batch: int
    micro_batch: int | None
    epochs: int
    patience: int
    knn_every: int
    linear_epochs: int
    figures: bool
    before_s: float = 0.0
    ranks: int = 1

    @property
    def pairs(self) -> int:
        """Of a batch, at each rank."""
        return max(1, self.batch // self.ranks)

    def epoch_s(self, cost: Cost) -> float:
        """Seconds of an epoch, with what is measured after it."""
        knn = min(self.labelled, KNN_MOST) / self.knn_every if self.knn_every else 0
        steps = max(1, self.rows // self.batch)
        watched = 2 * min(self.watched or self.rows, WATCHED_MOST)
        return steps * cost.step_s(self.pairs, self.micro_batch) + cost.frame_s * (watched + knn) + SAVE_S

    def after_s(self, cost: Cost) -> float:
        """Seconds of all that follows pretraining."""
        return (
            self.labelled * (cost.frame_s + self.linear_epochs * HEAD_S + PROJECTION_S * self.figures)
            + METRICS_S
            + PICTURES_S * self.figures
        )

    def least_s(self, cost: Cost) -> float:
        """Seconds of the run if the first epoch stays the best."""
        epochs = min(self.epochs, self.patience + 1)
        return self.before_s + epochs * self.epoch_s(cost) + self.after_s(cost)

    def most_s(self, cost: Cost) -> float:
        """Seconds of the run if all epochs are used."""
        return self.before_s + self.epochs * self.epoch_s(cost) + self.after_s(cost)


def facts(cost: Cost, plan: Plan, *, used: int) -> dict[str, Any]:
    """The foreseen figures: bytes and seconds."""
    return {
        "peak_bytes": used + cost.step_memory(plan.pairs, plan.micro_batch),
        "step_s": cost.step_s(plan.pairs, plan.micro_batch),
        "epoch_s": plan.epoch_s(cost),
        "least_s": plan.least_s(cost),
        "most_s": plan.most_s(cost),
        **asdict(cost),
    }


def lines(cost: Cost, plan: Plan, *, used: int, free: int) -> list[str]:
    """What the run will take, for the log.

    Args:
        cost: of the steps.
        plan: the amounts.
        used: bytes that the process has without the steps.
        free: bytes it may still take.
    """
    need = used + cost.step_memory(plan.pairs, plan.micro_batch)
    sizes = [n for n in BATCHES if n <= max(512, 2 * plan.batch)]
    table = ", ".join(f"{n}: {(used + cost.step_memory(n)) / 1e9:.1f}" for n in sizes)
    epoch = plan.epoch_s(cost)
    found = [
        f"model: {cost.parameters / 1e6:.1f} million parameters; weights and gradients "
        f"{cost.weights / 1e6:.0f} MB, optimizer {cost.optimizer / 1e6:.0f} MB, activations "
        f"{cost.per_pair / 1e6:.1f} MB for each frame of a batch",
        f"memory: about {need / 1e9:.1f} GB at the most, of {(used + free) / 1e9:.1f} GB; by batch size: "
        f"{table} GB",
        f"time: a step {cost.step_s(plan.pairs, plan.micro_batch):.2f} s, an epoch {duration(epoch)}; "
        f"the whole run {duration(plan.most_s(cost))} with all {plan.epochs} epochs, "
        f"{duration(plan.least_s(cost))} if it stops as early as it can",
    ]
    if cost.step_memory(plan.pairs, plan.micro_batch) > MARGIN * free:
        fits = fits_by_model(cost, free)
        found.append(
            f"WARNING that is more than there is: --batch-size {largest_batch(fits)} fits, or "
            f"--micro-batch {largest_piece(fits, plan.pairs)} with this batch size"
        )
    return found


def measure(size: int, optimizer: str, *, grey: bool, device: torch.device, most: int = SIZES[-1]) -> Cost:
    """Take a few steps and see.

    Args:
        size: pixels of a view's side.
        optimizer: 'adamw' or 'lars'.
        grey: whether frames are grey.
        device: where.
        most: pairs that a step may have at once.

    Raises:
        UserError: not even these steps could be taken.
    """
    how: dict[str, Any] = {"size": size, "grey": grey, "optimizer": optimizer, "most": most}
    if device.type == "cuda":
        return _probe(**how, device=device)
    how["threads"] = torch.get_num_threads()
    done = subprocess.run(
        [sys.executable, "-m", "simclr_rhd.costs", json.dumps(how)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}, as of too little memory"]
        raise UserError(
            f"a training step of {min(most, SIZES[1])} frames at --image-size {size} could not be taken: "
            f"{why[0]}; use a smaller --image-size, or --batch-size"
        )
    return Cost(**json.loads(done.stdout))


def _probe(*, size: int, grey: bool, optimizer: str, most: int, device: torch.device) -> Cost:
    sizes = [n for n in SIZES if n <= most]
    if len(sizes) < 2:
        sizes = sorted({max(1, most // 4), max(2, most)})
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = peak_memory(device)
    step, optimize, peaks, seconds = _steps(size, optimizer, sizes, None, grey=grey, device=device)
    few, many = min(peaks), max(peaks)
    per_pair = (peaks[many] - peaks[few]) / (many - few)
    batch = make_batch(many, size=size, grey=grey)
    step.embed_plainly(batch)
    begun = time.perf_counter()
    step.embed_plainly(batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    frame_s = (time.perf_counter() - begun) / (2 * many)
    parameters = sum(p.numel() for p in step.model.parameters())
    return Cost(
        parameters=parameters,
        weights=8 * parameters,
        optimizer=sum(
            x.nbytes for of_one in optimize.state.values() for x in of_one.values() if torch.is_tensor(x)
        ),
        fixed=max(0, round(peaks[few] - before - per_pair * few)),
        per_pair=round(per_pair),
        pair_s=seconds[many] / many,
        frame_s=frame_s,
    )


def _steps(
    size: int,
    optimizer: str,
    sizes: Sequence[int],
    piece: int | None,
    *,
    grey: bool,
    device: torch.device,
) -> tuple[Step, torch.optim.Optimizer, dict[int, int], dict[int, float]]:
    """Two steps of each size, until they take long: the peak memory so far, and the seconds of the second."""
    model = build("random", seed=0).to(device).train()
    optimize = make_optimizer(model, optimizer, learning_rate=1e-4, weight_decay=0.0)
    how: dict[str, Any] = {"size": size, "strengths": PRESETS["standard"], "temperature": 0.5}
    step = Step(model, **how, device=device, micro_batch=piece)
    peaks, seconds = {}, {}
    for n in sizes:
        batch = make_batch(n, size=size, grey=grey)
        for _ in range(2):  # the first one is slower: it takes its memory
            begun = time.perf_counter()
            optimize.zero_grad(set_to_none=True)
            float(step.backward(batch))
            optimize.step()
            seconds[n] = time.perf_counter() - begun
        peaks[n] = peak_memory(device)
        if len(peaks) > 1 and seconds[n] > ENOUGH_S:
            break
    return step, optimize, peaks, seconds


def make_batch(n: int, *, size: int, grey: bool) -> Batch:
    """`n` pairs of noise, to be measured with."""
    side, rng = stored_side(size), np.random.default_rng(0)
    frames = rng.integers(0, 256, (n, 1 if grey else 3, side, side), dtype=np.uint8)
    return Batch(
        torch.from_numpy(frames),
        torch.full((n,), 0 if grey else 1, dtype=torch.uint8),
        draws(0, 1, np.arange(n))[0],
        torch.arange(n),
    )


def check_room(save_dir: Path, cost: Cost) -> None:
    """See that the disk has room for the checkpoints.

    Raises:
        UserError: it has not.
    """
    need = disk(cost)
    free = shutil.disk_usage(save_dir).free
    if need > free:
        raise UserError(
            f"--save-dir {save_dir}: the run's files need about {need / 1e6:.0f} MB, {free / 1e6:.0f} MB are "
            "free; make room, or name another folder"
        )


def disk(cost: Cost) -> int:
    """Bytes of a run's files: two checkpoints and the model, the largest twice while it is replaced."""
    weights = cost.weights // 2
    return 2 * (weights + cost.optimizer) + 2 * weights + OTHER_FILES


def used_memory(device: torch.device) -> int:
    """Bytes that this process has now; on a GPU none, since steps are measured with all that is there."""
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
    return max(0, min([free, *_left_in_control_groups()]))


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
                cached = int(stat.get("inactive_file", 0))  # given back when it is needed
                yield int((folder / limit).read_text()) - int((folder / used).read_text()) + cached
            except (OSError, ValueError):  # no such group, or 'max'
                continue


if __name__ == "__main__":
    how = json.loads(sys.argv[1])
    torch.set_num_threads(how.pop("threads"))
    prepare_torch()
    print(json.dumps(asdict(_probe(**how, device=torch.device("cpu")))))
