"""The main job: from frames and a label table to a trained classifier, honest metrics and pictures."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclr_rhd.cli.commands import Command, Comparison, Export, Prediction, shares_of
from simclr_rhd.cli.config import AFTER_PRETRAINING, AUTO, IMAGE_SIZE, Config, parse
from simclr_rhd.core import process
from simclr_rhd.core.errors import Lost, UserError

if TYPE_CHECKING:  # these take seconds to import: the stages do it, once the arguments are known to be good
    import numpy as np
    import torch

    from simclr_rhd.data.dataset import Dataset
    from simclr_rhd.data.labelled_set import Table
    from simclr_rhd.data.sources.base import Source
    from simclr_rhd.heads.cross_validation import Encoded, Study
    from simclr_rhd.heads.train import Trained
    from simclr_rhd.inference.predict_files import Place
    from simclr_rhd.planning.auto_settings import Settled
    from simclr_rhd.planning.run_estimate import Cost, Plan
    from simclr_rhd.report.page.embedding_map import Projection
    from simclr_rhd.report.page.sections import Contents
    from simclr_rhd.runs.remote_run_dir import Mirror
    from simclr_rhd.ssl.augment import Strengths
    from simclr_rhd.ssl.model import Heads, SimCLR
    from simclr_rhd.ssl.monitoring.validation import Watch
    from simclr_rhd.ssl.trainer import Pretraining

logger = logging.getLogger("simclr_rhd")

REHEARSED = 8  # frames in a batch of the dress rehearsal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 2 bad arguments or input, 1 anything else)."""
    try:
        config = parse(argv)
    except SystemExit as leaving:  # argparse has said why
        return int(leaving.code or 0)
    again, kept, follows = "", "", process.rank() > 0
    if isinstance(config, Config):
        again = "the same command" + ", without --overwrite," * config.overwrite
        kept = f"; what is finished is saved, and {again} goes on from there"
    process.start_log()
    try:
        with process.terminable(follows=follows):
            return run(config, sys.argv[1:] if argv is None else list(argv))
    except UserError as error:
        logger.error("error: %s%s", f"rank {process.rank()}: " * follows, error)
        return 2
    except (KeyboardInterrupt, process.Terminated) as stop:
        logger.error("stopped%s", kept)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    except Lost as error:
        if stopped := process.stopping():  # the leader ends first, when all are told to
            return stopped
        logger.error(
            "error: rank %d: another rank ended, so this one does; %s goes on from the last checkpoint (%s)",
            *(process.rank(), again, error),
        )
        return 1
    except OSError as error:  # a full disk, a folder that went away
        logger.error("error: %s%s", error, kept)
        return 1
    except ModuleNotFoundError as error:
        packages = {"umap": "umap-learn", "sklearn": "scikit-learn", "PIL": "pillow"}
        name = (error.name or "").split(".")[0]
        logger.error("error: a package is missing: pip install %s", packages.get(name, name))
        return 2
    except ImportError as error:
        reason = " ".join(str(error).split())[:200]
        logger.error(
            "error: a package is there and cannot be loaded (%s). Where a process has little memory, as by "
            "`ulimit -v` or a scheduler, give it some gigabytes; else install the package anew",
            reason,
        )
        return 1
    except Exception as error:
        if process.ran_out(error):
            logger.error(
                "error: the memory does not suffice (%s)%s. A smaller --batch-size, --micro-batch or "
                "--image-size takes less; so does a higher limit, where `ulimit -v` or a scheduler sets one",
                *(" ".join(str(error).split())[:200] or type(error).__name__, kept),
            )
            return 1
        logger.exception("internal error, please report it with these lines")
        return 1
    finally:
        process.stop_log()


def run(config: Config | Command, argv: list[str]) -> int:
    """What was asked for; returns the exit status."""
    if isinstance(config, Comparison):
        return compare(config)
    if isinstance(config, Prediction):
        return predict(config)
    if isinstance(config, Export):
        return export(config)
    if config.command == "estimate":
        return estimate(config)
    from simclr_rhd.runs import run_dir as runs

    if process.rank():  # the leader alone writes
        return train(config, folder_of(config), argv)
    save_dir = folder_of(config)
    with runs.locked(save_dir), mirroring(config, save_dir) as mirror:
        try:
            return train(config, save_dir, argv, mirror)
        except UserError as error:
            from simclr_rhd.runs.remote_run_dir import Moved

            if mirror is None or isinstance(error, Moved):  # which names the folder for a reason
                raise
            raise UserError(str(error).replace(str(save_dir), config.save_dir)) from None


def compare(config: Comparison) -> int:
    """Finished runs beside each other, on one page."""
    from simclr_rhd.report.compare import page as comparison
    from simclr_rhd.report.compare.differences import named
    from simclr_rhd.report.compare.load_run import read_runs

    runs, out = named(read_runs([Path(folder) for folder in config.runs])), Path(config.out)
    comparison.write_html(out, runs)
    for line in [*comparison.in_words(runs), f"Look at {out}"]:
        logger.info(line)
    return 0


def predict(config: Prediction) -> int:
    """What a trained model says of files: tables beside `--out`, and the gist of them on the terminal."""
    from simclr_rhd import load_model
    from simclr_rhd.core import device as runtime
    from simclr_rhd.core.files import make_folder
    from simclr_rhd.inference import predict_files as prediction
    from simclr_rhd.report.summary import SYNTHETIC

    runtime.prepare_torch()
    out, cache_dir = Path(config.out), cache_dir_of(config)
    make_folder(out.parent, flag="--out")
    model = load_model(config.model, device=config.device)
    places = prediction.find(
        config.paths,
        cache_dir=cache_dir,
        offline=config.offline,
        billing_project=config.billing_project,
    )
    patients = prediction.read_patients(config.patients_csv, places)
    run = prediction.Run(
        *(model, places, patients),
        cache_dir=cache_dir,
        most=config.frames_per_clip,
        max_pixels=config.max_pixels,
        shares=shares_of(config.prevalence),
    )
    run.write(out, keep=config.patients_csv)
    for line in run.lines(out):
        logger.info(line)
    if model.facts.synthetic:
        logger.warning("%s Its model has learnt from them.", SYNTHETIC)
    return 0


def export(config: Export) -> int:
    """The trained model for other runtimes, each checked on real frames."""
    from simclr_rhd.core import device as runtime
    from simclr_rhd.core.files import make_folder
    from simclr_rhd.inference import classifier
    from simclr_rhd.inference import export as exporting
    from simclr_rhd.inference import predict_files as prediction

    runtime.prepare_torch()
    exporting.onnx_packages()
    model, path = classifier.load(config.model), Path(config.model)
    folder, cache_dir = Path(config.out or path.parent / "exported"), cache_dir_of(config)
    make_folder(folder, flag="--out")
    if config.frames:
        places = prediction.find(
            config.frames,
            cache_dir=cache_dir,
            offline=config.offline,
            billing_project=config.billing_project,
        )
    else:
        places = [labelled_of(path.parent, cache_dir, config.billing_project)]
    frames = exporting.some_frames(places, side=model.facts.stored_side, max_pixels=config.max_pixels)
    logger.info("export: %d frames to fit the 8-bit weights on and to check with", len(frames))
    for check in exporting.export(model, frames, folder):
        said = ", ".join(f"{task} {share:.1%}" for task, share in check.agreement.items())
        logger.info(
            "%s: probabilities within %.1e of PyTorch's on %d frames, the same class: %s",
            *(folder / check.name, check.largest, check.frames, said),
        )
    return 0


def labelled_of(save_dir: Path, cache_dir: Path, billing_project: str | None) -> Place:
    """The labelled frames of the run that wrote into a folder."""
    from simclr_rhd.core.records import read_object
    from simclr_rhd.data.sources.folder import open_source
    from simclr_rhd.inference.predict_files import Place

    try:
        of_run = read_object(save_dir / "run.json").record("config")
        source = open_source(
            of_run.text("data"),
            cache_dir=cache_dir,
            demo_patients=of_run.count("demo_patients", 12),
            offline=of_run.truth("offline"),
            billing_project=billing_project,
        )
        return Place(source, source.files(of_run.text("labelled_prefix"), flag="--labelled-prefix"), "")
    except (OSError, UserError) as error:
        raise UserError(
            f"the frames of the run in {save_dir} are not at hand ({error}); name some with --frames PATH"
        ) from None


def folder_of(config: Config) -> Path:
    """The folder of this machine that the run writes to."""
    if not config.save_dir.startswith("gs://"):
        return Path(config.save_dir)
    name = hashlib.sha256(config.save_dir.rstrip("/").encode()).hexdigest()[:16]
    return cache_dir_of(config) / "runs" / name


def mirroring(config: Config, save_dir: Path) -> AbstractContextManager[Mirror | None]:
    """What brings checkpoints to the bucket, where --save-dir is one."""
    if not config.save_dir.startswith("gs://"):
        return nullcontext()
    from simclr_rhd.runs.remote_run_dir import mirrored

    paying = config.pick("billing_project")
    return mirrored(config.save_dir, save_dir, cache_dir=cache_dir_of(config), **paying)


def nothing() -> None:
    """What is done after a checkpoint where nothing is."""


def train(config: Config, save_dir: Path, argv: list[str], mirror: Mirror | None = None) -> int:
    """The stages of a run, in order."""
    from simclr_rhd.core import device as runtime
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.data.dataset import write_tables
    from simclr_rhd.planning.precision import pick_precision
    from simclr_rhd.runs import run_dir as runs
    from simclr_rhd.ssl.model import build
    from simclr_rhd.ssl.monitoring.epoch_log import require_tensorboard

    runtime.prepare_torch()
    device = runtime.pick_device(config.device)
    if config.tensorboard:
        require_tensorboard()
    with ranks.joined(device):
        claimed = (
            runs.claim(
                save_dir,
                config.signature(),
                changeable=AFTER_PRETRAINING,
                again=config.evaluate_again,
                **config.pick("resume", "overwrite"),
            )
            if ranks.leads()
            else None
        )
        before = ranks.share(claimed)
        if before and before["status"] == "finished" and (config.no_figures or before["figures"]):
            return say_again(before)
        record = runs.RunRecord(
            before,
            argv=argv,
            signature=config.signature(),
            config=vars(config),
            device=runtime.describe_device(device),
        )
        announce(config, record, device)
        picked = pick_precision(config.precision, device) if ranks.leads() else None
        config = replace(config, precision=ranks.share(picked))

        model = build(config.init, seed=config.seed)
        with record.stage("data"), ranks.one_first():
            dataset = read_data(config, save_dir, record, before)
        ranks.check_same(dataset.fingerprint)
        if not config.no_rehearsal:
            with record.stage("rehearsal"):
                rehearse(config, dataset, record.facts["counts"], save_dir, device)
        with record.stage("estimate"):
            settled = foresee(config, dataset, record, save_dir, device)
        if ranks.leads():
            if before is None:  # only now, when the new run is known to be possible
                runs.clear(save_dir)
                if mirror:  # before a checkpoint of this run can stand beside one of that
                    mirror.push()
            process.log_to(save_dir)
            record.write_to(save_dir / "run.json")
            write_tables(dataset, save_dir)
        with record.stage("pretraining"):
            on_saved = mirror.push_now_and_then if mirror else nothing
            history = pretrain(config, settled, dataset, model, save_dir, device, on_saved)
            models = [model, *pretrain_folds(config, settled, dataset, save_dir, device, on_saved)]
    return conclude(config, dataset, models, history, record, save_dir, device) if ranks.leads() else 0


def estimate(config: Config) -> int:
    """What a run with these flags would take, without running it; of data not yet decoded, from a sample."""
    from simclr_rhd.core import device as runtime
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.data.load import look_ahead
    from simclr_rhd.planning import profiler as probe
    from simclr_rhd.planning.precision import pick_precision
    from simclr_rhd.runs import run_dir as runs
    from simclr_rhd.ssl.model import build

    if not ranks.leads():
        return 0
    runtime.prepare_torch()
    device = runtime.pick_device(config.device)
    config = replace(config, precision=pick_precision(config.precision, device))
    build(config.init, seed=config.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ahead = look_ahead(
            open_data(config),
            cache_dir=cache_dir_of(config),
            **config.pick("labelled_prefix", "labels_csv", "unlabelled_prefix", "image_size"),
            **config.pick("frames_per_clip", "max_pixels"),
        )
        known = stand_in(config, folder) if ahead else config
        with process.quiet() if ahead else nullcontext():
            record = runs.RunRecord(None)
            dataset = read_data(known, cache_dir_of(known), record, None)
            rows, watched = rows_to_pretrain(known, dataset), int(dataset.watched.sum())
            videos = dataset.videos_to_pretrain()
            labelled, grey = len(dataset.rows("train", "val", "test")), not dataset.store.kinds.any()
            # for the memory that the later stages take
            rehearse(known, dataset, record.facts["counts"], folder, device)
        if ahead:
            rows, watched, labelled, grey = ahead.rows, ahead.watched, ahead.labelled, ahead.grey
            videos = ahead.videos
            logger.info(
                "data, from a sample: %d files of %.2f GB to fetch and decode in about %s; about %d labelled "
                "and %d unlabelled frames, %.2f GB in --cache-dir",
                *(ahead.files, ahead.bytes / 1e9, process.duration(ahead.seconds), labelled),
                *(rows + watched, ahead.decoded / 1e9),
            )
            if min(rows, labelled) < 2:
                raise UserError("the sample has too few readable frames for a run")
        cost = measure(config, rows, device, grey=grey)
        settled = settle(config, rows, videos, cost, device, grey=grey)
        data_s = ahead.seconds if ahead else 0.0
        plan = plan_of(config, settled, rows, watched, labelled, data_s=data_s)
        found = tell(cost, plan, probe.available_memory(device), device)
        logger.info("disk: about %.0f MB in --save-dir", disk_of(config, cost) / 1e6)
        logger.info("the same for programs: %s", json.dumps(found))
    return 0


def stand_in(config: Config, cache_dir: Path) -> Config:
    """The same run on built-in data, which take the place of data that are not at hand."""
    names = (
        "labelled_prefix",
        "unlabelled_prefix",
        "labels_csv",
        "group_by",
        "offline",
        "frames_per_clip",
        "max_pixels",
    )
    default = {name: getattr(Config, name) for name in names}
    folds = min(config.folds, 3)  # of nine patients
    return replace(config, data="demo", demo_patients=12, folds=folds, cache_dir=str(cache_dir), **default)


def conclude(
    config: Config,
    dataset: Dataset,
    models: list[SimCLR],
    history: list[dict[str, Any]],
    record: Any,
    save_dir: Path,
    device: torch.device,
) -> int:
    """What follows pretraining: heads, metrics, figures, report.

    `models` are the one that is kept and, where each fold has its own, those of the folds.
    """
    from simclr_rhd.core.files import write_lines
    from simclr_rhd.data.labelled_set import cohort_of
    from simclr_rhd.evaluation.results import FINETUNED
    from simclr_rhd.heads.cross_validation import OURS, Study, pooled
    from simclr_rhd.runs import checkpoint

    before = [checkpoint.digest(model.encoder) for model in models]
    with record.stage("features"):  # once, for all that follows
        encoded = encode(config, dataset, models, device)
    with start_maps(config, encoded) as maps:
        study = Study(cohort_of(dataset, **config.pick("multilabel")), encoded, head_options(config))
        with record.stage("heads"):
            trained = study.fit_folds(encoded.folds)
            kept = study.fit_kept(dataset.part[dataset.labelled()]) if config.folds > 1 else trained[0]
            history = keep(config, dataset, study, models[0], kept, history, save_dir)
        with record.stage("comparators"):
            said = study.said(trained)
        tuned: list[dict[str, Any]] = []
        if config.finetune:
            with record.stage("finetuning"):
                said[FINETUNED], tuned = finetune(
                    config, dataset, study, models, kept, trained, save_dir, device
                )
                history += tuned
                write_lines(save_dir / "history.jsonl", history)
        with record.stage("metrics"):
            metrics = evaluate(config, dataset, study, trained, said, tuned, save_dir)
        if [checkpoint.digest(model.encoder) for model in models] != before:
            raise RuntimeError("the frozen encoder changed while the heads were trained")
        shown = None
        if maps:
            answers = pooled(study.cohort, said[OURS], "test")
            shown = picture(
                config, dataset, study, models, trained, answers, history, metrics, maps, record, save_dir
            )
    return finish(config, dataset, record, metrics, shown, save_dir)


def start_maps(config: Config, encoded: Encoded) -> AbstractContextManager[Projection | None]:
    """t-SNE and UMAP, from now on and beside all else; nothing without figures."""
    from simclr_rhd.report.page.embedding_map import Projection
    from simclr_rhd.report.page.sections import on_maps

    if config.no_figures:
        return nullcontext()
    return Projection(encoded.kept[on_maps(len(encoded.kept))], seed=config.seed)


def picture(
    config: Config,
    dataset: Dataset,
    study: Study,
    models: list[SimCLR],
    trained: list[Trained],
    answers: Table,
    history: list[dict[str, Any]],
    metrics: dict[str, Any],
    maps: Projection,
    record: Any,
    save_dir: Path,
) -> Contents:
    """The pictures in `save_dir`, and what the report shows; the maps last, which are computed meanwhile."""
    from simclr_rhd.report.charts import figures
    from simclr_rhd.report.page import sections as contents
    from simclr_rhd.report.page.embedding_map import Ended

    size, cohort = config.image_size or 0, study.cohort
    with record.stage("figures"):
        views = figures.some_views(dataset, size=size, strengths=strengths(config), seed=config.seed)
        figures.draw(dataset, history, metrics, views, save_dir=save_dir)
    with record.stage("report"):
        encoders = [model.encoder for model in models[1:] or models * len(trained)]
        explain = contents.explainer(
            dataset, cohort, encoders, [of_fold.heads for of_fold in trained], size=size
        )
        shown = contents.gather(dataset, cohort, answers, history, metrics, views, explain)
    with record.stage("maps"):
        try:
            points, rows = maps.maps(), contents.on_maps(len(cohort.paths))
        except Ended as error:
            logger.warning("WARNING there are no maps: %s; all else is there", error)
            return shown
        figures.draw_maps(dataset, points, rows, metrics, save_dir=save_dir)
        return contents.with_maps(shown, dataset, cohort, answers, points, rows)


def rehearse(
    config: Config, dataset: Dataset, counts: dict[str, Any], save_dir: Path, device: torch.device
) -> None:
    """Every stage on a handful of frames, by all ranks as in the run, into a folder that is thrown away.

    A run must not fail after ten hours for a reason that is there in its first minute: a missing package, a
    class name that no picture can show, a folder that cannot be written to.
    """
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.planning.auto_settings import Settled
    from simclr_rhd.runs import run_dir as runs
    from simclr_rhd.ssl.model import build

    begun, processes = time.perf_counter(), ranks.world()
    handful = dataset.handful(at_least=2 * processes)
    monitor = "training-loss" if config.monitor == "knn" else config.monitor  # a handful may not do for it
    small = replace(config, epochs=len(sizes_of(config)), linear_epochs=1, tensorboard=False, monitor=monitor)
    small = replace(small, finetune_epochs=1, head_seeds=1)
    batch_size = min(rows_to_pretrain(config, dataset), len(handful.rows("unlabelled")))
    batch_size = min(batch_size, max(REHEARSED, 2 * processes)) // processes * processes
    piece = max(1, batch_size // processes // 2) if config.micro_batch else None
    several = handful.videos_to_pretrain() > 1
    positives = "video" if config.positives != "frame" and several else "frame"
    settled = Settled(batch_size, piece, 1e-4, 0.0, 0.0, positives, config.precision)
    model = build("random", seed=config.seed)
    in_folder = (
        tempfile.TemporaryDirectory(prefix=runs.REHEARSAL, dir=save_dir)
        if ranks.leads()
        else nullcontext(str(save_dir))  # followers write nothing
    )
    try:
        with in_folder as name, process.quiet():
            folder = Path(name)
            history = pretrain(small, settled, handful, model, folder, device)
            if ranks.leads():
                record = runs.RunRecord(None, argv=[], config=vars(config), counts=counts)
                record.write_to(folder / "run.json")
                conclude(small, handful, [model], history, record, folder, device)
                for path in sorted(folder.glob("model*.pt")):
                    try_model(path, handful, config.device)
    except (ModuleNotFoundError, UserError, Lost):
        raise
    except Exception:
        logger.error("the dress rehearsal failed, as the run would have after pretraining:")
        raise
    logger.info(
        "rehearsal: every stage works, on a handful of frames (%d, in %s)",
        *(len(handful.part), process.duration(time.perf_counter() - begun)),
    )


def try_model(path: Path, dataset: Dataset, device: str) -> None:
    """Load what a rehearsal wrote, and predict with it: after a long run that must not be found to fail."""
    import numpy as np

    from simclr_rhd import load_model

    try:
        model = load_model(path, device=device)
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UserError(f"the run would end with a {path.name} that cannot be loaded: {reason}") from None
    frame = dataset.store.frames[dataset.labelled()[:1]]
    answers = model.answer(np.broadcast_to(frame, (1, 3, *frame.shape[2:])).copy())
    for task, p in answers.probabilities.items():
        if not np.isfinite(p).all():
            raise RuntimeError(f"{path.name} gives no probabilities for {task}")


def say_again(before: dict[str, Any]) -> int:
    """What a finished run found."""
    logger.info("This run was finished on %s: its data are not looked at again.", before["finished"])
    for line in [*before["summary"].splitlines(), "", "--overwrite repeats it."]:
        logger.info(line)
    return 0


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


def cache_dir_of(config: Config | Prediction | Export) -> Path:
    """Where fetched and decoded frames are kept."""
    import platformdirs

    from simclr_rhd.core.files import make_folder

    cache_dir = Path(config.cache_dir or platformdirs.user_cache_dir("simclr-rhd"))
    make_folder(cache_dir, flag="--cache-dir")
    return cache_dir


def open_data(config: Config) -> Source:
    """Where the files are: built in, in a folder or in a bucket."""
    from simclr_rhd.data.sources.folder import open_source

    how = config.pick("demo_patients", "offline", "billing_project")
    return open_source(config.data, cache_dir=cache_dir_of(config), **how)


def read_data(config: Config, save_dir: Path, record: Any, before: dict[str, Any] | None) -> Dataset:
    """Frames, labels, groups and parts; a resumed run must find the data it started with."""
    from simclr_rhd.data import summary as inventory
    from simclr_rhd.data.load import read_dataset
    from simclr_rhd.runs.run_dir import WORTH_KEEPING

    cache_dir, source = cache_dir_of(config), open_data(config)
    taken = any((save_dir / name).exists() for name in WORTH_KEEPING)  # by a run whose tables are its own
    dataset = read_dataset(
        source,
        **config.pick("labelled_prefix", "labels_csv", "unlabelled_prefix", "image_size", "frames_per_clip"),
        **config.pick("max_rejected", "label_conflict", "group_by", "folds", "pretrain_per_fold", "seed"),
        **config.pick("max_pixels"),
        cache_dir=cache_dir,
        patients_csv=config.patients_csv,
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


def rows_to_pretrain(config: Config, dataset: Dataset) -> int:
    """How many frames there are to pretrain on, if they are enough; of folds, the fewest."""
    return min(rows_to_pretrain_on(config, divided) for divided in (dataset, *dataset.with_own_encoder()))


def rows_to_pretrain_on(config: Config, dataset: Dataset) -> int:
    """How many frames one pretraining has."""
    from simclr_rhd.core import distributed as ranks

    rows = dataset.rows("unlabelled")
    if len(rows) < 2 * ranks.started():
        outside = (
            "groups without labels; pass --pretrain-per-fold, or add frames of other patients"
            if config.folds > 1 and not config.pretrain_per_fold
            else "groups outside validation and test; add frames"
        )
        raise UserError(
            f"{len(rows)} unlabelled frames are left for pretraining, of {outside} below --unlabelled-prefix"
            + f"; {ranks.started()} processes need {2 * ranks.started()}" * (ranks.started() > 1)
        )
    if config.positives == "video" and len(set(dataset.video_codes()[rows].tolist())) < 2:
        raise UserError(
            "--positives video: all frames to pretrain on are of one video: there are no negatives"
        )
    return len(rows)


def foresee(config: Config, dataset: Dataset, record: Any, save_dir: Path, device: torch.device) -> Settled:
    """What the data and the machine decide, where no flag does; and what the run will take."""
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.planning import profiler as probe
    from simclr_rhd.planning import run_estimate as costs
    from simclr_rhd.planning.auto_settings import Settled, recorded

    settled, rows = None, rows_to_pretrain(config, dataset)
    if ranks.leads():
        cost, free = None, probe.available_memory(device)
        grey = not dataset.store.kinds.any()
        if needs_measuring(config):
            cost = measure(config, rows, device, grey=grey)
        before = record.facts.get("settled")  # by the run that this one goes on with
        videos = dataset.videos_to_pretrain()
        settled = (
            going_on(recorded(before, f"--save-dir {save_dir}: run.json: settled"), device)
            if before is not None
            else settle(config, rows, videos, cost, device, grey=grey)
        )
        record.note(settled=vars(settled))
        if cost:
            costs.check_room(save_dir, disk_of(config, cost))
            labelled = len(dataset.rows("train", "val", "test"))
            plan = plan_of(config, settled, rows, int(dataset.watched.sum()), labelled)
            record.note(estimate=tell(cost, plan, free, device))
    settled = Settled(**ranks.share(settled and vars(settled)))
    if settled.batch_size % ranks.world():  # a run that began with fewer
        raise UserError(
            f"the batches of {settled.batch_size} frames that this run began with cannot be shared by "
            f"{ranks.world()} processes"
        )
    return settled


def going_on(settled: Settled, device: torch.device) -> Settled:
    """What a run that is resumed began with, in numbers that this device has."""
    from simclr_rhd.planning.precision import can_use_bfloat16, pick_precision

    if settled.precision == "float32" or (settled.precision == "float16" and device.type == "cuda"):
        return settled
    if settled.precision == "bfloat16" and can_use_bfloat16(device):
        return settled
    here = pick_precision(AUTO, device)
    logger.info("NOTICE this run began in %s, which this device lacks: %s is used", settled.precision, here)
    return replace(settled, precision=here)


def needs_measuring(config: Config) -> bool:
    """Whether steps are measured before the run."""
    return not config.no_rehearsal or AUTO in (config.batch_size, config.micro_batch)


def measure(config: Config, rows: int, device: torch.device, *, grey: bool) -> Cost:
    """What a step takes, with no more frames at once than the run will have."""
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.planning import profiler as probe

    sizes = [size for size in (config.batch_size, config.micro_batch, rows) if isinstance(size, int)]
    most = max(2, min([probe.SIZES[-1], *(size // ranks.started() for size in sizes)]))
    return probe.measure(
        config.image_size or 0,
        config.optimizer,
        grey=grey,
        precision=config.precision,
        device=device,
        most=most,
        smaller=sizes_of(config)[:-1],
    )


def settle(
    config: Config, rows: int, videos: float, cost: Cost | None, device: torch.device, *, grey: bool
) -> Settled:
    """Batch sizes, the optimizer's figures and what a positive pair is, for `rows` frames of `videos`."""
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.planning import auto_settings as rules
    from simclr_rhd.planning import profiler as probe
    from simclr_rhd.planning import run_estimate as costs

    fits = None
    if device.type == "cuda":
        given = config.pick("optimizer", "precision")
        fits = probe.fits_by_trying(config.image_size or 0, **given, grey=grey, device=device)
    elif cost:
        fits = costs.fits_by_model(cost, probe.available_memory(device))
    given = config.pick(
        "batch_size",
        "micro_batch",
        "optimizer",
        "learning_rate",
        "weight_decay",
        "warmup_epochs",
        "epochs",
        "positives",
    )
    given["precision"] = config.precision
    return rules.settle(**given, rows=rows, videos=videos, ranks=ranks.started(), fits=fits)


def plan_of(
    config: Config, settled: Settled, rows: int, watched: int, labelled: int, *, data_s: float = 0.0
) -> Plan:
    """The amounts that the time depends on; `data_s` seconds for data that are not at hand."""
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.planning.run_estimate import Plan
    from simclr_rhd.ssl import schedule as stages

    return Plan(
        rows=rows,
        watched=watched,
        labelled=labelled,
        batch=settled.batch_size,
        micro_batch=settled.micro_batch,
        figures=not config.no_figures,
        sizes=tuple(stages.planned(sizes_of(config), config.epochs)),
        before_s=process.elapsed() + data_s,
        ranks=ranks.started(),
        pretrainings=pretrainings_of(config),
        fits=fits_of(config),
        rivals=rivals(),
        finetune_epochs=config.finetune_epochs if config.finetune else 0,
        **config.pick("epochs", "patience", "knn_every", "linear_epochs", "folds"),
    )


def pretrainings_of(config: Config) -> int:
    """How often the encoder is pretrained: once, or for each fold and for the model that is kept."""
    return config.folds + 1 if config.pretrain_per_fold else 1


def disk_of(config: Config, cost: Cost) -> int:
    """Bytes of the run's files."""
    from simclr_rhd.planning import run_estimate as costs

    return costs.disk(cost, pretrainings=pretrainings_of(config), models=1 + config.finetune)


def fits_of(config: Config) -> int:
    """How often heads are trained: for each fold, on our encoder and its rivals, and what is asked."""
    from simclr_rhd.evaluation.label_efficiency import draws_of

    encoders = 1 + rivals()
    of_fractions = sum(encoders * draws_of(fraction) for fraction in config.label_fractions or ())
    return config.folds * (encoders + of_fractions + config.show_leak) + (config.folds > 1)


def rivals() -> int:
    """How many encoders stand beside ours: untrained ones, and ImageNet's where it is at hand."""
    from simclr_rhd.heads.cross_validation import DRAWS
    from simclr_rhd.ssl.model import imagenet_at_hand

    return DRAWS + imagenet_at_hand()


def tell(cost: Cost, plan: Plan, free: int, device: torch.device) -> dict[str, Any]:
    """Log what a run will take; the same figures for programs."""
    from simclr_rhd.planning import profiler as probe
    from simclr_rhd.planning import run_estimate as costs

    used = probe.used_memory(device)
    for line in costs.lines(cost, plan, used=used, free=free):
        logger.log(logging.WARNING if line.startswith("WARNING") else logging.INFO, line)
    return costs.facts(cost, plan, used=used)


def pretrain(
    config: Config,
    settled: Settled,
    dataset: Dataset,
    model: SimCLR,
    save_dir: Path,
    device: torch.device,
    on_saved: Callable[[], None] = nothing,
) -> list[dict[str, Any]]:
    """SimCLR on the unlabelled frames, from the last saved step on; leaves the best epoch's average."""
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.runs import checkpoint
    from simclr_rhd.ssl import schedule as stages
    from simclr_rhd.ssl.monitoring.epoch_log import Journal
    from simclr_rhd.ssl.trainer import BEST, LAST, fit, load_best

    run = make_run(config, settled, dataset, model, device)
    last = save_dir / LAST
    saved = ranks.share_state(checkpoint.load(last) if ranks.leads() and last.exists() else None)
    if saved is not None:
        run.load_state(saved)
        logger.info("pretraining: resumed after epoch %d, step %d", len(run.history), run.steps_done)
    watch, monitor = make_watch(config, dataset, run), config.monitor
    if monitor == "held-out-loss" and not watch.held_out:
        logger.info(
            "NOTICE no unlabelled frames could be held out of pretraining: early stopping watches the "
            "training loss"
        )
        monitor = "training-loss"
    told = Journal(
        save_dir,
        run.history,
        sizes=stages.planned(run.sizes, config.epochs),
        monitor=monitor,
        tensorboard=config.tensorboard,
    )
    with told as journal:
        history = fit(
            run,
            watch,
            monitor=monitor,
            **config.pick("patience", "min_delta", "checkpoint_minutes"),
            names=dataset.store.keys,
            save_dir=save_dir,
            on_epoch=journal,
            on_saved=on_saved,
        )
    if ranks.leads():
        epoch = load_best(model, save_dir / BEST)
        logger.info(
            "pretraining: %s, annealed from epoch %d on, ended after epoch %d; weights of epoch %d are kept",
            "stopped early" if len(history) < config.epochs else "all epochs done",
            *(run.annealing[0] + 1 if run.annealing else 0, len(history), epoch),
        )
    return history


def make_run(
    config: Config, settled: Settled, dataset: Dataset, model: SimCLR, device: torch.device
) -> Pretraining:
    """A pretraining run that has not begun."""
    from simclr_rhd.core import device as runtime
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.planning.precision import PRECISIONS
    from simclr_rhd.ssl.batches import Partners
    from simclr_rhd.ssl.optim import make_optimizer
    from simclr_rhd.ssl.step import Step
    from simclr_rhd.ssl.trainer import Pretraining

    rows, videos = dataset.rows("unlabelled"), dataset.video_codes()
    step = Step(
        runtime.wrap(model, device),
        size=config.image_size or 0,
        strengths=strengths(config),
        temperature=config.temperature,
        device=device,
        micro_batch=settled.micro_batch,
        videos_apart=settled.positives == "video",
        gathered=ranks.world() > 1,
        precision=PRECISIONS[settled.precision],
    )
    optimizer = make_optimizer(
        step.model,
        config.optimizer,
        learning_rate=settled.learning_rate,
        weight_decay=settled.weight_decay,
    )
    return Pretraining(
        step,
        optimizer,
        dataset.store.frames,
        dataset.store.kinds,
        videos,
        rows,
        batch_size=settled.batch_size,
        learning_rate=settled.learning_rate,
        epochs=config.epochs,
        warmup_epochs=settled.warmup_epochs,
        ema_decay=ema_decay_of(config, len(rows) // settled.batch_size),
        partners=Partners(rows, videos) if settled.positives == "video" else None,
        seed=config.seed,
        num_workers=runtime.default_workers() if config.num_workers is None else config.num_workers,
        sizes=sizes_of(config),
    )


def ema_decay_of(config: Config, steps: int) -> float:
    """The decay of the weights' moving average in a step, of so many in an epoch."""
    from simclr_rhd.ssl.averaging import decay_of_epochs

    return decay_of_epochs(steps) if isinstance(config.ema_decay, str) else config.ema_decay


def sizes_of(config: Config) -> tuple[int, ...]:
    """Pixels of a view's side, from stage to stage of the pretraining."""
    from simclr_rhd.ssl.schedule import growing

    size = config.image_size or 0
    return growing(size) if config.view_sizes == "growing" else (size,)


def make_watch(config: Config, dataset: Dataset, run: Pretraining) -> Watch:
    """What measures a run after each epoch: on held-out frames, and on labelled ones of the training part."""
    import numpy as np

    from simclr_rhd.ssl.monitoring.validation import Watch

    return Watch(
        run,
        watched=np.flatnonzero(dataset.watched),
        labelled=dataset.rows("train"),
        values=dataset.labels.values,
        n_classes={task: len(dataset.labels.classes[task]) for task in dataset.tasks()},
        groups=dataset.groups,
        knn_every=config.knn_every,
    )


def strengths(config: Config) -> Strengths:
    """How strong the views differ: a preset, and what the flags change of it."""
    from simclr_rhd.ssl.augment import PRESETS

    given = config.pick("crop_min", "flip", "jitter", "grayscale", "blur")
    return replace(PRESETS[config.augment], **{name: x for name, x in given.items() if x is not None})


def pretrain_folds(
    config: Config,
    settled: Settled,
    dataset: Dataset,
    save_dir: Path,
    device: torch.device,
    on_saved: Callable[[], None],
) -> list[SimCLR]:
    """With --pretrain-per-fold, the encoder of each fold; each has its checkpoints in a folder of its own."""
    from simclr_rhd.core.files import make_folder
    from simclr_rhd.runs.run_dir import FOLD
    from simclr_rhd.ssl.model import build

    models = []
    for number, divided in enumerate(dataset.with_own_encoder(), start=1):
        logger.info("fold %d/%d: its own pretraining, without its test groups", number, config.folds)
        folder = save_dir / FOLD.format(number)
        make_folder(folder, flag="--save-dir")
        models.append(build(config.init, seed=config.seed))
        pretrain(config, settled, divided, models[-1], folder, device, on_saved)
    return models


def encode(config: Config, dataset: Dataset, models: list[SimCLR], device: torch.device) -> Encoded:
    """What each encoder makes of the labelled frames: ours, random ones, ImageNet's where it is at hand."""
    from simclr_rhd.heads import baselines as comparators
    from simclr_rhd.heads.cross_validation import DRAWS, RANDOM, Encoded
    from simclr_rhd.ssl import model
    from simclr_rhd.ssl.features import extract, extract_described

    rows, size, frames = dataset.labelled(), config.image_size or 0, dataset.store.frames

    def of(encoder: torch.nn.Module) -> np.ndarray:
        return extract(encoder.to(device), frames, rows, size=size, device=device)

    kept = models[0].encoder.to(device)
    described = extract_described(kept, frames, rows, size=size, device=device)
    ours = [described["features"], *(of(trained.encoder) for trained in models[1:])]
    seeds = range(config.seed, config.seed + DRAWS)
    rivals = {RANDOM: [of(model.build("random", seed=seed).encoder) for seed in seeds]}
    if model.imagenet_at_hand():
        rivals["imagenet encoder"] = [of(model.build("imagenet", seed=config.seed).encoder)]
    folds = ours[1:] or ours * len(dataset.folds)
    return Encoded(described, folds, rivals, comparators.pixels(frames, rows))


def head_options(config: Config) -> dict[str, Any]:
    """How heads are trained, whatever they are trained on."""
    from simclr_rhd.heads.train import STRENGTHS

    return {
        "epochs": config.linear_epochs,
        "learning_rate": config.classifier_lr,
        "seed": config.seed,
        "seeds": config.head_seeds,
        "l2": STRENGTHS if config.head_l2 == AUTO else (config.head_l2,),
        "weighting": config.class_weights,
    }


def keep(
    config: Config,
    dataset: Dataset,
    study: Study,
    model: SimCLR,
    kept: Trained,
    history: list[dict[str, Any]],
    save_dir: Path,
) -> list[dict[str, Any]]:
    """Save `model.pt` and the heads' history; returns all records."""
    from simclr_rhd.core.files import write_lines

    for task, l2 in kept.l2.items():
        of_task = [row for row in kept.history if row["phase"] == task]
        best = [row for row in of_task if row["best"]][-1]
        val = "no validation frames" if best["val_loss"] is None else f"validation {best['val_loss']:.4f}"
        logger.info(
            "%s head: epoch %d/%d kept, L2 %g, loss %.4f, %s",
            *(task, best["epoch"], config.linear_epochs, l2, best["loss"], val),
        )
    write_lines(save_dir / "history.jsonl", [*history, *kept.history])
    described = study.encoded.described
    save_classifier(config, dataset, study, model.encoder, kept.heads, described, save_dir / "model.pt")
    return history + kept.history


def save_classifier(
    config: Config,
    dataset: Dataset,
    study: Study,
    encoder: torch.nn.Module,
    heads: Heads,
    described: Mapping[str, np.ndarray],
    path: Path,
) -> None:
    """Write an encoder, its heads, and what tells when not to believe them, as one file."""
    import numpy as np

    from simclr_rhd.evaluation.selective import limits_of
    from simclr_rhd.heads.train import predict
    from simclr_rhd.inference import classifier
    from simclr_rhd.inference.ood import fit_novelty

    cohort, part = study.cohort, dataset.part[dataset.labelled()]
    train = np.flatnonzero(part == "train")
    limits = limits_of(cohort, predict(heads, described["features"]), part)
    facts = classifier.Facts(
        classes=cohort.outputs(),
        image_size=config.image_size or 0,
        synthetic=config.synthetic,
        thresholds={name: {level: of.threshold for level, of in at.items()} for name, at in limits.items()},
        unproved={name: {level: of.reason for level, of in at.items()} for name, at in limits.items()},
        trained_on={
            "fingerprint": dataset.fingerprint,
            "split_by": dataset.split_by,
            "leaky": dataset.leaky,
        },
    )
    learnt = {name: values[train] for name, values in described.items()}
    novelty = fit_novelty(learnt, cohort.groups[train].tolist(), seed=config.seed)
    classifier.save(path, classifier.Classifier(encoder, heads, novelty, facts))


def finetune(
    config: Config,
    dataset: Dataset,
    study: Study,
    models: list[SimCLR],
    kept: Trained,
    trained: list[Trained],
    save_dir: Path,
    device: torch.device,
) -> tuple[list[Table], list[dict[str, Any]]]:
    """Encoder and heads trained together, in each fold: answers and epochs; saves `model_finetuned.pt`."""
    import numpy as np

    from simclr_rhd.heads.finetune import finetune as fit
    from simclr_rhd.runs.run_dir import MODEL_FINETUNED
    from simclr_rhd.ssl.features import extract_described

    part = dataset.part[dataset.labelled()]
    ways = [(models[0], kept, part)] * (config.folds > 1)
    ways += [
        (models[fold + 1 if models[1:] else 0], trained[fold], of_fold)
        for fold, of_fold in enumerate(study.cohort.folds)
    ]
    found = []
    for number, (model, heads, part) in enumerate(ways, start=1):
        logger.info("fine-tuning %d/%d", number, len(ways))
        found.append(
            fit(
                model.encoder,
                heads.heads,
                dataset.store.frames,
                dataset.store.kinds,
                dataset.labelled(),
                study.cohort.targets(),
                np.flatnonzero(part == "train"),
                np.flatnonzero(part == "val"),
                size=config.image_size or 0,
                strengths=strengths(config),
                epochs=config.finetune_epochs,
                learning_rate=config.finetune_lr,
                head_learning_rate=config.classifier_lr,
                weighting=config.class_weights,
                seed=config.seed,
                device=device,
                groups=study.cohort.groups,
            )
        )
    described = extract_described(
        found[0].encoder, dataset.store.frames, dataset.labelled(), size=config.image_size or 0, device=device
    )
    tuned = save_dir / MODEL_FINETUNED
    save_classifier(config, dataset, study, found[0].encoder, found[0].heads, described, tuned)
    history = [row | {"way": number} for number, of in enumerate(found, start=1) for row in of.history]
    return [of.probabilities for of in found[-config.folds :]], history


def evaluate(
    config: Config,
    dataset: Dataset,
    study: Study,
    trained: list[Trained],
    said: dict[str, list[Table]],
    tuned: list[dict[str, Any]],
    save_dir: Path,
) -> dict[str, Any]:
    """Scores beside what is to be beaten, and what a leak would do: `metrics.json`, `predictions.csv`."""
    from simclr_rhd.core.files import write_json, write_rows
    from simclr_rhd.evaluation import results as evaluation
    from simclr_rhd.evaluation.label_efficiency import curves
    from simclr_rhd.evaluation.results import FINETUNED
    from simclr_rhd.evaluation.selective import selective
    from simclr_rhd.heads.cross_validation import OURS

    cohort = study.cohort
    results = evaluation.evaluate(cohort, said, seed=config.seed)
    epochs_kept = {row["way"]: row["epoch"] for row in tuned if row["best"]}  # the last one of each
    for name in results if tuned else ():
        results[name][FINETUNED]["epochs_kept"] = list(epochs_kept.values())[-config.folds :]
    for name, facts in selective(cohort, said[OURS]).items():
        results[name]["selective"] = facts
    for name, facts in evaluation.head_facts(cohort, trained, study.encoded.folds).items():
        results[name]["head"] = facts
    if config.label_fractions:
        for name, points in curves(study, config.label_fractions).items():
            results[name]["label_efficiency"] = points
    if config.show_leak:
        for name, found in evaluation.leak(study).items():
            results[name]["leak"] = found
    metrics = {
        "synthetic": config.synthetic,
        "split": {
            "by": dataset.split_by,
            "leaky": dataset.leaky,
            "folds": config.folds,
            "parts": dataset.parts(),
            "pretraining": dataset.pretraining()
            + f"; it began with the weights of {Path(config.init).name}, and what those have seen is not "
            "known here" * (config.init not in ("random", "imagenet")),
        },
        "tasks": evaluation.by_task(cohort, results, dataset.known()),
        "audit": audit(dataset, study, save_dir),
    }
    write_json(save_dir / "metrics.json", metrics)
    write_rows(
        save_dir / "predictions.csv",
        evaluation.prediction_header(cohort),
        evaluation.prediction_rows(cohort, said[OURS]),
    )
    return metrics


def audit(dataset: Dataset, study: Study, save_dir: Path) -> dict[str, Any]:
    """What may have leaked between the parts: `leak_audit.csv`, and the gist of it."""
    import numpy as np

    from simclr_rhd.core.files import write_rows
    from simclr_rhd.evaluation import leakage as leaks

    found = leaks.audit(
        study.encoded.folds,
        leaks.thumbnails(dataset.store.frames, np.arange(len(dataset.part))),
        dataset.labelled(),
        paths=dataset.store.keys,
        groups=dataset.groups,
        folds=[fold.part for fold in dataset.folds],
    )
    write_rows(save_dir / "leak_audit.csv", leaks.HEADER, found.rows)
    alike = found.gist["near_identical"]["found"]
    if alike:
        logger.warning(
            "WARNING %d pairs of frames in different parts look nearly identical (leak_audit.csv): if they "
            "are of one patient, the scores are too good",
            alike,
        )
    return found.gist


def finish(
    config: Config,
    dataset: Dataset,
    record: Any,
    metrics: dict[str, Any],
    shown: Contents | None,
    save_dir: Path,
) -> int:
    """The report and the short table; marks the run as finished."""
    from simclr_rhd.core.files import write_text
    from simclr_rhd.report.model_card import model_card
    from simclr_rhd.report.page.page import MOST_REJECTED, write_html
    from simclr_rhd.report.summary import summary

    said, names = summary(metrics, save_dir=config.save_dir), dataset.pseudonyms()
    with record.stage("report"):
        write_html(
            save_dir / "report.html",
            metrics=metrics,
            run=record.facts,
            shown=shown,
            rejected=[
                (names.file(path), names.without(reason))
                for path, reason in dataset.store.rejected[:MOST_REJECTED]
            ],
            n_rejected=len(dataset.store.rejected),
        )
        write_text(save_dir / "model_card.md", model_card(metrics, record.facts))
    record.note(
        summary=said,
        figures=shown is not None,
        status="finished",
        finished=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    for line in said.splitlines():
        logger.info(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
