"""Differences between competitors with intervals that hold the chance of patients and of seeds.

    .venv/bin/python benchmarks/versus/patients.py --data FOLDER --out FOLDER

The encoders that `run.py` kept in --out/cache are judged once more, beside raw pixels, masks and three
untrained encoders; the predictions are kept. In each of 2,000 resamples the seeds are drawn anew, and the
patients, the same for both sides of a difference.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from versus import protocol

from simclr_rhd.core.files import write_json
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.heads.baselines import mask_features, pixel_features
from simclr_rhd.ssl.encoder.model import FEATURE_DIM, STAGE_DIMS, SimCLR, build

N_RESAMPLES = 2000
ENCODER = re.compile(r"(stopped|ours|lightly|controlled|reference)(?:-(\d+))?-(\d+)\.pt")
REFERENCES, N_UNTRAINED = ("stopped", "ours"), 3
Predictions = dict[str, list[list[int]]]  # {task: the predicted class of each frame, by assignment of folds}


Describe = Callable[[protocol.Task], np.ndarray]


def predict(describe: Describe, tasks: dict[str, protocol.Task], *, components: bool = False) -> Predictions:
    """Predictions of the probe on what `describe` gives for the frames of a task."""
    predictions = {}
    for name, task in tasks.items():
        x = describe(task)
        predictions[name] = [
            protocol.scores(x, task, seed=seed, components=components)["answers"]
            for seed in protocol.FOLD_SEEDS
        ]
    return predictions


def described_by(encoder: torch.nn.Module, dataset: Dataset, *, width: int, size: int) -> Describe:
    """The last `width` features of an encoder."""
    return lambda task: protocol.features(encoder, dataset, task, size=size)[:, -width:]


def collect(
    options: argparse.Namespace, dataset: Dataset, tasks: dict[str, protocol.Task]
) -> dict[str, list[Predictions]]:
    """{competitor: the predictions of each seed}, those that are not kept yet being made."""

    def kept(name: str, describe: Describe, *, components: bool = False) -> Predictions:
        path = options.out / f"patients-{name}.json"
        if not path.exists():
            write_json(path, predict(describe, tasks, components=components))
            print(f"{name}: done", flush=True)
        return json.loads(path.read_text())

    frames, how = dataset.store.frames, {"size": options.image_size}
    rows = {
        name: [kept(name, lambda task, of=of: of(frames, task.rows), components=True)]
        for name, of in (("pixels", pixel_features), ("mask", mask_features))
    }
    untrained = [build("random", seed=seed).encoder.eval() for seed in range(N_UNTRAINED)]
    rows["untrained"] = [
        kept(f"untrained-{seed}", described_by(encoder, dataset, width=FEATURE_DIM, **how))
        for seed, encoder in enumerate(untrained)
    ]
    for path in sorted((options.out / "cache").glob("*.pt")):
        for label, width in row_widths(path.name).items():
            describe = described_by(load_encoder(path), dataset, width=width, **how)
            rows.setdefault(label, []).append(kept(f"{path.stem}-{width}-{file_digest(path)}", describe))
    return rows


def row_widths(file: str) -> dict[str, int]:
    """{row of the table: features that it sees} of an encoder's file; courses of other lengths differ."""
    match = ENCODER.fullmatch(file)
    if not match:
        return {}
    arm = f"{match[1]} {match[2]}" if match[2] else match[1]
    last_stage = {} if match[1] in REFERENCES else {f"{arm}, last stage": STAGE_DIMS[-1]}
    return {arm: FEATURE_DIM} | last_stage


def file_digest(path: Path) -> str:
    """Eight digits of the file's SHA-256: predictions of an encoder that was replaced are not used again."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def load_encoder(path: Path) -> torch.nn.Module:
    """An encoder that a piece has kept, in eval mode."""
    encoder = SimCLR().encoder
    encoder.load_state_dict(torch.load(path, weights_only=True))
    return encoder.to(memory_format=torch.channels_last).eval()


def patient_weights(tasks: dict[str, protocol.Task], n_groups: int, rng: np.random.Generator) -> np.ndarray:
    """(1 + R, G) how often each of G patients is drawn: once, then in R resamples of those with a label."""
    tested = np.unique(np.concatenate([task.groups for task in tasks.values()]))
    weights = np.zeros((1 + N_RESAMPLES, n_groups))
    weights[0, tested] = 1
    weights[1:, tested] = rng.multinomial(len(tested), np.full(len(tested), 1 / len(tested)), N_RESAMPLES)
    return weights


def balanced_accuracies(predicted: np.ndarray, task: protocol.Task, weights: np.ndarray) -> np.ndarray:
    """(R,) balanced accuracy of (n,) predictions; weights (R, G) count patients."""
    groups, group = np.unique(task.groups, return_inverse=True)
    recalls = []
    for number in np.unique(task.true):
        rows = task.true == number
        hits = np.bincount(group[rows], predicted[rows] == number, minlength=len(groups))
        frames = np.bincount(group[rows], minlength=len(groups))
        with np.errstate(invalid="ignore"):
            recalls.append((weights[:, groups] @ hits) / (weights[:, groups] @ frames))
    return np.nanmean(recalls, axis=0)


def resampled_scores(
    of_seeds: list[Predictions], tasks: dict[str, protocol.Task], weights: np.ndarray
) -> np.ndarray:
    """(seeds, tasks, R) scores, the mean over the assignments of folds."""
    return np.array(
        [
            [
                np.mean([balanced_accuracies(np.array(of), task, weights) for of in seed[name]], axis=0)
                for name, task in tasks.items()
            ]
            for seed in of_seeds
        ]
    )


def differences(
    ours: np.ndarray, theirs: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(tasks + 1,) differences and (tasks + 1, R) resampled ones, the macro last; seeds are drawn anew."""
    n_resamples = ours.shape[2]
    columns = np.arange(n_resamples)
    means = []
    for scores in (ours, theirs):
        drawn = rng.integers(len(scores), size=(len(scores), n_resamples))
        drawn[:, 0] = np.arange(len(scores))
        means.append(np.mean([scores[seeds, :, columns] for seeds in drawn], axis=0).T)  # (tasks, R)
    less = means[0] - means[1]
    less = np.vstack([less, less.mean(axis=0)])
    return less[:, 0], less[:, 1:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=64)
    options = parser.parse_args()
    data = str(Path(options.data).resolve())
    dataset = protocol.read(data, options.out / "cache", image_size=options.image_size)
    tasks = protocol.tasks(dataset)
    rows = collect(options, dataset, tasks)
    rng = np.random.default_rng(0)
    weights = patient_weights(tasks, len(np.unique(dataset.groups)), rng)
    scores = {label: resampled_scores(of, tasks, weights) for label, of in rows.items()}
    print(f"| | {' | '.join(tasks)} | macro | seeds |\n|---|{'---|' * (len(tasks) + 2)}")
    for label, of in scores.items():
        means = of[:, :, 0].mean(axis=0)
        print(f"| {label} | {' | '.join(f'{x:.3f}' for x in (*means, means.mean()))} | {len(of)} |")
    for reference in (name for name in scores if name.split()[0] in REFERENCES):
        print(f"\n| {reference} minus | {' | '.join(tasks)} | macro |\n|---|{'---|' * (len(tasks) + 1)}")
        for label, of in scores.items():
            if label != reference:
                value, resampled = differences(scores[reference], of, rng)
                low, high = np.nanquantile(resampled, [0.025, 0.975], axis=1)
                cells = [f"{x:+.3f} ({a:+.3f} to {b:+.3f})" for x, a, b in zip(value, low, high, strict=True)]
                print(f"| {label} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
