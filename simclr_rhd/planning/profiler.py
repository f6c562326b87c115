"""Memory and time of training steps, measured before the run.

On a CPU that is done in a process of its own, where nothing else is in the way:
`python -m simclr_rhd.planning.profiler`.
What one pair costs does not depend on how many there are, so a few sizes tell.

Notation: n pairs, in the network at once.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from simclr_rhd.core.device import make_deterministic, synchronize
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.planning.process_memory import peak_memory
from simclr_rhd.planning.step_cost import USABLE_MEMORY_FRACTION, FitsPredicate, StepCost
from simclr_rhd.ssl.augment import sample_view_params
from simclr_rhd.ssl.batches import Batch
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder.model import SimCLR, build
from simclr_rhd.ssl.optim import EMA, make_optimizer
from simclr_rhd.ssl.step import Step

PROFILED_PAIRS = (4, 16, 64)  # pairs of the measured steps, where a batch has so many
STOP_PROFILING_S = 1.0  # a step that takes longer tells enough about larger ones


@dataclass(frozen=True)
class ProfileConfig:
    """The steps to measure.

    Attributes:
        size: pixels of a view's side.
        optimizer: 'adamw' or 'lars'.
        grey: whether frames are grey.
        precision: a key of `step.PRECISIONS`.
        max_pairs: pairs that a step may have at once.
        smaller: sizes of other views of the run.
    """

    size: int
    optimizer: str
    grey: bool
    precision: str
    max_pairs: int = PROFILED_PAIRS[-1]
    smaller: Sequence[int] = ()

    def pairs(self) -> list[int]:
        """Pairs of the measured steps, two numbers at least."""
        pairs = [n for n in PROFILED_PAIRS if n <= self.max_pairs]
        return pairs if len(pairs) >= 2 else sorted({max(1, self.max_pairs // 4), max(2, self.max_pairs)})


def profile_step(config: ProfileConfig, device: torch.device) -> StepCost:
    """Measure a few training steps, on a CPU in a process of its own.

    Raises:
        UserError: not even these steps could be taken.
    """
    if device.type != "cpu":
        return _profile(config, device)
    options = {**asdict(config), "threads": torch.get_num_threads()}
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
            f"a training step of {min(config.max_pairs, PROFILED_PAIRS[1])} frames at --image-size "
            f"{config.size} could not be taken: {reason[0]}; use a smaller --image-size, or --batch-size"
        )
    return StepCost(**json.loads(finished.stdout))


def _profile(config: ProfileConfig, device: torch.device) -> StepCost:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = peak_memory(device)
    state, peaks, seconds = _run_steps(config, device, config.pairs(), None)
    fewest, largest = min(peaks), max(peaks)
    per_pair = (peaks[largest] - peaks[fewest]) / (largest - fewest)
    batch = make_batch(largest, size=config.size, grey=config.grey)
    shares = []
    for side in config.smaller:
        state.step.size = side
        shares.append((side, _time_step(state, batch) / seconds[largest]))
    state.step.size = config.size
    state.step.embed_eval(state.average.model, batch)
    start = time.perf_counter()
    state.step.embed_eval(state.average.model, batch)
    synchronize(device)
    frame_s = (time.perf_counter() - start) / (2 * largest)
    parameters = sum(p.numel() for p in state.model.parameters())
    buffers = [x for of_weight in state.optimizer.state.values() for x in of_weight.values()]
    return StepCost(
        parameters=parameters,
        weights=8 * parameters,
        optimizer=sum(x.nbytes for x in buffers if torch.is_tensor(x)),
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
    config: ProfileConfig, device: torch.device, sizes: Sequence[int], micro_batch: int | None
) -> tuple[_TrainState, dict[int, int], dict[int, float]]:
    """Three steps of each size, until they take long: the peak memory so far, and the seconds of one."""
    model = build("random", seed=0).to(device).train()
    optimizer = make_optimizer(model, config.optimizer, learning_rate=1e-4, weight_decay=0.0)
    settings = TrainingSettings(micro_batch=micro_batch, precision=config.precision)
    step = Step(model, PretrainConfig(image_size=config.size), settings, device)
    state = _TrainState(model, EMA(model, 0.99), optimizer, step)
    peaks, seconds = {}, {}
    for n in sizes:
        batch = make_batch(n, size=config.size, grey=config.grey)
        seconds[n] = _time_step(state, batch)
        peaks[n] = peak_memory(device)
        if len(peaks) > 1 and seconds[n] > STOP_PROFILING_S:
            break
    return state, peaks, seconds


def _time_step(state: _TrainState, batch: Batch) -> float:
    """Seconds of the faster of two steps after a first one, which is slower, since it takes its memory."""
    device = state.step.device
    batch = batch.map(lambda x: x.to(device))  # the loop hides the copy behind the step before
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        state.optimizer.zero_grad(set_to_none=True)
        float(state.step.backward(batch))
        state.optimizer.step()
        state.average.update(state.model)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


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


def fits_by_trying(config: ProfileConfig, device: torch.device) -> FitsPredicate:
    """A predicate: a batch fits on a GPU with a margin. Each call takes a step."""

    def fits(batch: int, micro_batch: int | None) -> bool:
        torch.cuda.empty_cache()
        available = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        try:
            _run_steps(config, device, [batch], micro_batch)
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()
        return torch.cuda.max_memory_allocated(device) <= USABLE_MEMORY_FRACTION * available

    return fits


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    torch.set_num_threads(options.pop("threads"))
    make_deterministic()
    print(json.dumps(asdict(_profile(ProfileConfig(**options), torch.device("cpu")))))
