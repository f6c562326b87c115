"""The main job: from frames and a label table to a trained classifier, honest metrics and pictures."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from simclr_rhd.config import Config, downstream_fields
from simclr_rhd.core import distributed as ranks
from simclr_rhd.core.device import make_deterministic, resolve_device
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import FINETUNED_MODEL, HISTORY, MODEL, PROTECTED_FILES, REJECTED
from simclr_rhd.core.files import cache_folder, write_lines
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.labelled_set import Probabilities, build_labelled_set
from simclr_rhd.data.load import read_dataset
from simclr_rhd.data.sources.open import open_data
from simclr_rhd.data.summary.counts import summarize
from simclr_rhd.data.summary.sentences import describe
from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.evaluation.run_metrics import FoldOutcome, evaluate_run, write_metrics
from simclr_rhd.evaluation.screening.positives import log_questions
from simclr_rhd.evaluation.targets import FINETUNED
from simclr_rhd.heads.cross_validation import OURS, CrossValidation, FoldResult, out_of_fold
from simclr_rhd.heads.encode import encode
from simclr_rhd.heads.finetune import finetune_folds
from simclr_rhd.heads.train import log_heads
from simclr_rhd.inference import classifier
from simclr_rhd.inference.fit_classifier import make_classifier
from simclr_rhd.planning.dry_run import dry_run
from simclr_rhd.planning.follow import follow
from simclr_rhd.planning.plan import announce
from simclr_rhd.planning.plan_training import plan_training
from simclr_rhd.planning.precision import resolve_precision
from simclr_rhd.report.build import RunOutcome, draw_run, start_maps, write_report
from simclr_rhd.report.page.sections import ReportData
from simclr_rhd.report.summary import headline_scores, recorded_results, summary
from simclr_rhd.runs import checkpoint
from simclr_rhd.runs.context import Identity, RunContext, open_run
from simclr_rhd.ssl.config import TrainingSettings
from simclr_rhd.ssl.encoder.features import extract_with_ood_stats
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.pretrain import PretrainedEncoders, pretrain, pretrain_folds, share_data

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
    identity = Identity(argv, config, config.signature(), downstream_fields())
    with open_run(config, device, identity) as run:
        if run.is_finished(config):
            return run.repeat_summary()
        announce(config, run)
        build(config.init, seed=config.seed)  # weights that cannot be read are known before the data are
        if not ranks.is_main_process():
            return follow(config, run)
        config = replace(config, precision=resolve_precision(config.precision, device))
        with ranks.errors_reach_followers():
            run.start_trackers(config)
            with run.stage("data"):
                dataset = load_dataset(config, run)
            config = replace(config, folds=len(dataset.folds))  # with --folds-by known only now
            if config.has_rehearsal:
                with run.stage("rehearsal"):
                    dry_run(config, dataset, run, run_stages)
            with run.stage("estimate"):
                config, settings, run = plan_training(config, dataset, run)
            run.begin(dataset, identity.config)
        run_stages(config, dataset, settings, run)


def load_dataset(config: Config, run: RunContext) -> Dataset:
    """Read frames, labels, groups and parts; a resumed run must find the data it started with."""
    source, before = open_data(config), run.before
    taken = any((run.save_dir / name).exists() for name in PROTECTED_FILES)  # its tables are another run's
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
    log_questions(build_labelled_set(dataset, multilabel=config.multilabel), config.positive)
    facts = {"location": source.location, "synthetic": config.synthetic, "fingerprint": dataset.fingerprint}
    run.record.update(data=facts, counts=counts.to_json())
    return dataset


def run_stages(config: Config, dataset: Dataset, settings: TrainingSettings, run: RunContext) -> None:
    """Pretrain with all ranks, train the heads, evaluate, and report."""
    model, (data, *folds) = build(config.init, seed=config.seed), share_data(dataset, settings)
    with run.stage("pretraining"):
        epochs = pretrain(config, settings, data, model, run, n_left=1 + len(folds))
        encoders = PretrainedEncoders(model.encoder, pretrain_folds(config, settings, folds, run))
    evaluate_encoders(config, dataset, encoders, [record.to_json() for record in epochs], run)


def evaluate_encoders(
    config: Config,
    dataset: Dataset,
    encoders: PretrainedEncoders,
    history: list[dict[str, Any]],
    run: RunContext,
) -> None:
    """Train heads on the frozen encoders, evaluate them, and report; `history` is that of the pretraining."""
    frozen = [checkpoint.digest(encoder) for encoder in encoders.all()]
    with run.stage("features"):  # once, for all that follows
        features = encode(config, dataset, encoders, run.device)
    with start_maps(features, config, run) as maps:
        cv = CrossValidation(build_labelled_set(dataset, multilabel=config.multilabel), features, config)
        with run.stage("heads"):
            final, folds = cv.fit_all(encoders, dataset.part[dataset.labelled()])
            log_heads(final.trained)
            history = [*history, *final.trained.history]
            write_lines(run.save_dir / HISTORY, history)
            model = make_classifier(
                config, dataset, cv, final.encoder, final.trained.heads, features.descriptors
            )
            classifier.save(run.save_dir / MODEL, model)
        trained = [fold.trained for fold in folds]
        with run.stage("comparators"):
            predictions = cv.predict_all(trained)
        tuned: list[dict[str, Any]] = []
        if config.finetune:
            with run.stage("finetuning"):
                divisions = [final, *folds] if config.folds > 1 else folds
                predictions[FINETUNED], tuned = fine_tune(config, dataset, cv, divisions, run)
                history = [*history, *tuned]
                write_lines(run.save_dir / HISTORY, history)
        with run.stage("metrics"):
            outcome = FoldOutcome(cv, trained, predictions, tuned)
            results = evaluate_run(
                config, dataset, outcome, run.save_dir, init=config.init, synthetic=config.synthetic
            ).with_test_evaluations(run.record.facts.get("test_evaluations"))
            write_metrics(run.save_dir, results, cv, predictions[OURS], config.data)
        if [checkpoint.digest(encoder) for encoder in encoders.all()] != frozen:
            raise RuntimeError("the frozen encoder changed while the heads were trained")
        contents = None
        if maps:
            tested = out_of_fold(cv.labelled_set, predictions[OURS], "test")
            fold_encoders, heads = [fold.encoder for fold in folds], [fold.heads for fold in trained]
            drawn = RunOutcome(cv.labelled_set, fold_encoders, heads, tested, history, results)
            contents = draw_run(config, dataset, drawn, maps, run)
    run.tracking.log_results(history, headline_scores(results))
    finish(dataset, results, contents, run, shown_dir=config.save_dir)


def fine_tune(
    config: Config, dataset: Dataset, cv: CrossValidation, divisions: Sequence[FoldResult], run: RunContext
) -> tuple[list[Probabilities], list[dict[str, Any]]]:
    """Fine-tune the final model and those of the folds; the folds' tables, and a record for each epoch."""
    tuned = finetune_folds(config, dataset, cv.labelled_set, divisions, run.device)
    final, rows = tuned[0], dataset.labelled()
    descriptors = extract_with_ood_stats(
        final.encoder, dataset.store.frames, rows, size=config.size, device=run.device
    )
    model = make_classifier(config, dataset, cv, final.encoder, final.heads, descriptors)
    classifier.save(run.save_dir / FINETUNED_MODEL, model)
    epochs = [row | {"way": number} for number, result in enumerate(tuned, 1) for row in result.history]
    return [result.probabilities for result in tuned[-config.folds :]], epochs


def finish(
    dataset: Dataset, results: RunResults, contents: ReportData | None, run: RunContext, *, shown_dir: str
) -> None:
    """Write the report, and log the summary; `shown_dir` is the run's folder as the user named it."""
    text = summary(results, save_dir=shown_dir)
    with run.stage("report"):
        write_report(run.save_dir, dataset, results, run.record.facts, contents)
    run.record.update(
        summary=text,
        **recorded_results(results),
        figures=contents is not None,
        status="finished",
        finished=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    for line in text.splitlines():
        logger.info(line)
