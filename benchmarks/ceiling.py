"""The demo's ceiling: a ResNet-18 trained with the labels of many drawn patients, and tested on others.

    .venv/bin/python benchmarks/ceiling.py [--patients 1430] [--epochs 15]

Where even it fails, the drawing does not show at this size what it asks for. All patients but one are
labelled; 70 % are learnt from, 15 % choose the heads' epoch and penalty, and 15 % are tested. The network
starts untrained and learns all tasks at once by class-weighted cross-entropy, all its layers and BatchNorm's
statistics, from crops of 0.8 and more of a frame, which hide no valve. Then the program's heads are trained
on its features.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simclr_rhd.core.device import make_deterministic  # noqa: E402
from simclr_rhd.core.seeding import Stream, make_rng  # noqa: E402
from simclr_rhd.data.config import DataConfig  # noqa: E402
from simclr_rhd.data.dataset import Dataset  # noqa: E402
from simclr_rhd.data.demo.dataset import write_demo  # noqa: E402
from simclr_rhd.data.labelled_set import LabelledSet, build_labelled_set  # noqa: E402
from simclr_rhd.data.load import read_dataset  # noqa: E402
from simclr_rhd.data.sources.open import open_data  # noqa: E402
from simclr_rhd.evaluation.targets import evaluate  # noqa: E402
from simclr_rhd.heads.config import HeadConfig  # noqa: E402
from simclr_rhd.heads.cross_validation import OURS, UNCALIBRATED, head_targets  # noqa: E402
from simclr_rhd.heads.losses import HeadTargets, class_weights, task_losses  # noqa: E402
from simclr_rhd.heads.model import predict  # noqa: E402
from simclr_rhd.heads.train import train_heads  # noqa: E402
from simclr_rhd.ssl.augment import random_views, sample_view_params  # noqa: E402
from simclr_rhd.ssl.config import AugmentConfig  # noqa: E402
from simclr_rhd.ssl.encoder.features import extract  # noqa: E402
from simclr_rhd.ssl.encoder.model import FEATURE_DIM, build, stage_features  # noqa: E402

PARTS = ("train", "val", "test")
VIEWS = AugmentConfig(crop_min=0.8, jitter=0.4, rotation=30.0)
BATCH_SIZE = 64
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Training:
    """Knobs of the supervised training; the rate rises and falls within one cycle."""

    epochs: int
    size: int
    learning_rate: float
    seed: int


def read_demo(folder: Path, patients: int, training: Training) -> Dataset:
    """Draw the patients and read them as the main job does; all but one are labelled."""
    write_demo(folder, patients=patients + 1, labelled_fraction=patients / (patients + 1))
    config = DataConfig(
        data=str(folder),
        image_size=training.size,
        group_by="patient",
        seed=training.seed,
        cache_dir=str(folder),
    )
    return read_dataset(open_data(config), config, rejected_csv=folder / "rejected.csv")


def train_with_labels(
    dataset: Dataset, targets: HeadTargets, train: np.ndarray, training: Training
) -> nn.Module:
    """Train a ResNet-18 and a linear layer for each task on the labelled frames `train`; the encoder."""
    rows, color_modes = dataset.labelled(), np.asarray(dataset.store.color_modes)
    encoder = build("random", seed=training.seed).encoder.train()
    outputs = nn.ModuleDict({task: nn.Linear(FEATURE_DIM, n) for task, n in targets.n_outputs.items()})
    labels = {task: torch.from_numpy(values) for task, values in targets.values.items()}
    weights = {
        task: class_weights(labels[task][train], n, "balanced") for task, n in targets.n_outputs.items()
    }
    parameters, per_epoch = [*encoder.parameters(), *outputs.parameters()], len(train) // BATCH_SIZE
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=training.learning_rate, total_steps=training.epochs * per_epoch
    )

    def loss_of(batch: np.ndarray, epoch: int) -> Tensor:
        params, _ = sample_view_params(training.seed, epoch, rows[batch], Stream.FINETUNE_VIEWS)
        stored = (torch.from_numpy(part[rows[batch]]) for part in (dataset.store.frames, color_modes))
        views = random_views(*stored, params[:, 0], size=training.size, augment_config=VIEWS)
        features = stage_features(encoder, views)
        logits = {task: output(features)[:, None] for task, output in outputs.items()}
        known = {task: of_task[batch] for task, of_task in labels.items()}
        return torch.cat(list(task_losses(logits, known, weights).values())).sum()

    for epoch in range(training.epochs):
        order = make_rng(training.seed, Stream.FINETUNE_BATCHES, epoch).permutation(train)
        losses = []
        for batch in np.array_split(order, per_epoch):
            loss = loss_of(batch, epoch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{training.epochs}: loss {np.mean(losses):.4f}", flush=True)
    return encoder.eval()


def print_scores(labelled_set: LabelledSet, probabilities: dict[str, np.ndarray], seed: int) -> None:
    """Balanced accuracy of each task with its interval, and the recall of each class per video."""
    tables = {OURS: [probabilities], UNCALIBRATED: [probabilities]}
    parts = {part: len(np.unique(labelled_set.groups[labelled_set.folds[0] == part])) for part in PARTS}
    print(", ".join(f"{n} patients in {part}" for part, n in parts.items()))
    for name, result in evaluate(labelled_set, tables, seed=seed).items():
        for level in ("frame", "video"):
            score = result.test[level]["balanced_accuracy"]
            print(f"{name} per {level}: {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]")
        for label, row in result.test["video"].per_class.items():
            print(f"    {label}: recall {row['recall'].value:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--patients", type=int, default=1430)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--size", type=int, default=64, help="pixels of a view's side")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    make_deterministic()
    start, training = time.perf_counter(), Training(args.epochs, args.size, args.learning_rate, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        dataset = read_demo(Path(folder), args.patients, training)
        labelled_set = build_labelled_set(dataset, multilabel=False)
        targets = head_targets(labelled_set)
        train, val = labelled_set.rows(0, "train"), labelled_set.rows(0, "val")
        encoder = train_with_labels(dataset, targets, train, training)
        features = extract(encoder, dataset.store.frames, dataset.labelled(), size=args.size, device=CPU)
        config = HeadConfig(linear_epochs=20, classifier_lr=1e-3, seed=args.seed, head_seeds=1)
        heads = train_heads(features, targets, train, val, config).heads
        print_scores(labelled_set, predict(heads, features), args.seed)
        print(f"{(time.perf_counter() - start) / 60:.1f} min")


if __name__ == "__main__":
    main()
