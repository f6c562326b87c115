"""The recipe search: pretraining with one thing changed, for a fixed time on idle cores, judged by the probe.

    .venv/bin/python benchmarks/recipe.py --data FOLDER --out FOLDER --rate NAME...       steps a second
    .venv/bin/python benchmarks/recipe.py --data FOLDER --out FOLDER --seconds 180 NAME... three seeds of each
    .venv/bin/python benchmarks/recipe.py --out FOLDER --table                            what was found

The time is turned into epochs by the measured rate, so a run's result does not depend on what else the
machine does meanwhile. Recipes are compared by the inner folds (see `versus.protocol.scores`); with --data
the table ends with the score of the search itself, each test fold's recipe chosen without it.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from versus import protocol

from simclr_rhd.core import device as runtime
from simclr_rhd.planning.precision import resolve_precision
from simclr_rhd.ssl import augment
from simclr_rhd.ssl.batches import UnlabelledSet
from simclr_rhd.ssl.config import NO_WINDOW, AugmentConfig, PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder.features import extract
from simclr_rhd.ssl.encoder.model import STAGE_DIMS, build
from simclr_rhd.ssl.optim import default_learning_rate
from simclr_rhd.ssl.step import Step
from simclr_rhd.ssl.trainer import Trainer

SIZE = 64
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Recipe:
    """Settings of a pretraining; the search began at the defaults."""

    positives: str = "frame"
    temperature: float = 0.5
    crop_min: float = 0.5
    flip: float = 0.0
    jitter: float = 0.4
    grayscale: float = 0.2
    blur: float = 0.5
    rotation: float = 0.0
    window_min: float = NO_WINDOW
    speckle: float = 0.0  # deviation of multiplicative noise at most
    gain: float = 0.0  # of a random gain curve over depth
    batch_size: int = 64
    optimizer: str = "adamw"
    learning_rate: float | None = None
    weight_decay: float = 0.01
    projector_layers: int = 2
    projector_norm: bool = False  # a BatchNorm after the last layer
    ema: float = 0.0  # decay of the weights' average
    sizes: tuple[int, ...] = (SIZE,)  # of the views, in equal parts of the time
    precision: str = "float32"  # or 'auto', as the program's --precision
    stem: str = "imagenet"  # 'small': 3 x 3 with stride 1; 'nopool': no pooling after it


BASE = Recipe()
VIDEO = Recipe(positives="video")


GROWING = Recipe(positives="video", sizes=(32, 48, 64))


def changed(**what):
    return dataclasses.replace(VIDEO, **what)


def grown(**what):
    return dataclasses.replace(GROWING, **what)


def fast(**what):
    return dataclasses.replace(GROWING, precision="auto", **what)


RECIPES = {
    "base": BASE,
    "video": VIDEO,
    "t0.2": changed(temperature=0.2),
    "t0.1": changed(temperature=0.1),
    "flip": changed(flip=0.5),
    "grown": GROWING,
    "bfloat16": fast(),
    "lr2e-3": grown(learning_rate=2e-3),
    "lr3e-4": fast(learning_rate=3e-4),
    "batch32": fast(batch_size=32),
    "batch128": fast(batch_size=128),
    "t1.0": fast(temperature=1.0),
    "crop0.35": fast(crop_min=0.35),
    "crop0.7": fast(crop_min=0.7),
    "turned": fast(crop_min=0.35, rotation=30.0),
    "windows": fast(crop_min=0.35, rotation=30.0, window_min=0.65),
    "jitter0.8": fast(jitter=0.8),
    "jitter0.2": fast(jitter=0.2),
    "noblur": fast(blur=0.0),
    "speckle": fast(speckle=0.3),
    "gain": fast(gain=0.5),
    "norm": fast(projector_norm=True),
    "deep": fast(projector_layers=3),
    "ema": fast(ema=0.99),
    "sizes2": fast(sizes=(32, 64)),
    "nopool": changed(stem="nopool"),
    "small": changed(stem="small"),
    "wd0.1": fast(weight_decay=0.1),
    "lars": fast(optimizer="lars", learning_rate=0.3, weight_decay=1e-6),
}


class Views(Step):
    """A step with the views that are not in the package."""

    recipe = BASE

    def embed(self, batch):
        r = self.recipe
        views = self.views(batch)
        if r.speckle or r.gain:
            std = torch.tensor(augment.IMAGENET_STD).view(1, 3, 1, 1)
            mean = torch.tensor(augment.IMAGENET_MEAN).view(1, 3, 1, 1)
            x = views * std + mean
            g = torch.Generator().manual_seed(int(batch.view_params[0, 0, 0] * 2**24))
            n, _, h, w = x.shape
            if r.speckle:
                noise = torch.randn(n, 1, h, w, generator=g) * r.speckle * torch.rand(n, 1, 1, 1, generator=g)
                x = x * (1 + noise)
            if r.gain:
                curve = F.interpolate(
                    torch.rand(n, 1, 4, generator=g) * 2 - 1, size=h, mode="linear", align_corners=True
                )
                x = x * (1 + r.gain * curve.view(n, 1, h, 1))
            views = augment.normalise(x.clamp(0, 1))
        z0, z1 = self.model(views).chunk(2)
        return z0, z1


def make_model(recipe, seed):
    model = build("random", seed=seed)
    if recipe.stem == "nopool":
        model.encoder.maxpool = nn.Identity()
    elif recipe.stem == "small":
        torch.manual_seed(seed)
        model.encoder.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(model.encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
    if recipe.projector_layers == 3:
        torch.manual_seed(seed + 1)
        middle = [nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(inplace=True)]
        model.projector = nn.Sequential(*model.projector[:3], *middle, model.projector[3])
    if recipe.projector_norm:
        model.projector.append(nn.BatchNorm1d(128))
    return model.to(memory_format=torch.channels_last)


def make_run(recipe, dataset, seed, epochs):
    rows, model = protocol.pretraining_rows(dataset), make_model(recipe, seed)
    config = PretrainConfig(
        image_size=recipe.sizes[0],
        view_sizes="full",
        temperature=recipe.temperature,
        optimizer=recipe.optimizer,
        epochs=epochs,
        ema_decay=recipe.ema,
        seed=seed,
        num_workers=1,
        **{field.name: getattr(recipe, field.name) for field in dataclasses.fields(AugmentConfig)},
    )
    device = torch.device("cpu")
    settings = TrainingSettings(
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate or default_learning_rate(recipe.optimizer, recipe.batch_size),
        weight_decay=recipe.weight_decay,
        warmup_epochs=min(10, epochs / 10),
        positives=recipe.positives,
        precision=resolve_precision(recipe.precision, device),
    )
    step = Views(model, config, settings, device)
    step.recipe = recipe
    store = dataset.store
    data = UnlabelledSet(store.frames, store.color_modes, dataset.video_codes(), rows, store.keys)
    return Trainer(config, settings, step, data)


def seconds_per_epoch(recipe, dataset, runs=5):
    """Median over epochs, for each size of the views."""
    medians = []
    for size in recipe.sizes:
        run = make_run(recipe, dataset, 0, 1000)
        run.schedule.sizes = (size,)
        taken = []
        for _ in range(runs + 1):
            start = time.perf_counter()
            run.train_epoch()
            run.end_epoch({})
            taken.append(time.perf_counter() - start)
        medians.append(statistics.median(taken[1:]))
    return medians


def pretrain(recipe, dataset, seed, seconds, per_epoch):
    """The encoder after a budget of seconds on idle cores."""
    parts = [max(1, round(seconds / len(per_epoch) / s)) for s in per_epoch]  # epochs of each size
    run = make_run(recipe, dataset, seed, sum(parts))
    for size, epochs in zip(recipe.sizes, parts, strict=True):
        run.schedule.sizes = (size,)
        for _ in range(epochs):
            run.train_epoch()
            run.end_epoch({})
    return run.average.model.encoder


def features(encoder, frames, rows):
    """{stages: (n, D)}: the means of the last stage, and of all four."""
    x = extract(encoder, frames, rows, size=SIZE, device=torch.device("cpu"))
    return {"l4": x[:, -STAGE_DIMS[-1] :], "l1234": x}


def evaluate_encoder(encoder, dataset, kinds=("l4", "l1234")):
    """{description: {task: [scores of each fold assignment]}}."""
    results = {}
    for task, target in protocol.tasks(dataset).items():
        described = features(encoder, dataset.store.frames, target.rows)
        for kind in kinds:
            results.setdefault(kind, {})[task] = [
                protocol.scores(described[kind], target, seed=seed) for seed in protocol.FOLD_SEEDS
            ]
    return results


def load_or_train_encoder(name, seed, dataset, options, rates):
    """The encoder of a recipe and seed, trained now unless it was before."""
    recipe, path = RECIPES[name], options.out / f"{name}-{options.seconds:.0f}-{seed}.pt"
    if path.exists():
        encoder = make_model(recipe, seed).encoder
        encoder.load_state_dict(torch.load(path, weights_only=True))
        return encoder
    if name not in rates:
        sys.exit(f"{name}: its rate is not known; measure it first: --rate {name}")
    encoder = pretrain(recipe, dataset, seed, options.seconds, rates[name])
    torch.save(encoder.state_dict(), path)
    return encoder


def search(options):
    """Rates, or encoders and their scores, of the recipes that are named."""
    runtime.make_deterministic()
    dataset = protocol.read(options.data, options.out / "cache", image_size=SIZE)
    file = options.out / "rates.json"
    rates = json.loads(file.read_text()) if file.exists() else {}
    for name in options.names:
        if options.rate:
            rates[name] = seconds_per_epoch(RECIPES[name], dataset)
            file.write_text(json.dumps(rates, indent=1))
            print(name, rates[name], flush=True)
            continue
        for seed in SEEDS:
            result = options.out / f"{name}-{options.seconds:.0f}-{seed}.json"
            if not result.exists():
                scores = evaluate_encoder(load_or_train_encoder(name, seed, dataset, options, rates), dataset)
                result.write_text(json.dumps(scores))
                print(name, seed, flush=True)


def read_results(options):
    """{name: [scores of each seed]} of what was done in so many seconds."""
    results = {}
    for name in options.names or RECIPES:
        paths = [options.out / f"{name}-{options.seconds:.0f}-{seed}.json" for seed in SEEDS]
        if all(path.exists() for path in paths):
            results[name] = [json.loads(path.read_text())[options.features] for path in paths]
    return results


def inner_score(of_seed, task):
    return float(np.mean([one["inner"] for one in of_seed[task]]))


def print_table(options):
    """Inner scores of all recipes, and their difference from the one they are held against."""
    results = read_results(options)
    rows = {
        name: {task: [inner_score(one, task) for one in seeds] for task in protocol.TASKS}
        for name, seeds in results.items()
    }
    macro = {name: np.mean(list(row.values()), axis=0) for name, row in rows.items()}
    print(f"| | {' | '.join(protocol.TASKS)} | macro | macro minus {options.against} |")
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        cells = [protocol.spread(values) for values in (*row.values(), macro[name])]
        less = macro[name] - macro[options.against] if options.against in macro else []
        against = protocol.interval(less) if len(less) and name != options.against else ""
        print(f"| {name} | {' | '.join(cells)} | {against} |")
    if options.data:
        nested_selection(results, protocol.read(options.data, options.out / "cache", image_size=SIZE))


def nested_selection(results, dataset):
    """The test score when each fold's recipe is the one that is best outside it: what the search is worth.

    Each task chooses by itself: the folds of another hold other patients together.
    """
    targets, chosen, scores = protocol.tasks(dataset), Counter(), {task: [] for task in protocol.TASKS}
    for number, fold_seed in enumerate(protocol.FOLD_SEEDS):
        for task, of_task in targets.items():
            best = []
            for fold in range(protocol.FOLDS):
                outside = {
                    name: np.mean([one[task][number]["inner"][fold] for one in seeds])
                    for name, seeds in results.items()
                }
                best.append(max(outside, key=outside.get))
            chosen.update(best)
            tests = protocol.assign_folds(of_task, seed=fold_seed)
            for seed in SEEDS:
                predictions = np.array(
                    [results[best[fold]][seed][task][number]["answers"] for fold in range(5)]
                )
                predicted = predictions[tests, np.arange(len(tests))]
                scores[task].append((seed, balanced_accuracy_score(of_task.true, predicted)))
    means = {
        task: [np.mean([score for of, score in pairs if of == seed]) for seed in SEEDS]
        for task, pairs in scores.items()
    }
    text = ", ".join(f"{task} {protocol.spread(values)}" for task, values in means.items())
    macro = np.mean(list(means.values()), axis=0)
    print(f"\nnested: {text}, macro {protocol.spread(macro)}; chosen: {dict(chosen.most_common())}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--rate", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--features", choices=("l4", "l1234"), default="l4", help="stages of the encoder")
    parser.add_argument("--against", default="grown")
    options = parser.parse_args()
    (options.out / "cache").mkdir(parents=True, exist_ok=True)
    (print_table if options.table else search)(options)


if __name__ == "__main__":
    main()
