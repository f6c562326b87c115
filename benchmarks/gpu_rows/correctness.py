"""Rows that ask whether a device computes what it should."""

import gc
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gpu_rows.bench import Bench, Outcome, bare_step, check, random_batch, train_step
from gpu_rows.worker import run_ranks, run_training
from simclr_rhd.core.config import AUTO
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.planning import profiler as probe
from simclr_rhd.planning.auto_settings import resolve_settings
from simclr_rhd.planning.process_memory import available_memory, used_memory
from simclr_rhd.planning.step_cost import BYTES_PER_SIMILARITY, fits_by_model
from simclr_rhd.ssl.augment import two_views
from simclr_rhd.ssl.batches import Batch
from simclr_rhd.ssl.config import PretrainConfig
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.optim import make_optimizer
from simclr_rhd.ssl.step import Step
from simclr_rhd.ssl.trainer import Trainer

WORKER = Path(__file__).with_name("worker.py")
N_STEPS = 5  # steps against the processor
WORKER_SECONDS = 100  # longest time of a worker, less than that of a row


def float32(bench: Bench) -> Outcome:
    """Five steps in float32 without TF32 against the processor's in float64, from the same views.

    At a low learning rate: AdamW's first steps go by the gradient's sign, which rounding turns where it is
    near 0, and at a high rate five steps would make of that a difference in the loss. A gradient that is
    wrong shows in the weights, held against what they moved.
    """
    n, size, results = bench.sizes.batch_checked, bench.sizes.image_checked, []
    how = {"size": size, "augment_config": bench.make_step(build("random", seed=0)).augment_config}
    views = [
        two_views(batch.frames, batch.color_modes, batch.view_params, **how)
        for batch in (random_batch(n, size, seed=seed) for seed in range(N_STEPS))
    ]
    for device, dtype in ((torch.device("cpu"), torch.float64), (bench.device, torch.float32)):
        model = build("random", seed=0).to(device, dtype).train()
        initial = flat_weights(model)
        optimizer = make_optimizer(model, "adamw", learning_rate=1e-5, weight_decay=0.01)
        losses = [float(bare_step(model, optimizer, some.to(device, dtype))) for some in views]
        results.append((losses, flat_weights(model)))
    (exact, wanted), (losses, weights) = results
    loss_difference = max(abs(a - b) for a, b in zip(exact, losses, strict=True))
    difference = float((weights - wanted).norm() / wanted.norm())
    of_movement = float((weights - wanted).norm() / (wanted - initial).norm())
    return check(
        loss_difference <= 1e-4 and difference <= 1e-3 and of_movement <= 0.1,
        f"losses of {N_STEPS} steps within {loss_difference:.1e} of the processor's in float64, weights "
        f"within {difference:.1e} of their norm and {of_movement:.1%} of what they moved",
        loss_difference=loss_difference,
        weight_difference=difference,
        of_movement=of_movement,
    )


def flat_weights(model: nn.Module) -> Tensor:
    """(n,) float64 parameters on the processor."""
    return torch.cat([p.detach().double().cpu().flatten() for p in model.parameters()])


def check_half_precision(bench: Bench, precision: str) -> Outcome:
    """Some steps in half precision beside the same in float32."""
    n, steps = bench.sizes.batch_checked, bench.sizes.halves
    if precision == "float16":
        n, steps = bench.sizes.halves_float16
    results, few = {}, max(1, steps // 6)
    for name in ("float32", precision):
        step = bench.make_step(
            build("random", seed=0).to(bench.device).train(), size=bench.sizes.image_checked, precision=name
        )
        optimizer = make_optimizer(step.model, "adamw", learning_rate=1e-4, weight_decay=0.01)
        batch = random_batch(n, bench.sizes.image_checked)
        taken = (loss for loss, was_taken in iter_steps(step, optimizer, batch, 2 * steps) if was_taken)
        results[name] = list(islice(taken, steps))
    losses = results[precision]
    first, last, exact = (
        float(np.mean(of)) for of in (losses[:few], losses[-few:], results["float32"][-few:])
    )
    finite, apart = all(map(math.isfinite, losses)), abs(last - exact) / exact
    text = f"loss {first:.3f} to {last:.3f} in {steps} steps, {apart:.2%} from float32's {exact:.3f}"
    holds = finite and last < first and apart <= 0.02
    if precision == "float16":
        survived = survives_overflow(step, optimizer, batch)
        holds, text = holds and survived, text + f"; an overflow {'is' if survived else 'IS NOT'} survived"
    return check(holds, text, first=first, last=last, float32=exact)


def iter_steps(
    step: Step, optimizer: torch.optim.Optimizer, batch: Batch, most: int
) -> Iterator[tuple[float, bool]]:
    """Losses of some steps, and whether each was taken: the scaler skips those that overflow."""
    for _ in range(most):
        before = step.scaler.get_scale()
        loss = train_step(step, optimizer, batch)
        yield loss, step.scaler.get_scale() >= before


def survives_overflow(step: Step, optimizer: torch.optim.Optimizer, batch: Batch) -> bool:
    """Check that gradients that are not finite leave the weights alone, and that training goes on."""
    step.scaler.load_state_dict(step.scaler.state_dict() | {"scale": 2.0**100})
    parameters = [p.detach().clone() for p in step.model.parameters()]
    train_step(step, optimizer, batch)
    untouched = all(torch.equal(p, q) for p, q in zip(step.model.parameters(), parameters, strict=True))
    lowered = step.scaler.get_scale() < 2.0**100
    step.scaler.load_state_dict(step.scaler.state_dict() | {"scale": 2.0**10})
    loss = train_step(step, optimizer, batch)
    moved = any(not torch.equal(p, q) for p, q in zip(step.model.parameters(), parameters, strict=True))
    return untouched and lowered and moved and math.isfinite(loss)


def bfloat16(bench: Bench) -> Outcome:
    """`check_half_precision` in bfloat16."""
    return check_half_precision(bench, "bfloat16")


def float16(bench: Bench) -> Outcome:
    """`check_half_precision` in float16 with a gradient scaler."""
    return check_half_precision(bench, "float16")


def torchrun(bench: Bench) -> Outcome:
    """One and two ranks through torchrun, BatchNorm synchronised, against one process."""
    gpus = torch.cuda.device_count() if bench.cuda else 0
    own = "nccl" if bench.cuda else "gloo"
    alone = run_ranks(bench.device, bench.sizes.image_checked, bench.sizes.batch_checked, "none")
    texts, holds, figures = [], True, {"one process": alone["losses"]}
    # NCCL wants a GPU for each rank
    backends = {ranks: own if ranks <= max(1, gpus) or not bench.cuda else "gloo" for ranks in (1, 2)}
    with ThreadPoolExecutor() as pool:
        launched = {
            ranks: pool.submit(run_worker, bench, "ranks", backend, ranks=ranks)
            for ranks, backend in backends.items()
        }
    for ranks, backend in backends.items():
        result = launched[ranks].result()
        apart = max(abs(a - b) for a, b in zip(alone["losses"], result["losses"], strict=True))
        norms = abs(alone["gradient"] - result["gradient"]) / alone["gradient"]
        holds = holds and apart <= 1e-4 and norms <= 1e-3
        figures[f"{ranks} x {backend}"] = result["losses"]
        texts.append(f"{ranks} rank(s) with {backend}: losses within {apart:.1e}, gradient {norms:.1e}")
    if bench.cuda and gpus < 2:
        texts.append("two ranks of NCCL need two GPUs: not run")
    return check(holds, "; ".join(texts), **figures)


def run_worker(bench: Bench, *arguments: str, ranks: int = 0, status: int = 0) -> dict:
    """Output of `worker.py`; with ranks, of the first one.

    Raises:
        RuntimeError: it ended otherwise than with `status`.
    """
    out = bench.folder / f"worker-{'-'.join(arguments)}-{ranks}.json"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks else []
    sizes = [str(bench.sizes.image_checked), str(bench.sizes.batch_checked)]
    command = [sys.executable, *launch, str(WORKER), bench.device.type, *sizes, str(out), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, errors = process.communicate(timeout=WORKER_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends its ranks then, which a kill would leave on the GPU
            raise
    if process.returncode != status:
        raise RuntimeError(f"{' '.join(arguments)}: status {process.returncode}: {errors.strip()[-400:]}")
    return json.loads(out.read_text()) if out.exists() else {}


def data_parallel(bench: Bench) -> Outcome:
    """Training in `nn.DataParallel`, its checkpoint's names, and a resumed run."""
    batch, steps = bench.sizes.batch_checked, 3

    def make() -> Trainer:
        size = bench.sizes.image_checked
        return bench.make_run(batch=batch, steps=steps, wrap=wrap_data_parallel, size=size)

    whole, part, resumed = make(), make(), make()
    for run in (whole, part):
        run.train_epoch()
        run.end_epoch({"loss": 0.0})
    resumed.load_state(part.state())
    for run in (whole, resumed):
        loss = run.train_epoch()
    names_clean = not any(name.startswith("module.") for name in part.state()["model"])
    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    apart = max(float((a - b).detach().abs().max()) for a, b in pairs)
    wrapped = len(whole.model.device_ids) if isinstance(whole.model, nn.DataParallel) else 0
    return check(
        math.isfinite(loss) and names_clean and apart <= 1e-5,
        f"{wrapped} GPU(s) in DataParallel; the checkpoint's names are {'' if names_clean else 'NOT '}"
        f"unwrapped; resumed weights within {apart:.1e} of those of a run that was not stopped",
        devices=wrapped,
        apart=apart,
    )


def wrap_data_parallel(model: nn.Module) -> nn.Module:
    """As `parallel.to_devices` does where there are several GPUs."""
    return nn.DataParallel(model)


def micro_batch(bench: Bench) -> Outcome:
    """The gradient in pieces against that of the whole, BatchNorm in evaluation mode, and the memory."""
    piece, small, large = bench.sizes.micro
    grads: list[Tensor] = []
    for micro in (None, piece):
        model = build("random", seed=0).to(bench.device).double().eval()  # rounding would be most of it
        model.register_forward_pre_hook(lambda _, views: (views[0].double(),))
        step = bench.make_step(model, size=bench.sizes.image_checked, precision="float32", micro_batch=micro)
        step.backward(random_batch(small, bench.sizes.image_checked))
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))  # type: ignore[union-attr]
    apart = float((grads[0] - grads[1]).abs().max() / grads[0].abs().max())
    text = f"gradient in pieces of {piece} within {apart:.1e} of the largest of a batch of {small}"
    if not bench.cuda:
        return check(apart <= 1e-5, f"{text}; memory: benchmarks/memory.py on a processor", apart=apart)
    peaks = [peak_bytes(bench, batch, piece) for batch in (small, large)]
    # what grows with the batch by definition: its frames; the tables of similarities, when no piece is there
    frame = 3 * storage_size(bench.sizes.image) ** 2
    state = 5 * 4 * sum(p.numel() for p in model.parameters())  # weights, gradients, AdamW's two, spare
    tables = BYTES_PER_SIMILARITY * (2 * large) ** 2 + state
    flat = (peaks[1] - frame * large) / max(peaks[0] - frame * small, tables)
    return check(
        apart <= 1e-5 and flat <= 1.1,
        f"{text}; peak {peaks[0] / 1e9:.2f} GB at {small}, {peaks[1] / 1e9:.2f} GB at {large}, without "
        f"frames {flat:.2f} times a piece's or the similarities'",
        apart=apart,
        peaks=peaks,
        ratio=flat,
    )


def peak_bytes(bench: Bench, batch: int, piece: int) -> int:
    """Bytes at the peak of a step in pieces on a GPU."""
    torch.cuda.empty_cache()
    model, optimizer = bench.make_trained()
    step = bench.make_step(model, micro_batch=piece)
    torch.cuda.reset_peak_memory_stats(bench.device)
    some = random_batch(batch, bench.sizes.image)
    train_step(step, optimizer, some)
    return torch.cuda.max_memory_allocated(bench.device)


def killed(bench: Bench) -> Outcome:
    """A run that is killed in the middle of an epoch and resumed, against one that was not."""
    sizes = bench.sizes.image_checked, bench.sizes.batch_checked
    whole = run_training(bench.device, bench.folder, *sizes, "whole")
    run_worker(bench, "train", "killed", status=-9)
    resumed = run_training(bench.device, bench.folder, *sizes, "resumed")
    same, kernels = whole["digest"] == resumed["digest"], sorted({*whole["kernels"], *resumed["kernels"]})
    text = "the same weights, bit for bit" if same else "OTHER weights"
    if kernels:
        text += f"; kernels without a deterministic form: {', '.join(kernels)}"
    return check(same and resumed["resumed_after_steps"] > 0, text, kernels=kernels)


def automatic(bench: Bench) -> Outcome:
    """`--batch-size auto` and `--micro-batch auto`, and what `estimate` foretells, against a run."""
    size, batch = bench.sizes.image, min(bench.sizes.batches[0], probe.PROFILED_PAIRS[-1])
    steps = probe.ProfileConfig(size, "adamw", False, bench.precision, max_pairs=batch)
    cost = probe.profile_step(steps, bench.device)
    free = available_memory(bench.device)
    fits = probe.fits_by_trying(steps, bench.device) if bench.cuda else fits_by_model(cost, min(free, 2**31))
    config = PretrainConfig(
        image_size=size,
        batch_size=AUTO,
        micro_batch=AUTO,
        epochs=2,
        positives="frame",
        precision=bench.precision,
    )
    chosen = resolve_settings(config, rows=bench.sizes.frames_of_mission, videos=1.0, ranks=1, fits=fits)
    trial = bench.make_run(batch=chosen.batch_size, steps=1, micro_batch=chosen.micro_batch)
    loss = trial.train_epoch()
    del trial
    gc.collect()
    before = torch.cuda.memory_allocated() if bench.cuda else 0
    run = bench.make_run(batch=batch, steps=bench.sizes.steps)
    run.train_epoch()
    run.end_epoch({})
    if bench.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(bench.device)
    seconds = bench.seconds(run.train_epoch)
    time_ratio = cost.step_s(batch) * bench.sizes.steps / seconds
    text = (
        f"auto: batches of {chosen.batch_size} in pieces of {chosen.micro_batch}, loss {loss:.3f}; time "
        f"foretold ÷ measured {time_ratio:.2f}"
    )
    if not bench.cuda:
        return bench.judge(math.isfinite(loss), f"{text}; memory: benchmarks/estimate.py", time=time_ratio)
    memory_ratio = cost.step_memory(batch) / (torch.cuda.max_memory_allocated(bench.device) - before)
    near = all(abs(ratio - 1) <= 0.15 for ratio in (time_ratio, memory_ratio))
    text += f", memory {memory_ratio:.2f}"
    return bench.judge(math.isfinite(loss) and near, text, time=time_ratio, memory=memory_ratio)


def growth(bench: Bench) -> Outcome:
    """Bytes in use on the device after some steps and after many."""
    early, late = bench.sizes.growth
    run, used = bench.make_run(batch=bench.sizes.batches[0], steps=late), {}

    def note() -> None:
        if run.steps_done in (early, late):
            used[run.steps_done] = torch.cuda.memory_allocated() if bench.cuda else used_memory(bench.device)

    run.train_epoch(note)
    more = used[late] - used[early]
    text = f"{used[early] / 1e6:.1f} MB after step {early}, {used[late] / 1e6:.1f} MB after step {late}"
    return bench.judge(more <= 1 << 20, text, grown_bytes=more)


def views_on_device(bench: Bench) -> Outcome:
    """Check where views are made, and that they equal those of the processor."""
    batch = random_batch(bench.sizes.batch_checked, bench.sizes.image_checked)
    how = {
        "size": bench.sizes.image_checked,
        "augment_config": bench.make_step(build("random", seed=0)).augment_config,
    }
    here = two_views(batch.frames, batch.color_modes, batch.view_params, **how)
    there_batch = batch.map(lambda x: x.to(bench.device))
    there = two_views(there_batch.frames, there_batch.color_modes, there_batch.view_params, **how)
    apart = float((here - there.cpu()).abs().max())
    return check(
        there.device.type == bench.device.type and apart <= 1e-3,
        f"made on {there.device}, within {apart:.1e} of the processor's",
        apart=apart,
    )
