"""The two views of a batch against the usual chain of PIL and torchvision, image by image.

    .venv/bin/python benchmarks/augment.py [--colour] [--batch-size 64] [--runs 5]

Ours reads stored frames of 256 pixels from a memory-mapped store, draws their random numbers and makes both
views of the whole batch. The reference chain has its frames decoded in memory, pads each onto a big canvas,
and transforms it once a view. A variant spares the reference its canvas and starts from 256-pixel squares.
All end with normalised views of 224 pixels in one batch, and run in this process in turn, on one thread; the
medians over the runs are printed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simclr_rhd.core import device as runtime
from simclr_rhd.data.decoding.image import COLOR, GREY
from simclr_rhd.data.store.shards import Frames, ShardWriter
from simclr_rhd.ssl.augment import IMAGENET_MEAN, IMAGENET_STD, two_views
from simclr_rhd.ssl.batches import Batches, UnlabelledSet
from simclr_rhd.ssl.config import PRESETS

SIZE, SIDE = 224, 256  # pixels of a view's and of a stored frame's side
WIDTH, HEIGHT = 640, 480  # pixels of a frame as it comes from the scanner
STRENGTHS = PRESETS["standard"]
CANVAS = transforms.Pad((40, 60, 550, 400))
REFERENCE = transforms.Compose(
    [
        transforms.Resize(SIDE),
        transforms.RandomResizedCrop(SIZE),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        transforms.RandomGrayscale(0.2),
        transforms.GaussianBlur(9),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
)


def stored(folder, pixels, kind):
    """A memory-mapped store of (N, H, W, 3) uint8 squares, all of one kind, and their kinds."""
    writer = ShardWriter(folder)
    for frame in pixels.transpose(0, 3, 1, 2):
        writer.append(frame, kind)
    writer.finish()
    kinds = np.full(len(pixels), kind, dtype=np.uint8)
    return Frames(folder, kinds, SIDE), kinds


def project_views(frames, kinds, epoch):
    """Work of a training step before its model; the only place that knows those interfaces."""
    rows = np.arange(len(kinds))
    batch = Batches(UnlabelledSet(frames, kinds, rows, rows), seed=0, epoch=epoch)[
        rows
    ]  # each frame a video of its own
    return two_views(batch.frames, batch.color_modes, batch.view_params, size=SIZE, augment_config=STRENGTHS)


def reference_views(chain, images, epoch):
    torch.manual_seed(epoch)
    return torch.stack([chain(image) for _ in range(2) for image in images])


def pictures(generator, n, height, width, colour):
    """Smooth noise, (n, height, width, 3) uint8: pixels beside each other are alike, as in ultrasound."""
    coarse = generator.integers(0, 256, (n, height // 8, width // 8, 3 if colour else 1), dtype=np.uint8)
    images = [
        Image.fromarray(c.squeeze()).resize((width, height), Image.Resampling.BILINEAR).convert("RGB")
        for c in coarse
    ]
    return np.stack([np.asarray(image) for image in images])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--colour", action="store_true", help="tinted frames instead of grey ones")
    options = parser.parse_args()
    runtime.make_deterministic()
    torch.set_num_threads(1)
    generator, n = np.random.default_rng(0), options.batch_size
    squares = pictures(generator, n, SIDE, SIDE, options.colour)
    wide = pictures(generator, n, HEIGHT, WIDTH, options.colour)
    with tempfile.TemporaryDirectory() as folder:
        frames, kinds = stored(Path(folder), squares, COLOR if options.colour else GREY)
        makers = {
            "project": partial(project_views, frames, kinds),
            "reference": partial(
                reference_views,
                transforms.Compose([CANVAS, REFERENCE]),
                [Image.fromarray(pixels) for pixels in wide],
            ),
            "without canvas": partial(
                reference_views, REFERENCE, [Image.fromarray(pixels) for pixels in squares]
            ),
        }
        taken = {name: [] for name in makers}
        for epoch in range(options.runs + 1):
            for name, views in makers.items():
                start = time.perf_counter()
                made = views(epoch)
                taken[name].append(time.perf_counter() - start)
                assert made.shape == (2 * n, 3, SIZE, SIZE) and made.dtype == torch.float32
                del made
    for name, (_, *seconds) in taken.items():  # the first run only warmed up
        rate = 2 * n / statistics.median(seconds)
        ratio = statistics.median(
            theirs / ours for ours, theirs in zip(taken["project"][1:], seconds, strict=True)
        )
        print(f"{name:>14}: {rate:6.1f} views/s, the project makes {ratio:.2f} times as many")
    print(
        f"{'colour' if options.colour else 'grey'} frames, batch {n}, {SIZE} px, {torch.get_num_threads()} "
        f"thread, median of {options.runs} runs, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
