"""The plan of a run: what the data and the machine decide, and what memory and time it will take."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import torch

from simclr_rhd.config import Config
from simclr_rhd.core import distributed as ranks
from simclr_rhd.core import logs
from simclr_rhd.core.config import IMAGE_SIZE
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.text import command_name
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.sources.remote import remote_places
from simclr_rhd.evaluation.label_efficiency import n_repeats
from simclr_rhd.heads.cross_validation import N_RANDOM_ENCODERS
from simclr_rhd.planning import profiler, run_estimate
from simclr_rhd.planning.auto_settings import log_settings, resolve_settings, resolve_warmup
from simclr_rhd.planning.process_memory import available_memory, used_memory
from simclr_rhd.planning.profiler import ProfileConfig
from simclr_rhd.planning.run_estimate import Plan
from simclr_rhd.planning.step_cost import StepCost, fits_by_model
from simclr_rhd.planning.time_plan import TimePlan, log_time_plan, plan_time
from simclr_rhd.report.wording import SYNTHETIC_WARNING
from simclr_rhd.runs.context import RunContext
from simclr_rhd.ssl.config import TrainingSettings
from simclr_rhd.ssl.encoder.initial_weights import imagenet_weights_cached
from simclr_rhd.ssl.schedule import size_per_epoch, sizes_of

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class Workload:
    """The amounts of data that a run works on.

    Attributes:
        rows: frames to pretrain on; of folds with an encoder of their own, the fewest.
        val_frames: frames held out of it.
        labelled: labelled frames.
        videos: that the frames to pretrain on are of, counted by their frames.
        grey: whether all frames are grey.
        data_s: seconds to fetch and decode what is not at hand.
    """

    rows: int
    val_frames: int
    labelled: int
    videos: float
    grey: bool
    data_s: float = 0.0


def workload_of(config: Config, dataset: Dataset) -> Workload:
    """The amounts of a data set.

    Raises:
        UserError: there are too few frames to pretrain on.
    """
    return Workload(
        rows=min(_rows_to_pretrain(config, part) for part in (dataset, *dataset.per_fold_datasets())),
        val_frames=int(dataset.ssl_val.sum()),
        labelled=len(dataset.rows("train", "val", "test")),
        videos=dataset.effective_videos(),
        grey=not dataset.store.color_modes.any(),
    )


def _rows_to_pretrain(config: Config, dataset: Dataset) -> int:
    """Number of frames that one pretraining has."""
    rows, processes = dataset.rows("unlabelled"), ranks.launched_world_size()
    if len(rows) < 2 * processes:
        outside = (
            "groups without labels; pass --pretrain-per-fold, or add frames of other patients"
            if config.folds > 1 and not config.pretrain_per_fold
            else "groups outside validation and test; add frames"
        )
        raise UserError(
            f"{len(rows)} unlabelled frames are left for pretraining, of {outside} below --unlabelled-prefix"
            + f"; {processes} processes need {2 * processes}" * (processes > 1)
        )
    if config.positives == "video" and len(set(dataset.video_codes()[rows].tolist())) < 2:
        raise UserError(
            "--positives video: all frames to pretrain on are of one video: there are no negatives"
        )
    return len(rows)


def announce(config: Config, run: RunContext) -> None:
    """Log what runs, on what."""
    facts = run.record.facts
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    logger.info("simclr-rhd %s", " ".join(facts["argv"]))
    logger.info("device: %s; commit %s; %s", facts["device"], facts["commit"], versions)
    if config.synthetic:
        logger.info(
            "%s Its frames are small, so views are %d pixels wide (default for your own data: %d). For your "
            "own data: %s --data FOLDER or --data %s",
            *(SYNTHETIC_WARNING, config.image_size, IMAGE_SIZE),
            *(command_name(), remote_places("BUCKET")),
        )
    if run.device.type == "cpu" and config.size > 128:
        logger.info(
            "NOTICE no GPU: a processor core trains on about 2 frames a second at 224 pixels, on 10 "
            "at 96. --image-size 96 is a sensible size here"
        )
    if config.init != "imagenet" and not imagenet_weights_cached():
        logger.info(
            "an encoder trained on ImageNet is not compared: its weights are not on this machine (a run with "
            "--init imagenet downloads them)"
        )


def measure(config: Config, work: Workload, device: torch.device) -> StepCost:
    """Measure training steps, with no more frames at once than the run will have."""
    return profiler.profile_step(_profile_config(config, work), device)


def _profile_config(config: Config, work: Workload) -> ProfileConfig:
    sizes = [size for size in (config.batch_size, config.micro_batch, work.rows) if isinstance(size, int)]
    per_rank = [size // ranks.launched_world_size() for size in sizes]
    return ProfileConfig(
        config.size,
        config.optimizer,
        work.grey,
        config.precision,
        max_pairs=max(2, min([profiler.PROFILED_PAIRS[-1], *per_rank])),
        smaller=sizes_of(config)[:-1],
    )


def choose_settings(
    config: Config, work: Workload, cost: StepCost | None, device: torch.device
) -> TrainingSettings:
    """Decide batch sizes, the optimizer's figures and what a positive pair is."""
    fits = None
    if device.type == "cuda":
        fits = profiler.fits_by_trying(_profile_config(config, work), device)
    elif cost:
        fits = fits_by_model(cost, available_memory(device))
    return resolve_settings(
        config, rows=work.rows, videos=work.videos, ranks=ranks.launched_world_size(), fits=fits
    )


def decide(
    config: Config, work: Workload, cost: StepCost | None, device: torch.device
) -> tuple[TrainingSettings, TimePlan | None]:
    """Decide the settings of the pretraining, and with --minutes what there is time for; log both.

    Raises:
        UserError: the ranks cannot share the batch, or the time is too short, for the warm-up perhaps.
    """
    settings, time_plan = choose_settings(config, work, cost, device), None
    if config.minutes is not None:
        assert cost
        time_plan = plan_time(config, cost, make_plan(config, settings, work))
        log_time_plan(time_plan, config)
        planned = time_plan.apply(config)
        if (config.warmup_epochs or 0) > planned.epochs:
            raise UserError(
                f"--warmup-epochs {config.warmup_epochs:g}: more than the {planned.epochs} epochs that "
                f"--minutes {config.minutes:g} has time for"
            )
        settings = replace(settings, warmup_epochs=resolve_warmup(planned))
    log_settings(config, settings)
    return settings, time_plan


def make_plan(config: Config, settings: TrainingSettings, work: Workload) -> Plan:
    """The amounts that the time of a run depends on."""
    return Plan(
        rows=work.rows,
        val_frames=work.val_frames,
        labelled=work.labelled,
        batch=settings.batch_size,
        micro_batch=settings.micro_batch,
        epochs=config.epochs,
        patience=config.patience,
        knn_every=config.knn_every,
        linear_epochs=config.linear_epochs,
        folds=config.folds,
        figures=not config.no_figures,
        sizes=tuple(size_per_epoch(sizes_of(config), config.epochs)),
        setup_s=logs.elapsed() + work.data_s,
        ranks=ranks.launched_world_size(),
        pretrainings=n_pretrainings(config),
        n_head_fits=n_head_fits(config),
        n_baseline_encoders=n_baseline_encoders(),
        finetune_epochs=config.finetune_epochs if config.finetune else 0,
    )


def n_baseline_encoders() -> int:
    """Number of encoders beside ours: untrained ones, and ImageNet's where it is at hand."""
    return N_RANDOM_ENCODERS + imagenet_weights_cached()


def n_head_fits(config: Config) -> int:
    """Number of trainings of heads: for each fold, on each encoder, and for what flags ask for."""
    encoders = 1 + n_baseline_encoders()
    of_fractions = sum(encoders * n_repeats(fraction) for fraction in config.label_fractions or ())
    return config.folds * (encoders + of_fractions + config.show_leak) + (config.folds > 1)


def n_pretrainings(config: Config) -> int:
    """Number of pretrainings: one, or one for each fold and one for the model that is kept."""
    return config.folds + 1 if config.pretrain_per_fold else 1


def disk_bytes(config: Config, cost: StepCost) -> int:
    """Bytes of the run's files."""
    return run_estimate.estimate_disk_bytes(
        cost, pretrainings=n_pretrainings(config), models=1 + config.finetune
    )


def log_estimate(cost: StepCost, plan: Plan, free: int, device: torch.device) -> dict[str, Any]:
    """Log what a run will take; the same figures for programs."""
    used = used_memory(device)
    for line in run_estimate.estimate_lines(cost, plan, used=used, free=free):
        logger.log(logging.WARNING if line.startswith("WARNING") else logging.INFO, line)
    return run_estimate.estimate_record(cost, plan, used=used)
