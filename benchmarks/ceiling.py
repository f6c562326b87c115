"""The demo's ceiling: a ResNet-18 trained with the labels of many drawn patients, and tested on others.

    .venv/bin/python benchmarks/ceiling.py [--patients 1350] [--epochs 15]

Where even it fails, the drawing does not show at this size what it asks for. All patients but one are
labelled; 70 % are learnt from, 15 % chosen on and 15 % tested. The network starts untrained, and learns by
the program's own fine-tuning.
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simclr_rhd.core.device import make_deterministic  # noqa: E402
from simclr_rhd.data.config import DataConfig  # noqa: E402
from simclr_rhd.data.demo.dataset import write_demo  # noqa: E402
from simclr_rhd.data.labelled_set import build_labelled_set  # noqa: E402
from simclr_rhd.data.load import read_dataset  # noqa: E402
from simclr_rhd.data.sources.open import open_data  # noqa: E402
from simclr_rhd.evaluation.targets import evaluate  # noqa: E402
from simclr_rhd.heads.config import FinetuneConfig  # noqa: E402
from simclr_rhd.heads.cross_validation import OURS, UNCALIBRATED, head_targets  # noqa: E402
from simclr_rhd.heads.finetune import FinetuneData, finetune  # noqa: E402
from simclr_rhd.heads.train import train_heads  # noqa: E402
from simclr_rhd.ssl.encoder.features import extract  # noqa: E402
from simclr_rhd.ssl.encoder.model import build  # noqa: E402

PARTS = ("train", "val", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--patients", type=int, default=1350)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--size", type=int, default=64, help="pixels of a view's side")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    make_deterministic()
    device, start = torch.device("cpu"), time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        write_demo(
            Path(cache), patients=args.patients + 1, labelled_fraction=args.patients / (args.patients + 1)
        )
        config = DataConfig(
            data=cache,
            image_size=args.size,
            group_by="patient",
            seed=args.seed,
            cache_dir=cache,
        )
        dataset = read_dataset(open_data(config), config, rejected_csv=Path(cache, "rejected.csv"))
        labelled_set, rows = build_labelled_set(dataset, multilabel=False), dataset.labelled()
        train, val = labelled_set.rows(0, "train"), labelled_set.rows(0, "val")
        knobs = FinetuneConfig(
            image_size=args.size,
            seed=args.seed,
            linear_epochs=2,
            head_seeds=1,
            head_l2=1e-4,
            classifier_lr=args.learning_rate,
            finetune_epochs=args.epochs,
            finetune_lr=args.learning_rate,
        )
        encoder, targets = build("random", seed=args.seed).encoder, head_targets(labelled_set)
        features = extract(encoder, dataset.store.frames, rows, size=args.size, device=device)
        heads = train_heads(features, targets, train, val, knobs).heads
        data = FinetuneData(
            dataset.store.frames, np.asarray(dataset.store.color_modes), rows, targets, train, val
        )
        tuned = finetune(encoder, heads, data, knobs, device, patience=args.epochs)
        tables = {OURS: [tuned.probabilities], UNCALIBRATED: [tuned.probabilities]}
        parts = {part: len(np.unique(labelled_set.groups[labelled_set.folds[0] == part])) for part in PARTS}
        print(", ".join(f"{n} patients in {part}" for part, n in parts.items()))
        for name, result in evaluate(labelled_set, tables, seed=args.seed).items():
            for level in ("frame", "video"):
                score = result.test[level]["balanced_accuracy"]
                print(f"{name} per {level}: {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]")
            for label, row in result.test["video"].per_class.items():
                print(f"    {label}: recall {row['recall'].value:.3f}")
        print(f"{(time.perf_counter() - start) / 60:.1f} min")


if __name__ == "__main__":
    main()
