"""The main job: from frames and a label table to a trained classifier, honest metrics and pictures."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclr_rhd import process
from simclr_rhd.config import IMAGE_SIZE, Config, parse
from simclr_rhd.errors import UserError

if TYPE_CHECKING:  # these take seconds to import: the stages do it, once the arguments are known to be good
    import numpy as np
    import torch

    from simclr_rhd.dataset import Dataset
    from simclr_rhd.model import Heads, SimCLR

logger = logging.getLogger("simclr_rhd")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 2 bad arguments or input, 1 anything else)."""
    try:
        config = parse(argv)
    except SystemExit as leaving:  # argparse has said why
        return int(leaving.code or 0)
    again = "the same command" + ", without --overwrite," * config.overwrite
    process.start_log()
    try:
        from simclr_rhd import runs

        with process.terminable(), runs.locked(Path(config.save_dir)):
            return train(config, Path(config.save_dir), sys.argv[1:] if argv is None else list(argv))
    except UserError as error:
        logger.error("error: %s", error)
        return 2
    except (KeyboardInterrupt, process.Terminated) as stop:
        logger.error("stopped; what is finished is saved, and %s goes on from there", again)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    except OSError as error:  # a full disk, a folder that went away
        logger.error("error: %s; what is finished is saved, and %s goes on from there", error, again)
        return 1
    except Exception:
        logger.exception("internal error, please report it with these lines")
        return 1
    finally:
        process.stop_log()


def train(config: Config, save_dir: Path, argv: list[str]) -> int:
    """The stages of a run, in order."""
    from simclr_rhd import runs, runtime
    from simclr_rhd.dataset import write_tables
    from simclr_rhd.figures import draw
    from simclr_rhd.model import build

    runtime.refuse_ranks()
    before = runs.claim(save_dir, config.signature(), resume=config.resume, overwrite=config.overwrite)
    if before and before["status"] == "finished" and (config.no_figures or before["figures"]):
        logger.info("This run was finished on %s: its data are not looked at again.", before["finished"])
        for line in [*before["summary"].splitlines(), "", "--overwrite repeats it."]:
            logger.info(line)
        return 0
    runtime.prepare_torch()
    device = runtime.pick_device(config.device)
    record = runs.RunRecord(
        before,
        argv=argv,
        signature=config.signature(),
        config=vars(config),
        device=runtime.describe_device(device),
    )
    announce(config, record, device)

    model = build(config.init, seed=config.seed)
    with record.stage("data"):
        dataset = read_data(config, save_dir, record, before)
    if before is None:  # only now, when the new run is known to be possible
        runs.clear(save_dir)
    process.log_to(save_dir)
    record.write_to(save_dir / "run.json")
    write_tables(dataset, save_dir)

    with record.stage("pretraining"):
        history = pretrain(config, dataset, model, save_dir, device)
    with record.stage("heads"):  # the frozen features are extracted once, for all three
        features, heads, history = train_heads(config, dataset, model, history, save_dir, device)
    with record.stage("metrics"):
        metrics = evaluate(config, dataset, features, heads, save_dir)
    with record.stage("figures"):
        figures = {}
        if not config.no_figures:
            figures = draw(dataset, features, history, metrics, seed=config.seed, save_dir=save_dir)
    return finish(record, metrics, figures, save_dir)


def announce(config: Config, record: Any, device: torch.device) -> None:
    """The first lines of the log: what runs, on what."""
    versions = ", ".join(f"{name} {version}" for name, version in record.facts["versions"].items())
    logger.info("simclr-rhd %s", " ".join(record.facts["argv"]))
    logger.info("device: %s; commit %s; %s", record.facts["device"], record.facts["commit"], versions)
    if config.synthetic:
        logger.info(
            "SYNTHETIC demo data: nothing here says anything about patients. Its frames are small, "
            "so views are %d pixels wide (default for your own data: %d). For your own data: "
            "python3 main.py --data FOLDER or --data gs://BUCKET",
            config.image_size,
            IMAGE_SIZE,
        )
    if device.type == "cpu" and (config.image_size or 0) > 128:
        logger.info(
            "NOTICE no GPU: a processor core trains on about 2 frames a second at 224 pixels, on 10 "
            "at 96. --image-size 96 is a sensible size here"
        )


def read_data(config: Config, save_dir: Path, record: Any, before: dict[str, Any] | None) -> Dataset:
    """Frames, labels, groups and parts; a resumed run must find the data it started with."""
    import platformdirs

    from simclr_rhd import inventory
    from simclr_rhd.dataset import read_dataset
    from simclr_rhd.files import make_folder
    from simclr_rhd.runs import WORTH_KEEPING
    from simclr_rhd.sources import open_source

    cache_dir = Path(config.cache_dir or platformdirs.user_cache_dir("simclr-rhd"))
    make_folder(cache_dir, flag="--cache-dir")
    taken = any((save_dir / name).exists() for name in WORTH_KEEPING)  # by a run whose tables are its own
    source = open_source(
        config.data, cache_dir=cache_dir, demo_patients=config.demo_patients, offline=config.offline
    )
    dataset = read_dataset(
        source,
        labelled_prefix=config.labelled_prefix,
        labels_csv=config.labels_csv,
        unlabelled_prefix=config.unlabelled_prefix,
        image_size=config.image_size or 0,
        cache_dir=cache_dir,
        frames_per_clip=config.frames_per_clip,
        max_rejected=config.max_rejected,
        label_conflict=config.label_conflict,
        group_by=config.group_by,
        seed=config.seed,
        rejected_csv=(cache_dir if taken else save_dir) / "rejected.csv",
    )
    counts = inventory.take(dataset, source)
    for line in inventory.describe(dataset, counts):
        logger.log(logging.WARNING if line.startswith("WARNING") else logging.INFO, line)
    if before and before["data"]["fingerprint"] != dataset.fingerprint:
        raise UserError(
            f"the data changed since the {before['status']} run in --save-dir {save_dir} began; pass "
            "--overwrite to start anew, or name another folder"
        )
    record.note(
        data={"location": source.location, "synthetic": config.synthetic, "fingerprint": dataset.fingerprint},
        counts=counts,
    )
    return dataset


def pretrain(
    config: Config, dataset: Dataset, model: SimCLR, save_dir: Path, device: torch.device
) -> list[dict[str, Any]]:
    """SimCLR on the unlabelled frames, from the last saved epoch on; leaves the best epoch's weights."""
    import numpy as np

    from simclr_rhd import checkpoint, runtime
    from simclr_rhd.augment import Strengths
    from simclr_rhd.files import write_lines
    from simclr_rhd.pretrain import Pretraining, epoch_line, fit

    rows = dataset.rows("unlabelled")
    if len(rows) < 2:
        raise UserError(
            f"{len(rows)} unlabelled frames are left for pretraining outside the validation and "
            "test groups; add frames below --unlabelled-prefix"
        )
    batch_size = min(config.batch_size, len(rows))
    if batch_size < config.batch_size:
        logger.info(
            "NOTICE --batch-size %d is more than the %d frames to pretrain on: %d is used",
            config.batch_size,
            len(rows),
            batch_size,
        )
    watched = np.flatnonzero(dataset.watched)
    if len(watched) < 2:
        logger.info(
            "NOTICE no unlabelled frames could be held out of pretraining: early stopping watches the "
            "training loss"
        )
    workers = runtime.default_workers() if config.num_workers is None else config.num_workers
    run = Pretraining(
        runtime.wrap(model, device),
        dataset.store.frames,
        dataset.store.kinds,
        batch_size=batch_size,
        learning_rate=config.learning_rate,
        epochs=config.epochs,
        temperature=config.temperature,
        size=config.image_size or 0,
        strengths=Strengths(config.crop_min, config.flip, config.jitter, config.grayscale, config.blur),
        seed=config.seed,
        num_workers=workers,
        device=device,
    )
    if (last := save_dir / "simclr_last.pt").exists():
        run.load_state(checkpoint.load(last))
        logger.info("pretraining: resumed after epoch %d", len(run.history))

    def on_epoch(history: list[dict[str, Any]]) -> None:
        write_lines(save_dir / "history.jsonl", history)
        logger.info(epoch_line(history, config.epochs))

    history = fit(
        run,
        rows,
        watched,
        patience=config.patience,
        min_delta=config.min_delta,
        save_dir=save_dir,
        on_epoch=on_epoch,
    )
    best = checkpoint.load(save_dir / "simclr_best.pt")
    model.load_state_dict(best["model"], strict=True)
    logger.info(
        "pretraining: %s after epoch %d; weights of epoch %d are kept",
        "stopped early" if run.stale >= config.patience else "all epochs done",
        len(history),
        best["epoch"],
    )
    return history


def train_heads(
    config: Config,
    dataset: Dataset,
    model: SimCLR,
    history: list[dict[str, Any]],
    save_dir: Path,
    device: torch.device,
) -> tuple[np.ndarray, Heads, list[dict[str, Any]]]:
    """Features of all labelled frames, and a linear head per task on them; saves `model.pt`."""
    import numpy as np

    from simclr_rhd import checkpoint, classifier
    from simclr_rhd import heads as linear
    from simclr_rhd.features import extract
    from simclr_rhd.files import write_lines

    before = checkpoint.digest(model.encoder)
    rows, size = dataset.rows("train", "val", "test"), config.image_size or 0
    features = extract(model.encoder, dataset.store.frames, rows, size=size, device=device)
    part, labels = dataset.part[rows], dataset.labels
    heads, head_history = linear.train_heads(
        features,
        {task: labels.values[task][rows] for task in dataset.tasks()},
        {task: len(labels.classes[task]) for task in dataset.tasks()},
        np.flatnonzero(part == "train"),
        np.flatnonzero(part == "val"),
        epochs=config.linear_epochs,
        learning_rate=config.classifier_lr,
        seed=config.seed,
    )
    if checkpoint.digest(model.encoder) != before:
        raise RuntimeError("the frozen encoder changed while the heads were trained")
    write_lines(save_dir / "history.jsonl", [*history, *head_history])
    for task in dataset.tasks():
        kept = [row for row in head_history if row["phase"] == task and row["best"]][-1]
        val = "no validation frames" if kept["val_loss"] is None else f"validation {kept['val_loss']:.4f}"
        logger.info(
            "%s head: epoch %d/%d kept, loss %.4f, %s",
            task,
            kept["epoch"],
            config.linear_epochs,
            kept["loss"],
            val,
        )
    classifier.save(
        save_dir / "model.pt",
        model.encoder,
        heads,
        classes={task: labels.classes[task] for task in dataset.tasks()},
        image_size=size,
        synthetic=config.synthetic,
        trained_on={
            "fingerprint": dataset.fingerprint,
            "split_by": dataset.split_by,
            "leaky": dataset.leaky,
        },
    )
    return features, heads, history + head_history


def evaluate(
    config: Config, dataset: Dataset, features: np.ndarray, heads: Heads, save_dir: Path
) -> dict[str, Any]:
    """Scores on validation and test, beside the baselines: `metrics.json`, `predictions.csv`."""
    from simclr_rhd import evaluation
    from simclr_rhd import heads as linear
    from simclr_rhd.files import write_json, write_rows

    rows = dataset.rows("train", "val", "test")
    probabilities = linear.predict(heads, features)
    metrics = evaluation.evaluate(dataset, rows, probabilities, seed=config.seed, synthetic=config.synthetic)
    write_json(save_dir / "metrics.json", metrics)
    write_rows(
        save_dir / "predictions.csv",
        evaluation.prediction_header(dataset),
        evaluation.prediction_rows(dataset, rows, probabilities),
    )
    return metrics


def finish(record: Any, metrics: dict[str, Any], figures: dict[str, Path], save_dir: Path) -> int:
    """The report and the short table; marks the run as finished."""
    from simclr_rhd import report

    summary = report.summary(metrics, save_dir=save_dir)
    report.write_html(save_dir / "report.html", metrics=metrics, run=record.facts, figures=figures)
    record.note(
        summary=summary,
        figures=bool(figures),
        status="finished",
        finished=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    for line in summary.splitlines():
        logger.info(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
