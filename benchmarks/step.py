"""The training step on a processor: its convolutions, its arithmetic, and the program's loop around it.

    .venv/bin/python benchmarks/step.py [--image-size 64 96 224] [--batch-size 64] [--runs 5] [--steps 8]
    .venv/bin/python benchmarks/step.py --plain [--image-size 64] [--precision float32 bfloat16]
    .venv/bin/python benchmarks/step.py --convolutions [--image-size 64]

The first command holds the loop against the bare step (forward, backward and optimizer on a tensor in
memory). The loop is the program's own (`Trainer.train_epoch`): reading from a memory-mapped store, random
numbers, two views, NT-Xent, optimizer, the moving average, the state that a stop could save.

`--plain` holds the bare step against the same step without what makes it fast: with PyTorch's own
convolutions (`simclr_rhd/ssl/encoder/convolution.py`), and with each new tensor filled before it is written
(`device.make_deterministic`).

`--convolutions` times the ways of each convolution of the network, forward and backward.

All that is compared runs in this process, in turn; medians over the runs are printed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simclr_rhd.core import device as runtime
from simclr_rhd.core.device import has_amx
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.data.store.shards import Frames, ShardWriter
from simclr_rhd.ssl.batches import UnlabelledSet
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder import convolution
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.loss import nt_xent
from simclr_rhd.ssl.optim import make_optimizer
from simclr_rhd.ssl.step import PRECISIONS, Step
from simclr_rhd.ssl.trainer import Trainer


def bare_step(model, optimizer, views):
    optimizer.zero_grad(set_to_none=True)
    z0, z1 = model(views).chunk(2)
    nt_xent(z0, z1).backward()
    optimizer.step()


def median_seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def make_views(batch_size, size):
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(2 * batch_size, 3, size, size, generator=generator)
    return views.contiguous(memory_format=torch.channels_last)


def make_trained(precision, *, plain=False):
    """A model in training mode and its optimizer."""
    model = build("random", seed=0).train()
    model.precision = PRECISIONS[precision]
    if plain:
        use_plain_convolutions(model)
    return model, make_optimizer(model, "adamw", learning_rate=1e-3, weight_decay=0.01)


def use_plain_convolutions(model):
    """Put PyTorch's own convolutions back."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, convolution.SmallMapConv2d):
                channels = child.in_channels, child.out_channels
                conv = nn.Conv2d(*channels, child.kernel_size, child.stride, child.padding, bias=False)
                conv.weight = child.weight
                setattr(module, name, conv)


def make_run(folder, size, n, batch_size, kind, precision):
    rng, side, writer = np.random.default_rng(0), storage_size(size), ShardWriter(folder)
    for _ in range(n):
        writer.append(rng.integers(0, 256, (1 if kind == 0 else 3, side, side), np.uint8), kind)
    writer.finish()
    kinds = np.full(n, kind, np.uint8)
    config = PretrainConfig(image_size=size, view_sizes="full", ema_decay=0.99, seed=0, num_workers=0)
    settings = TrainingSettings(batch_size=batch_size, warmup_epochs=1.0, precision=precision)
    step = Step(make_trained(precision)[0], config, settings, torch.device("cpu"))
    data = UnlabelledSet(Frames(folder, kinds, side), kinds, np.arange(n), np.arange(n))
    return Trainer(config, settings, step, data)


def compare_loop(folder, size, precision, options):
    """The bare step's time to that of the loop's."""
    n, kind = options.batch_size * options.steps, int(options.colour)
    run = make_run(folder, size, n, options.batch_size, kind, precision)
    views = make_views(options.batch_size, size)
    bare_step(run.model, run.optimizer, views)
    run.train_epoch()
    run.end_epoch({})
    ratios = []
    for number in range(options.runs):
        bare = median_seconds(
            lambda: [bare_step(run.model, run.optimizer, views) for _ in range(options.steps)]
        )
        loop = median_seconds(run.train_epoch)
        run.end_epoch({})
        ratios.append(bare / loop)
        print(
            f"{size} px, {precision}, run {number + 1}: bare {bare / options.steps * 1e3:.0f} ms, loop "
            f"{loop / options.steps * 1e3:.0f} ms a step, {n / loop:.1f} frames/s, "
            f"loop at {bare / loop:.1%} of the bare step",
            flush=True,
        )
    return f"loop at {statistics.median(ratios):.1%} of the bare step"


def compare_plain(size, precision, options):
    """The plain step's time to that of ours."""
    views, arms = make_views(options.batch_size, size), {}
    for name in ("plain", "ours"):
        arms[name] = make_trained(precision, plain=name == "plain")
    seconds = {name: [] for name in arms}
    for _ in range(2 + options.runs):
        for name, (model, optimizer) in arms.items():
            torch.utils.deterministic.fill_uninitialized_memory = name == "plain"
            steps = [median_seconds(lambda: bare_step(model, optimizer, views)) for _ in range(options.steps)]  # noqa: B023
            seconds[name].append(statistics.median(steps))
    torch.utils.deterministic.fill_uninitialized_memory = False
    ratios = [plain / ours for plain, ours in zip(seconds["plain"][2:], seconds["ours"][2:], strict=True)]
    medians = {name: statistics.median(of[2:]) * 1e3 for name, of in seconds.items()}
    return (
        f"plain {medians['plain']:.0f} ms, ours {medians['ours']:.0f} ms a step; plain / ours "
        f"{statistics.median(ratios):.2f} (each run: {', '.join(f'{x:.2f}' for x in ratios)})"
    )


def convolution_shapes(model, views):
    """{shape: [a convolution of that shape, its input, how many there are]} of all but the stem."""
    shapes = {}

    def note(conv, inputs, output):
        key = (*inputs[0].shape[1:], conv.out_channels, conv.kernel_size[0], conv.stride[0])
        shapes.setdefault(key, [conv, inputs[0].detach(), 0])[2] += 1

    convolutions = [m for m in model.modules() if isinstance(m, convolution.SmallMapConv2d)]
    hooks = [conv.register_forward_hook(note) for conv in convolutions]
    model.eval()(views)
    for hook in hooks:
        hook.remove()
    return shapes


def print_convolutions(size, precision, options):
    """A line for each shape: milliseconds of each way, and the way that is chosen."""
    dtype = PRECISIONS[precision] or torch.float32
    for conv, x, count in convolution_shapes(
        build("random", seed=0), make_views(options.batch_size, size)
    ).values():
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        x = x.to(dtype).requires_grad_()
        weight = conv.weight.detach().to(dtype).requires_grad_()
        whole = kernel == 3 and max(x.shape[-2:]) <= 2
        algorithms = [convolution.NATIVE, convolution.IM2COL] + [convolution.DENSE] * whole
        times = {algorithm: ([], []) for algorithm in algorithms}
        for _ in range(2 + options.runs):
            for algorithm in algorithms:
                start = time.perf_counter()
                y = convolution.convolve(x, weight, stride, convolution.Algorithms(algorithm, algorithm))
                middle = time.perf_counter()
                torch.autograd.grad(y, (x, weight), torch.ones_like(y))
                times[algorithm][0].append(middle - start)
                times[algorithm][1].append(time.perf_counter() - middle)
        sides = (*x.shape[-2:], *y.shape[-2:])
        chosen = convolution.choose_algorithms(convolution.Shape(*sides, kernel), dtype, amx=has_amx())
        cells = "; ".join(
            f"{algorithm} {statistics.median(f[2:]) * 1e3:.2f} + {statistics.median(b[2:]) * 1e3:.2f}"
            for algorithm, (f, b) in times.items()
        )
        print(
            f"{size} px, {precision}: {count} x {x.shape[1]} to {conv.out_channels} channels, "
            f"kernel {kernel}, {sides[0]} x {sides[1]} -> {sides[2]} x {sides[3]}; "
            f"ms forward + backward: {cells}; chosen: {chosen.forward} + {chosen.backward}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-size", type=int, nargs="+", default=[64, 96, 224])
    parser.add_argument("--precision", nargs="+", default=["float32"], choices=("float32", "bfloat16"))
    for name, default in {"batch-size": 64, "runs": 5, "steps": 8}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--colour", action="store_true", help="tinted frames instead of grey ones")
    parser.add_argument("--plain", action="store_true", help="against PyTorch's own convolutions")
    parser.add_argument("--convolutions", action="store_true", help="the ways of each convolution")
    options = parser.parse_args()
    runtime.make_deterministic()
    results = {}
    for size in options.image_size:
        for precision in options.precision:
            if options.convolutions:
                print_convolutions(size, precision, options)
            elif options.plain:
                results[size, precision] = compare_plain(size, precision, options)
                print(f"{size} px, {precision}: {results[size, precision]}", flush=True)
            else:
                with tempfile.TemporaryDirectory() as folder:
                    results[size, precision] = compare_loop(Path(folder), size, precision, options)
    for (size, precision), text in results.items():
        print(f"median at {size} px, {precision}: {text}")
    print(
        f"batch {options.batch_size}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"AMX: {has_amx()}"
    )


if __name__ == "__main__":
    main()
