"""Classifying: its speed, what it marks as foreign, and the memory of many frames.

    .venv/bin/python benchmarks/predict.py                           # speed at 224 pixels
    .venv/bin/python benchmarks/predict.py --foreign models/model.pt # what is marked as out of distribution
    .venv/bin/python benchmarks/predict.py --memory                  # peak memory of 20,000 and 500 frames

Speed: frames of 640 x 480 pixels (PNG) on disk, decoding included. The baseline is the way of the reference
implementation: Pillow decodes, pads, resizes, and the eager network takes one frame at a time. Weights are
random. Foreign: noise, smooth noise, drawn landscapes, parts of two photographs, flat pictures, and frames of
the demo; own: frames of the run beside the model that it has not learnt from.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from simclr_rhd import load_model  # noqa: E402
from simclr_rhd.core.device import make_deterministic  # noqa: E402
from simclr_rhd.core.threads import map_ordered  # noqa: E402
from simclr_rhd.data.decoding.image import decode_image, letterbox  # noqa: E402
from simclr_rhd.heads.model import Heads  # noqa: E402
from simclr_rhd.inference import classifier, export, parity  # noqa: E402
from simclr_rhd.inference.predictor import BATCH_SIZE, Model  # noqa: E402
from simclr_rhd.ssl.augment import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from simclr_rhd.ssl.encoder.model import build, stage_features  # noqa: E402

CLASSES = {"view": ["a", "b", "c"], "condition": ["a", "b"], "severity": ["a", "b"]}


def write_frames(folder: Path, n: int, *, kinds: int = 40) -> list[Path]:
    """`n` PNG files of 640 x 480 pixels, `kinds` of them different."""
    rng, paths = np.random.default_rng(0), []
    for number in range(n):
        path = folder / f"v{number // 20:05d}_frame{number % 20}.png"
        if number < kinds:
            small = Image.fromarray(rng.integers(0, 200, (60, 80), dtype=np.uint8)).resize((640, 480))
            speckle = rng.normal(scale=12, size=(480, 640))
            Image.fromarray((np.asarray(small) + speckle).clip(0, 255).astype(np.uint8)).convert("RGB").save(
                path
            )
        else:
            path.hardlink_to(paths[number % kinds])
        paths.append(path)
    return paths


def write_model(path: Path, size: int) -> Path:
    heads = Heads({task: len(names) for task, names in CLASSES.items()})
    facts = classifier.ModelInfo(CLASSES, size)
    classifier.save(path, classifier.Classifier(build("random", seed=0).encoder, heads, None, facts))
    return path


def reference(path: Path) -> Callable[[list[Path]], object]:
    """Pillow, eager, channels first, one frame at a time."""
    saved = classifier.load(path)
    encoder, heads = saved.encoder.to(memory_format=torch.contiguous_format), saved.heads
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    def one(frame: Path) -> object:
        image = Image.open(frame).convert("RGB")
        padded = Image.new("RGB", (max(image.size),) * 2)
        padded.paste(image, ((padded.width - image.width) // 2, (padded.height - image.height) // 2))
        small = np.asarray(padded.resize((256, 256), Image.Resampling.BILINEAR).resize((224, 224)))
        x = (torch.from_numpy(small.copy()).permute(2, 0, 1).float() / 255 - mean) / std
        return heads.probabilities(stage_features(encoder, x[None]))

    @torch.inference_mode()
    def run(frames: list[Path]) -> object:
        return [one(frame) for frame in frames]

    return run


def batches(frames: list[Path], side: int) -> object:
    some = []
    for pixels in map_ordered(
        lambda path: letterbox(decode_image(path.read_bytes()), side), frames, workers=2
    ):
        some.append(pixels)
        if len(some) == BATCH_SIZE:
            yield np.stack(some)
            some = []
    if some:
        yield np.stack(some)


def package_predictor(path: Path) -> Callable[[list[Path]], object]:
    model = load_model(path)
    return lambda frames: [model.predict_squares(some) for some in batches(frames, model.facts.stored_side)]


def onnx_predictor(path: Path, side: int) -> Callable[[list[Path]], object]:
    run = parity.run_onnx(path)
    return lambda frames: [
        run(np.ascontiguousarray(some.transpose(0, 2, 3, 1))) for some in batches(frames, side)
    ]


def speed(n: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames, path = write_frames(folder, n), write_model(folder / "model.pt", 224)
        saved = classifier.load(path)
        side = saved.facts.stored_side
        noise = np.random.default_rng(0).integers(0, 256, (8, 3, side, side), dtype=np.uint8)
        export.export_classifier(saved, noise, folder)
        runners = {
            "reference": reference(path),
            "PyTorch": package_predictor(path),
            "ONNX Runtime": onnx_predictor(folder / export.ONNX, side),
            "ONNX Runtime, 8 bits": onnx_predictor(folder / export.INT8, side),
        }
        seconds: dict[str, list[float]] = {runtime: [] for runtime in runners}
        for run in runners.values():
            run(frames[:BATCH_SIZE])
        for _ in range(runs):
            for runtime, run in runners.items():
                start = time.perf_counter()
                run(frames)
                seconds[runtime].append(time.perf_counter() - start)
    for runtime, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds["reference"], times, strict=True))
        print(f"{runtime}: {n / statistics.median(times):.1f} frames/s, {ratio:.2f} times the reference")


def landscape(rng: np.random.Generator) -> Image.Image:
    """A photograph as a test may draw it: a sky, hills, a sun, trees and a house, softened."""
    width, height = 320, 240
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    sky = rng.integers(90, 220, 3)
    for y in range(height):
        draw.line([(0, y), (width, y)], fill=tuple(int(v * (0.6 + 0.4 * y / height)) for v in sky))
    draw.ellipse([(x := int(rng.integers(0, 280))), 15, x + 40, 55], fill=(255, 240, 190))
    for level in range(3):
        base, colour = 110 + 40 * level, tuple(int(v) for v in rng.integers(40, 160, 3))
        xs = np.linspace(0, width, 12)
        ys = base + rng.normal(scale=18, size=12)
        draw.polygon([(0, height), *zip(xs, ys, strict=True), (width, height)], fill=colour)
    for _ in range(int(rng.integers(4, 12))):
        x, y = int(rng.integers(0, width)), int(rng.integers(130, 220))
        draw.rectangle([x, y - 30, x + 5, y], fill=(90, 60, 30))
        draw.ellipse([x - 12, y - 60, x + 17, y - 25], fill=(30, int(rng.integers(80, 160)), 40))
    x = int(rng.integers(40, 240))
    draw.rectangle([x, 150, x + 60, 200], fill=tuple(int(v) for v in rng.integers(100, 240, 3)))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(1))) + rng.normal(
        scale=6, size=(height, width, 3)
    )
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def random_crop(photograph: np.ndarray, rng: np.random.Generator) -> Image.Image:
    height, width, _ = photograph.shape
    h = int(rng.uniform(0.3, 1) * height)
    w = min(width, int(h * rng.uniform(0.8, 1.4)))
    y, x = (int(rng.integers(0, most + 1)) for most in (height - h, width - w))
    return Image.fromarray(photograph[y : y + h, x : x + w])


def foreign_images(n: int, cache_dir: Path) -> dict[str, list[Image.Image]]:
    from sklearn.datasets import load_sample_images

    from simclr_rhd.data.sources.open import make_demo

    rng = np.random.default_rng(0)

    def smooth(channels: int) -> Image.Image:
        small = rng.integers(
            0, 256, (int(rng.integers(4, 60)), int(rng.integers(4, 80)), channels), dtype=np.uint8
        )
        return Image.fromarray(small.squeeze()).resize((320, 240), Image.Resampling.BICUBIC)

    drawn = [landscape(rng) for _ in range(n)]
    photographs = [
        random_crop(photograph, rng) for photograph in load_sample_images().images for _ in range(n // 2)
    ]
    demo = sorted(make_demo(cache_dir, 96).rglob("*.png"))
    return {
        "noise": [Image.fromarray(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)) for _ in range(n)],
        "grey noise": [Image.fromarray(rng.integers(0, 256, (240, 320), dtype=np.uint8)) for _ in range(n)],
        "smooth noise": [smooth(3) for _ in range(n)],
        "smooth grey noise": [smooth(1) for _ in range(n)],
        "landscapes": drawn,
        "grey landscapes": [image.convert("L") for image in drawn],
        "parts of photographs": photographs,
        "the same in grey": [image.convert("L") for image in photographs],
        "one colour": [
            Image.new("RGB", (320, 240), tuple(rng.integers(0, 256, 3).tolist())) for _ in range(n)
        ],
        "frames of the demo": [Image.open(path) for path in demo[:: max(1, len(demo) // n)][:n]],
    }


def measure_out_of_distribution(path: Path, own: Path, n: int) -> None:
    """`own` is the --save-dir of the run, whose split.csv and record tell the frames of the test part."""
    import json

    model: Model = load_model(path)
    with tempfile.TemporaryDirectory() as name:
        for kind, images in foreign_images(n, Path(name)).items():
            print(f"{kind}: {model.predict(images).out_of_distribution.mean():.1%} of {len(images)} marked")
    data = Path(json.loads((own / "run.json").read_text())["config"]["data"])
    parts: dict[str, list[Path]] = {"val": [], "test": [], "held-out": []}
    with (own / "split.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            if row["part"] in parts:
                parts[row["part"]].append(data / row["path"])
    for part, frames in parts.items():
        if frames:
            print(
                f"own, {part}: {model.predict(frames).out_of_distribution.mean():.1%} of {len(frames)} marked"
            )


def memory() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_model(folder / "model.pt", 64)
        peaks = {}
        for n in (500, 20_000):
            frames = folder / f"frames-{n}"
            frames.mkdir()
            write_frames(frames, n)
            code = (
                "import sys, resource, main; status = main.main(sys.argv[1:]); "
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
            )
            arguments = ["predict", str(frames), "--model", str(model), "--out", str(folder / f"{n}.csv")]
            command = [sys.executable, "-c", code, *arguments, "--cache-dir", str(folder / "cache")]
            start = time.perf_counter()
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            peaks[n] = int(done.stdout.splitlines()[-1]) / 1024
            print(f"{n} frames: peak {peaks[n]:.0f} MB, {time.perf_counter() - start:.0f} s")
        print(f"ratio {peaks[20_000] / peaks[500]:.3f}")


def run() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--foreign", type=Path, metavar="MODEL")
    parser.add_argument("--own", type=Path, metavar="SAVE_DIR")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    make_deterministic()
    if options.foreign:
        measure_out_of_distribution(options.foreign, options.own or options.foreign.parent, options.frames)
    elif options.memory:
        memory()
    else:
        speed(options.frames, options.runs)


if __name__ == "__main__":
    run()
