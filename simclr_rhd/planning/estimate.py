"""The command `estimate`: time, memory and disk of a run, without running it."""

import json
import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from simclr_rhd.config import Config
from simclr_rhd.core import logs
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import cache_folder
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.load import DataEstimate, estimate_data
from simclr_rhd.data.sources.open import open_data
from simclr_rhd.planning.dry_run import Stages, dry_run
from simclr_rhd.planning.plan import (
    Workload,
    decide,
    disk_bytes,
    log_estimate,
    make_plan,
    measure,
    workload_of,
)
from simclr_rhd.planning.process_memory import available_memory
from simclr_rhd.runs.context import RunContext
from simclr_rhd.runs.record import RunRecord

logger = logging.getLogger("simclr_rhd")

DATA = (  # knobs of data that the demo takes the place of
    "labelled_prefix",
    "unlabelled_prefix",
    "labels_csv",
    "group_by",
    "folds_by",
    "split",
    "allow_leak",
    "subgroups",
    "offline",
    "frames_per_clip",
    "max_pixels",
)


def estimate(
    config: Config,
    device: torch.device,
    load_dataset: Callable[[Config, RunContext], Dataset],
    stages: Stages,
) -> None:
    """Log time, memory and disk of a run; of data that are not decoded yet, from a sample.

    Args:
        config: of the run; its precision is decided.
        device: where the network would run.
        load_dataset: reads the data.
        stages: of the dry run, for the memory that the later stages take.
    """
    data_estimate = estimate_data(open_data(config), config)
    with tempfile.TemporaryDirectory() as name:
        known = _on_demo(config, name) if data_estimate else config
        with logs.mute_logging() if data_estimate else nullcontext():
            # where the list of unreadable frames, if they are too many, outlives this command
            run = RunContext(cache_folder(known.cache_dir), device, RunRecord(None))
            dataset = load_dataset(known, run)
            known = replace(known, folds=len(dataset.folds))
            work, start = workload_of(known, dataset), time.perf_counter()
            dry_run(known, dataset, replace(run, save_dir=Path(name)), stages)
            rehearsal_s = time.perf_counter() - start
    if data_estimate:
        work = _from_sample(data_estimate)
        if config.folds_by:
            logger.info("NOTICE the folds of --folds-by are known once the data are read: one is counted")
    else:
        config = replace(config, folds=known.folds)
    if not config.has_rehearsal:  # the run itself has none
        work = replace(work, data_s=work.data_s - rehearsal_s)
    cost = measure(config, work, device)
    settings, time_plan = decide(config, work, cost, device)
    plan = make_plan(time_plan.apply(config) if time_plan else config, settings, work)
    figures = log_estimate(cost, plan, available_memory(device), device)
    logger.info("disk: about %.0f MB in --save-dir", disk_bytes(config, cost) / 1e6)
    logger.info("the same for programs: %s", json.dumps(figures))


def _on_demo(config: Config, cache_dir: str) -> Config:
    """Return the configuration with a few built-in patients in place of the user's data."""
    default = {name: getattr(Config, name) for name in DATA}
    folds = min(config.folds, 3)  # of nine patients
    return replace(config, data="demo", demo_patients=12, folds=folds, cache_dir=cache_dir, **default)


def _from_sample(data: DataEstimate) -> Workload:
    """Log the amounts that a sample gives.

    Raises:
        UserError: there is too little to read.
    """
    logger.info(
        "data, from a sample: %d files of %.2f GB to fetch and decode in about %s; about %d labelled "
        "and %d unlabelled frames, %.2f GB in --cache-dir",
        *(data.files, data.bytes / 1e9, logs.format_duration(data.seconds), data.labelled),
        *(data.rows + data.ssl_val, data.decoded / 1e9),
    )
    if min(data.rows, data.labelled) < 2:
        raise UserError("the sample has too few readable frames for a run")
    return Workload(data.rows, data.ssl_val, data.labelled, data.videos, data.grey, data.seconds)
