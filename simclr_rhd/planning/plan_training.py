"""The decisions before a pretraining: new ones, or those that the run which is continued began with."""

import logging
from dataclasses import replace

import torch

from simclr_rhd.config import Config
from simclr_rhd.core import distributed as ranks
from simclr_rhd.core.config import AUTO
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.planning import run_estimate
from simclr_rhd.planning.auto_settings import settings_from_record
from simclr_rhd.planning.plan import decide, disk_bytes, log_estimate, make_plan, measure, workload_of
from simclr_rhd.planning.precision import can_use_bfloat16, resolve_precision
from simclr_rhd.planning.process_memory import available_memory
from simclr_rhd.planning.time_plan import TimePlan
from simclr_rhd.runs.context import RunContext
from simclr_rhd.ssl.config import TrainingSettings
from simclr_rhd.ssl.schedule import sizes_of

logger = logging.getLogger("simclr_rhd")


def plan_training(
    config: Config, dataset: Dataset, run: RunContext
) -> tuple[Config, TrainingSettings, RunContext]:
    """Decide the settings of the pretraining, and its epochs where --minutes plans them; log what it takes.

    Returns:
        The configuration with what is planned, the settings, and the run with its time limit.

    Raises:
        UserError: the data, the memory, the disk or the time do not suffice.
    """
    work, cost, free, planned = workload_of(config, dataset), None, available_memory(run.device), config
    is_timed = config.minutes is not None
    if not config.no_rehearsal or is_timed or AUTO in (config.batch_size, config.micro_batch):
        cost = measure(config, work, run.device)
    settings, time_plan = _decided_before(config, run) or decide(config, work, cost, run.device)
    if time_plan:
        planned = time_plan.apply(config)
        run.record.update(time_plan=vars(time_plan))
    run.record.update(settled=vars(settings) | (time_plan.decided if time_plan else {}))
    if cost:
        run_estimate.check_disk_space(run.save_dir, disk_bytes(config, cost))
        plan = make_plan(planned, settings, work)
        run.record.update(estimate=log_estimate(cost, plan, free, run.device))
    if settings.batch_size % ranks.world_size():  # a run that began with fewer
        raise UserError(
            f"the batches of {settings.batch_size} frames that this run began with cannot be shared by "
            f"{ranks.world_size()} processes"
        )
    config, run = share_time_plan(config, run, time_plan)
    return config, settings, run


def share_time_plan(
    config: Config, run: RunContext, time_plan: TimePlan | None = None
) -> tuple[Config, RunContext]:
    """The configuration and the run with the leader's plan for --minutes, if there is one, at every rank."""
    if fields := ranks.broadcast(time_plan and vars(time_plan)):
        time_plan = TimePlan(**fields)
        return time_plan.apply(config), replace(run, limit=time_plan.limit())
    return config, run


def _decided_before(config: Config, run: RunContext) -> tuple[TrainingSettings, TimePlan | None] | None:
    """The decisions of the run that this one continues; None for a new run.

    Raises:
        UserError: its record is damaged.
    """
    facts, where = run.record.facts, f"--save-dir {run.save_dir}: run.json"
    if facts.get("settled") is None:
        return None
    settings = on_this_device(settings_from_record(facts["settled"], f"{where}: settled"), run.device)
    if config.minutes is None:
        return settings, None
    time_plan = TimePlan.from_record(facts.get("time_plan"), f"{where}: time_plan", sizes_of(config))
    logger.info(
        "--minutes %g: the plan of %d epochs is that of the run before; the minutes count from now",
        *(config.minutes, time_plan.epochs),
    )
    return settings, time_plan.for_evaluation(config) if config.evaluate_again else time_plan


def on_this_device(settings: TrainingSettings, device: torch.device) -> TrainingSettings:
    """The settings that a resumed run began with, in numbers that this device has."""
    if settings.precision == "float32" or (settings.precision == "float16" and device.type == "cuda"):
        return settings
    if settings.precision == "bfloat16" and can_use_bfloat16(device):
        return settings
    here = resolve_precision(AUTO, device)
    logger.info("NOTICE this run began in %s, which this device lacks: %s is used", settings.precision, here)
    return replace(settings, precision=here)
