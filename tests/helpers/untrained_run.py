"""A run's end on data that a test makes in memory: any names, any classes, no training of the encoder."""

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import torch
from small_simclr import small_networks, small_simclr

from simclr_rhd.cli.command_line import parse
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.dataset import build_dataset
from simclr_rhd.data.decoding.decode import OK
from simclr_rhd.data.decoding.image import GREY, storage_size
from simclr_rhd.data.labels.labels import Labels
from simclr_rhd.data.labels.vocabulary import DEFAULT_TASKS
from simclr_rhd.data.store.store import Store
from simclr_rhd.data.summary.counts import summarize
from simclr_rhd.pipeline import evaluate_encoders
from simclr_rhd.runs.context import RunContext
from simclr_rhd.runs.record import RunRecord
from simclr_rhd.ssl.pretrain import PretrainedEncoders

SIZE = 32


class FakeEmbeddingWorker:
    """Maps at once: UMAP's own start takes ten seconds, and has tests of its own."""

    def __init__(self, features, *, seed, rehearsal):
        self.rehearsal = rehearsal
        self.points = np.random.default_rng(seed).normal(size=(2, len(features), 2)).astype(np.float32)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def maps(self, timeout_s=None):
        return dict(zip(("t-SNE", "UMAP"), self.points, strict=True))


def make_dataset(
    classes, *, patients=30, frames=3, prefix="echo", rejected=(), folds=1, seed=0, tasks=DEFAULT_TASKS
):
    """Frames whose brightness tells their class.

    Patient `p<n>` has a labelled and an unlabelled video; the last sixth of them have no labels.
    `classes` are {task: names}; `prefix` stands in each file's name, before the patient's identifier.
    """
    rng, names = np.random.default_rng(seed), [task.name for task in tasks]
    keys, videos, of, values, pictures = [], [], [], defaultdict(list), []
    for patient in range(patients):
        for kind in ("labelled", "unlabelled"):
            video = f"{kind}/{prefix}_p{patient}-{kind}"
            for number in range(frames):
                keys.append(f"{video}_frame{number}.png")
                videos.append(video)
                of.append(f"p{patient}")
                picture = rng.integers(0, 80, (3, storage_size(SIZE), storage_size(SIZE)))
                for task in names:
                    known = kind == "labelled" and patient < 5 * patients // 6 and classes.get(task)
                    number_of = patient % len(classes[task]) if known else -1
                    values[task].append(number_of)
                    picture += 6 * max(number_of, 0)
                pictures.append(picture.clip(0, 255).astype(np.uint8))
    n = len(keys)
    store = Store(
        frames=np.stack(pictures),
        keys=keys,
        files=keys,
        color_modes=np.full(n, GREY + 1, np.uint8),
        content_flags=np.full(n, OK, np.uint8),
        digests=np.arange(n, dtype=np.uint64),
        sizes=np.full((n, 2), 640, np.uint32),
        patients={},
        rejected=list(rejected),
        fingerprint="0",
    )
    labels = Labels(
        classes={task: list(classes.get(task, ())) for task in names},
        values={task: np.array(values[task]) for task in names},
        videos=videos,
        patients=of,
        table_patients=sorted(set(of)),
        ambiguous_patients=[],
        conflicts=[],
        agreement=[],
        rows_without_file=[],
        files_without_row=[],
        tasks=tasks,
    )
    return build_dataset(store, labels, "0", DataConfig(folds=folds, seed=seed))


def evaluate_run(dataset, save_dir, monkeypatch, *flags, projection=FakeEmbeddingWorker, **run_facts):
    """What follows pretraining, on an encoder that has learnt nothing; `save_dir` has all files then."""
    monkeypatch.setattr("simclr_rhd.report.build.EmbeddingWorker", projection)
    words = f"--image-size {SIZE} --linear-epochs 3 --head-seeds 1 --folds {len(dataset.folds)}".split()
    config = parse([*words, "--save-dir", str(save_dir), *flags])
    save_dir.mkdir(exist_ok=True)
    source = SimpleNamespace(listed=len(dataset.part), fetched=0, remote=False)
    counts = summarize(dataset, source).to_json()
    record = RunRecord(None, argv=words, config=vars(config), data={"location": "in memory"}, counts=counts)
    record.write_to(save_dir / "run.json")
    history = [
        {"phase": "simclr", "epoch": epoch, "loss": 4 / epoch, "val_loss": 4.1 / epoch, "uniform": 4.0}
        | {"val_uniform": 4.2, "perfect": 2.0, "alignment": 0.1, "uniformity": -2.0, "rank": 9.0}
        | {"knn": {"view": 0.5}, "best": True}
        for epoch in (1, 2, 3)
    ]
    model = small_simclr(0)
    run = RunContext(save_dir, torch.device("cpu"), record, **run_facts)
    with small_networks():
        evaluate_encoders(config, dataset, PretrainedEncoders(model.encoder), history, run)
    return 0
