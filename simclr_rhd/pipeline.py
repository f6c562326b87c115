"""The main job: from frames and a label table to a trained classifier, honest metrics and pictures."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from simclr_rhd.config import Config, downstream_fields
from simclr_rhd.core import distributed as ranks
from simclr_rhd.core.config import IMAGE_SIZE
from simclr_rhd.core.device import make_deterministic, resolve_device
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import FINETUNED_MODEL, HISTORY, MODEL, PROTECTED_FILES, REJECTED
from simclr_rhd.core.files import cache_folder, write_lines
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.labelled_set import build_labelled_set
from simclr_rhd.data.load import open_data, read_dataset
from simclr_rhd.data.summary.counts import summarize
from simclr_rhd.data.summary.sentences import describe
from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.evaluation.run_metrics import (
    audit_leakage,
    describe_split,
    evaluate,
    results_by_task,
    write_metrics,
)
from simclr_rhd.evaluation.targets import FINETUNED
from simclr_rhd.heads.cross_validation import OURS, CrossValidation, out_of_fold
from simclr_rhd.heads.encode import encode
from simclr_rhd.heads.finetune import finetune_folds
from simclr_rhd.heads.train import log_heads, options_of
from simclr_rhd.inference import classifier
from simclr_rhd.inference.fit_classifier import make_classifier
from simclr_rhd.planning.dry_run import dry_run
from simclr_rhd.planning.plan import plan_training
from simclr_rhd.planning.precision import resolve_precision
from simclr_rhd.report.build import Shown, draw_run, start_maps, write_report
from simclr_rhd.report.summary import summary
from simclr_rhd.runs import checkpoint
from simclr_rhd.runs.context import Identity, RunContext, open_run
from simclr_rhd.ssl.config import TrainingSettings
from simclr_rhd.ssl.encoder.features import extract_with_ood_stats
from simclr_rhd.ssl.encoder.model import SimCLR, build
from simclr_rhd.ssl.monitoring.epoch_log import require_tensorboard
from simclr_rhd.ssl.pretrain import pretrain, pretrain_folds

logger = logging.getLogger("simclr_rhd")


def train(config: Config, argv: Sequence[str]) -> None:
    """Do the main job, or go on with it.

    Args:
        config: of the run.
        argv: the command line, for the record.

    Raises:
        UserError: the flags, the data or the machine do not allow it.
    """
    make_deterministic()
    device = resolve_device(config.device)
    if config.tensorboard:
        require_tensorboard()
    identity = Identity(argv, vars(config), config.signature(), downstream_fields())
    with open_run(config, device, identity) as run:
        if run.is_finished(config):
            return run.repeat_summary()
        announce(config, run)
        precision = resolve_precision(config.precision, device) if ranks.is_main_process() else None
        config = replace(config, precision=ranks.broadcast(precision))
        build(config.init, seed=config.seed)  # weights that cannot be read are known before the data are
        with run.stage("data"), ranks.local_main_first():
            dataset = load_dataset(config, run)
        ranks.assert_same_data(dataset.fingerprint)
        if not config.no_rehearsal:
            with run.stage("rehearsal"):
                dry_run(config, dataset, run, run_stages)
        with run.stage("estimate"):
            settings = plan_training(config, dataset, run)
        if ranks.is_main_process():
            run.begin(dataset)
        run_stages(config, dataset, settings, run)


def load_dataset(config: Config, run: RunContext) -> Dataset:
    """Read frames, labels, groups and parts; a resumed run must find the data it started with."""
    source, before = open_data(config), run.before
    taken = any(
        (run.save_dir / name).exists() for name in PROTECTED_FILES
    )  # by a run whose tables are its own
    folder = cache_folder(config.cache_dir) if taken else run.save_dir
    dataset = read_dataset(source, config, rejected_csv=folder / REJECTED)
    counts = summarize(dataset, source)
    for line in describe(dataset, counts):
        logger.log(logging.WARNING if line.startswith("WARNING") else logging.INFO, line)
    if before and before.fingerprint != dataset.fingerprint:
        raise UserError(
            f"the data changed since the {before.status} run in --save-dir {run.save_dir} began; pass "
            "--overwrite to start anew, or name another folder"
        )
    facts = {"location": source.location, "synthetic": config.synthetic, "fingerprint": dataset.fingerprint}
    run.record.update(data=facts, counts=counts.to_json())
    return dataset


def run_stages(config: Config, dataset: Dataset, settings: TrainingSettings, run: RunContext) -> None:
    """Pretrain, train the heads, evaluate, and report."""
    model = build(config.init, seed=config.seed)
    with run.stage("pretraining"):
        history = [record.to_json() for record in pretrain(config, settings, dataset, model, run)]
        models = [model, *pretrain_folds(config, settings, dataset, run)]
    if ranks.is_main_process():
        conclude(config, dataset, models, history, run)


def conclude(
    config: Config, dataset: Dataset, models: list[SimCLR], history: list[dict[str, Any]], run: RunContext
) -> None:
    """Train heads on the frozen encoders, evaluate them, and report.

    Args:
        config: of the run.
        dataset: the frames.
        models: the one that is kept and, where each fold has its own, those of the folds.
        history: one record for each epoch of the pretraining.
        run: where it writes.
    """
    save_dir, frozen = run.save_dir, [checkpoint.digest(model.encoder) for model in models]
    with run.stage("features"):  # once, for all that follows
        encoded = encode(config, dataset, models, run.device)
    with start_maps(encoded, seed=config.seed, wanted=not config.no_figures) as maps:
        study = CrossValidation(
            build_labelled_set(dataset, multilabel=config.multilabel), encoded, options_of(config)
        )
        with run.stage("heads"):
            trained = study.fit_folds(encoded.per_fold)
            kept = study.fit_final(dataset.part[dataset.labelled()]) if config.folds > 1 else trained[0]
            log_heads(kept, config.linear_epochs)
            history = [*history, *kept.history]
            write_lines(save_dir / HISTORY, history)
            model = make_classifier(
                config, dataset, study, models[0].encoder, kept.heads, encoded.descriptors
            )
            classifier.save(save_dir / MODEL, model)
        with run.stage("comparators"):
            said = study.predict_all(trained)
        tuned: list[dict[str, Any]] = []
        if config.finetune:
            with run.stage("finetuning"):
                found = finetune_folds(config, dataset, study, models, [kept, *trained], run.device)
                said[FINETUNED] = [of.probabilities for of in found[-config.folds :]]
                tuned = [row | {"way": number} for number, of in enumerate(found, 1) for row in of.history]
                history = [*history, *tuned]
                write_lines(save_dir / HISTORY, history)
                encoder, rows = found[0].encoder, dataset.labelled()
                described = extract_with_ood_stats(
                    encoder, dataset.store.frames, rows, size=config.size, device=run.device
                )
                model = make_classifier(config, dataset, study, encoder, found[0].heads, described)
                classifier.save(save_dir / FINETUNED_MODEL, model)
        with run.stage("metrics"):
            results = evaluate(config, study, trained, said, tuned)
            metrics = RunResults(
                synthetic=config.synthetic,
                split=describe_split(dataset, config.init),
                tasks=results_by_task(study.labelled_set, results, dataset.class_info()),
                audit=audit_leakage(dataset, study, save_dir),
            )
            write_metrics(save_dir, metrics, study, said[OURS])
        if [checkpoint.digest(model.encoder) for model in models] != frozen:
            raise RuntimeError("the frozen encoder changed while the heads were trained")
        contents = None
        if maps:
            encoders = [model.encoder for model in models[1:] or models * len(trained)]
            heads = [of_fold.heads for of_fold in trained]
            tested = out_of_fold(study.labelled_set, said[OURS], "test")
            shown = Shown(study.labelled_set, encoders, heads, tested, history, metrics)
            contents = draw_run(config, dataset, shown, maps, run)
    text = summary(metrics, save_dir=config.save_dir)
    with run.stage("report"):
        write_report(save_dir, dataset, metrics, run.record.facts, contents)
    run.record.update(
        summary=text,
        figures=contents is not None,
        status="finished",
        finished=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    for line in text.splitlines():
        logger.info(line)


def announce(config: Config, run: RunContext) -> None:
    """Log what runs, on what."""
    facts = run.record.facts
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    logger.info("simclr-rhd %s", " ".join(facts["argv"]))
    logger.info("device: %s; commit %s; %s", facts["device"], facts["commit"], versions)
    if config.synthetic:
        logger.info(
            "SYNTHETIC demo data: nothing here says anything about patients. Its frames are small, "
            "so views are %d pixels wide (default for your own data: %d). For your own data: "
            "python3 main.py --data FOLDER or --data gs://BUCKET",
            config.image_size,
            IMAGE_SIZE,
        )
    if run.device.type == "cpu" and config.size > 128:
        logger.info(
            "NOTICE no GPU: a processor core trains on about 2 frames a second at 224 pixels, on 10 "
            "at 96. --image-size 96 is a sensible size here"
        )
