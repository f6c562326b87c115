"""Rows that ask how fast a device is, and what it waits for."""

import os
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from gpu_rows.bench import FAILED, RAN, Bench, Outcome, bare_step
from simclr_rhd import load_model
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.data.sources.base import BucketAccess
from simclr_rhd.data.store.shards import Frames
from simclr_rhd.heads.config import HeadConfig
from simclr_rhd.heads.losses import HeadTargets
from simclr_rhd.heads.model import Heads
from simclr_rhd.heads.train import train_heads
from simclr_rhd.inference.classifier import Classifier
from simclr_rhd.inference.classifier import save as save_classifier
from simclr_rhd.inference.model_info import ModelInfo
from simclr_rhd.inference.prediction.frame_reader import FrameReader
from simclr_rhd.inference.prediction.input_files import find_inputs
from simclr_rhd.inference.prediction.predict_files import PredictionRun
from simclr_rhd.inference.predictor import BATCH_SIZE
from simclr_rhd.ssl.augment import IMAGENET_MEAN, IMAGENET_STD
from simclr_rhd.ssl.encoder.features import extract_with_ood_stats
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.schedule import progressive_sizes
from simclr_rhd.ssl.step import PRECISIONS

EPOCHS, LINEAR_EPOCHS = 300, 60  # of the mission's command
CLASSES = {"view": list("abc"), "condition": list("abcdefg"), "severity": list("abcd")}


class RepeatedFrames:
    """As many frames as a mission has, of which few are different.

    Args:
        frames: the different ones.
        n: how many.
    """

    def __init__(self, frames: Frames, n: int) -> None:
        self.frames, self.n = frames, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.frames[np.asarray(rows) % len(self.frames)]


def loop(bench: Bench) -> Outcome:
    """Frames a second of the program's loop and of the bare step, in turn."""
    cells, figures = [], {}
    for batch in bench.sizes.batches:
        steps = bench.sizes.steps
        run, views = bench.make_run(batch=batch, steps=steps), bench.views(batch)
        ratios, rates = [], []
        for number in range(1 + bench.sizes.rounds):
            bare = bench.bare_seconds(run, views, steps)
            whole = bench.seconds(run.train_epoch)
            run.end_epoch({})
            if number:  # the first is a warm-up
                ratios.append(bare / whole)
                rates.append(steps * batch / whole)
        figures[str(batch)] = {"ratio": statistics.median(ratios), "frames_per_s": statistics.median(rates)}
        cells.append(
            f"batch {batch}: {statistics.median(rates):.0f} frames/s, {statistics.median(ratios):.3f}"
        )
        del run, views
    judged = bench.sizes.batches[min(1, len(bench.sizes.batches) - 1)]
    return bench.judge(
        figures[str(judged)]["ratio"] >= 0.95, "; ".join(cells) + " of the bare step", **figures
    )


def ceiling(bench: Bench) -> Outcome:
    """The bare step in several forms, as a share of the device's measured rate of matrix products."""
    batch, steps = bench.sizes.batch, bench.sizes.steps
    peak = matrix_rate(bench)
    per_view = flops_per_view(bench.sizes.image)
    forms: dict[str, tuple[torch.memory_format, Callable[[nn.Module], nn.Module]]] = {
        "channels first": (torch.contiguous_format, lambda model: model),
        "channels last": (torch.channels_last, lambda model: model),
    }
    if bench.cuda:
        graphs = {"mode": "reduce-overhead"}
        forms["compiled"] = (torch.channels_last, torch.compile)
        forms["compiled, CUDA graphs"] = (torch.channels_last, lambda model: torch.compile(model, **graphs))
    else:
        forms["its projector compiled"] = (torch.channels_last, compile_projector)
    rates, cells = {}, []
    for name, (layout, change) in forms.items():
        model, optimizer = bench.make_trained()
        model, views = model.to(memory_format=layout), bench.views(batch).contiguous(memory_format=layout)
        run_steps = partial(take_steps, change(model), optimizer, views)
        try:
            first = bench.seconds(partial(run_steps, 3))
            seconds = [bench.seconds(partial(run_steps, steps)) for _ in range(bench.sizes.rounds)]
        except Exception as error:  # a compiler that is not there must not take the other forms along
            cells.append(f"{name} not possible ({type(error).__name__}: {str(error).splitlines()[0][:120]})")
            continue
        rates[name] = steps * batch / statistics.median(seconds)
        share = 2 * rates[name] * per_view / peak
        cells.append(f"{name} {rates[name]:.0f} frames/s, {share:.0%} ({first:.0f} s until it runs)")
        torch.compiler.reset()
    compiled = [rate for name, rate in rates.items() if "compiled" in name]
    gain = max([*compiled, 0.0]) / rates["channels last"]
    text = f"{bench.precision} matrix products {peak / 1e12:.2f} TFLOP/s; " + "; ".join(cells)
    if gain > 1.1:
        text += f"; compiling gains {gain - 1:.0%} and the program does not compile"
    return bench.judge(gain <= 1.1, text, peak_flops=peak, flops_of_view=per_view, gain=gain, **rates)


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, views: Tensor, steps: int) -> None:
    """Some bare steps."""
    for _ in range(steps):
        bare_step(model, optimizer, views)


def compile_projector(model: nn.Module) -> nn.Module:
    """Compile the last layers alone, without code for the processor: the whole takes half a minute."""
    model.projector = torch.compile(model.projector, backend="aot_eager")
    return model


def matrix_rate(bench: Bench) -> float:
    """FLOP/s of a product of two square matrices in the training's numbers."""
    n, dtype = bench.sizes.matrix, PRECISIONS[bench.precision] or torch.float32
    a, b = (torch.randn(n, n, device=bench.device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    times = [bench.seconds(lambda: [torch.matmul(a, b, out=out) for _ in range(20)]) for _ in range(4)]
    return 2 * n**3 * 20 / min(times)


def flops_per_view(size: int) -> float:
    """Floating-point operations of one view's forward and backward pass."""
    model, views = build("random", seed=0).eval(), torch.randn(2, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        model(views).square().mean().backward()
    return counter.get_total_flops() / len(views)


def gaps(bench: Bench) -> Outcome:
    """The share of the loop's time in which the GPU does nothing, and the bytes that a step brings to it."""
    batch, steps = bench.sizes.batch, bench.sizes.steps
    run = bench.make_run(batch=batch, steps=steps)
    brought = sum(x.nbytes for x in next(iter(run.load_batches(run.batches(1)[:1], 1, None))))
    text = f"{brought / 1e6:.2f} MB a step of {batch} frames to the device"
    run.train_epoch()
    run.end_epoch({})
    if not bench.cuda:
        return Outcome(RAN, f"{text}; a processor has no gaps of a GPU", {"bytes_of_step": brought})
    activities = [torch.profiler.ProfilerActivity.CUDA]  # to record the processor would slow its launches
    with torch.profiler.profile(activities=activities) as profile:
        seconds = bench.seconds(run.train_epoch)
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    )
    busy, until = 0.0, 0.0
    for start, end in spans:  # microseconds; kernels of several streams may overlap
        busy, until = busy + max(0.0, end - max(start, until)), max(until, end)
    idle = 1 - busy / 1e6 / seconds
    return bench.judge(
        idle <= 0.05,
        f"{text}; the GPU is idle for {idle:.1%} of the loop (profiled)",
        idle=idle,
        bytes_of_step=brought,
    )


def data(bench: Bench) -> Outcome:
    """Frames a second from the store to the device without training, beside what the step takes."""
    batch = bench.sizes.batch
    run = bench.make_run(batch=batch)
    rates = []
    for epoch in range(1, 2 + bench.sizes.rounds):
        batches = run.batches(epoch)
        seconds = bench.seconds(
            lambda: [
                some.map(lambda x: x.to(bench.device, non_blocking=True))
                for some in run.load_batches(batches, epoch, None)  # noqa: B023
            ]
        )
        rates.append(len(batches) * batch / seconds)
    rate, views = statistics.median(rates[1:]), bench.views(batch)
    bench.bare_seconds(run, views, 2)
    step_rate = bench.sizes.steps * batch / bench.bare_seconds(run, views, bench.sizes.steps)
    return bench.judge(
        rate >= 3 * step_rate,
        f"{rate:.0f} frames/s from the store, {rate / step_rate:.1f} times what the step takes",
        frames_per_s=rate,
        ratio=rate / step_rate,
    )


class Pictures(Dataset):
    """Two augmented views of a PNG file, made with Pillow as in torchvision's examples.

    Args:
        files: where the frames are.
        size: pixels of a view's side.
    """

    def __init__(self, files: list[Path], size: int) -> None:
        self.files = files
        self.change = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=(0.5, 1.0)),
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4)], p=0.8),
                transforms.RandomGrayscale(0.2),
                transforms.RandomApply([transforms.GaussianBlur(9)], p=0.5),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.files[number]) as opened:
            picture = opened.convert("RGB")
        return self.change(picture), self.change(picture)


def write_pictures(bench: Bench) -> list[Path]:
    """PNG files of smooth noise of 640 x 480 pixels, as frames come."""
    folder, rng = bench.folder / "pictures", np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    paths = [folder / f"v{number // 16:03d}_frame{number:05d}.png" for number in range(bench.sizes.files)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        if number < 32:
            small = Image.fromarray(rng.integers(0, 200, (60, 80), dtype=np.uint8))
            small.resize((640, 480), Image.Resampling.BICUBIC).convert("RGB").save(path)
        else:
            path.write_bytes(paths[number % 32].read_bytes())
    return paths


def plain_loader(bench: Bench) -> Outcome:
    """The same step, fed by a DataLoader that decodes PNG files and makes views with Pillow on all cores."""
    batch = min(bench.sizes.batches[0], bench.sizes.files)
    workers = (os.cpu_count() or 1) if bench.cuda else 0
    loader = DataLoader(
        Pictures(write_pictures(bench), bench.sizes.image),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=bench.cuda,
        persistent_workers=workers > 0,
        prefetch_factor=1 if workers else None,  # shared memory may be small
    )
    model, optimizer = bench.make_trained()

    def epoch() -> None:
        for pair in loader:
            views = torch.cat([view.to(bench.device, non_blocking=True) for view in pair])
            bare_step(model, optimizer, views.contiguous(memory_format=torch.channels_last))

    bench.seconds(epoch)
    theirs = len(loader) * batch / bench.seconds(epoch)
    steps = bench.sizes.steps
    run = bench.make_run(batch=batch, steps=steps)
    run.train_epoch()
    run.end_epoch({})
    ours = steps * batch / bench.seconds(run.train_epoch)
    return bench.judge(
        ours >= theirs,
        f"plain loader with {workers} processes {theirs:.0f} frames/s, ours {ours:.0f}, "
        f"{ours / theirs:.1f} times",
        plain=theirs,
        ours=ours,
    )


def mission(bench: Bench) -> Outcome:
    """An epoch of the mission's frames, the hours of its epochs, and the heads with their features."""
    frames, sizes = (
        RepeatedFrames(bench.frames, bench.sizes.frames_of_mission),
        progressive_sizes(bench.sizes.image),
    )
    cells, figures = [], {}
    for batch in bench.sizes.batches_of_mission:
        run = bench.make_run(batch=batch, frames=frames)  # type: ignore[arg-type]
        epoch_s = bench.seconds(run.train_epoch)
        run.end_epoch({})
        per_epoch, few, hours = (
            len(frames) // batch,
            bench.make_run(batch=batch, steps=bench.sizes.steps),
            0.0,
        )
        for size in sizes:
            few.sizes = (size,)
            few.train_epoch()
            few.end_epoch({})
            seconds = epoch_s
            if size != bench.sizes.image:
                seconds = bench.seconds(few.train_epoch) / bench.sizes.steps * per_epoch
                few.end_epoch({})
            hours += EPOCHS / len(sizes) * seconds / 3600
        figures[str(batch)] = {
            "epoch_s": epoch_s,
            "hours": hours,
            "hours_full_views": EPOCHS * epoch_s / 3600,
        }
        cells.append(
            f"batch {batch}: {epoch_s:.1f} s an epoch of {len(frames)} frames at {bench.sizes.image} px, "
            f"{EPOCHS} epochs {hours:.2f} h with growing views, {EPOCHS * epoch_s / 3600:.2f} h without"
        )
    rows, rng = np.arange(bench.sizes.labelled_of_mission) % len(bench.frames), np.random.default_rng(0)
    encoder = build("random", seed=0).to(bench.device).encoder
    how = {"size": bench.sizes.image, "device": bench.device}
    described: dict[str, np.ndarray] = {}
    features_s = bench.seconds(
        lambda: described.update(extract_with_ood_stats(encoder, bench.frames, rows, **how))
    )
    targets = {task: rng.integers(0, len(names), len(rows)) for task, names in CLASSES.items()}
    n_outputs = {task: len(names) for task, names in CLASSES.items()}
    train, val = np.arange(0, len(rows), 2), np.arange(1, len(rows), 2)
    config = HeadConfig(linear_epochs=LINEAR_EPOCHS, classifier_lr=1e-3, seed=0, head_seeds=3)
    head_targets = HeadTargets(targets, n_outputs)
    heads_s = bench.seconds(lambda: train_heads(described["features"], head_targets, train, val, config))
    cells.append(f"features of {len(rows)} frames {features_s:.1f} s, heads {heads_s:.1f} s")
    figures |= {"features_s": features_s, "heads_s": heads_s}
    return bench.judge(True, "; ".join(cells), **figures)


def write_model(bench: Bench) -> Path:
    """A `model.pt` of random weights."""
    path = bench.folder / "model.pt"
    heads = Heads({task: len(names) for task, names in CLASSES.items()})
    facts = ModelInfo(CLASSES, bench.sizes.image)
    save_classifier(path, Classifier(build("random", seed=0).encoder, heads, None, facts))
    return path


def inference(bench: Bench) -> Outcome:
    """`predict`: frames a second, decoding included and not, and its agreement with the processor."""
    path, files = write_model(bench), write_pictures(bench)
    model, side = load_model(path, device=bench.device.type), storage_size(bench.sizes.image)
    squares = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, 3, side, side), np.uint8)
    model.predict_squares(squares)
    rounds = max(1, len(files) // BATCH_SIZE)
    arrays = (
        rounds * BATCH_SIZE / bench.seconds(lambda: [model.predict_squares(squares) for _ in range(rounds)])
    )

    def write() -> None:
        inputs = find_inputs([str(files[0].parent)], BucketAccess(bench.folder, offline=True))
        reader = FrameReader(inputs, {}, DecodeOptions(side))
        PredictionRun(model, reader).write(bench.folder / "answers.csv")

    write()
    whole = len(files) / bench.seconds(write)
    exact = load_model(path, device="cpu").predict_squares(squares[:8])
    actual = model.predict_squares(squares[:8])
    apart = max(float(np.abs(actual.probabilities[t] - exact.probabilities[t]).max()) for t in CLASSES)
    text = f"{whole:.0f} frames/s from PNG files, {arrays:.0f} from arrays; "
    text += f"within {apart:.1e} of the processor's"
    if apart > 1e-4:
        return Outcome(FAILED, text, {"apart": apart})
    return bench.judge(True, text, files_per_s=whole, arrays_per_s=arrays, apart=apart)
