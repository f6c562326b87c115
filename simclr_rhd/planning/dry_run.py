"""The dress rehearsal: every stage on a handful of frames, before the long run."""

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd import load_model
from simclr_rhd.config import Config
from simclr_rhd.core import distributed as ranks
from simclr_rhd.core import logs
from simclr_rhd.core.errors import RankLost, UserError
from simclr_rhd.core.file_names import DRY_RUN_PREFIX, RUN_RECORD
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.planning.plan import workload_of
from simclr_rhd.runs.context import RunContext
from simclr_rhd.runs.record import RunRecord
from simclr_rhd.ssl.config import TrainingSettings
from simclr_rhd.ssl.schedule import sizes_of

logger = logging.getLogger("simclr_rhd")

BATCH_SIZE = 8  # frames

Stages = Callable[[Config, Dataset, TrainingSettings, RunContext], Any]


def dry_run(config: Config, dataset: Dataset, run: RunContext, stages: Stages) -> None:
    """Do every stage on a handful of frames, with all ranks as in the run, into a folder that is thrown away.

    A run must not fail after ten hours for a reason that is there in its first minute: a missing package, a
    class name that no picture can show, a folder that cannot be written to.

    Args:
        config: of the run.
        dataset: all frames.
        run: gives the folder, the device and the counts.
        stages: what follows the data, from pretraining to the report.
    """
    start, subset = time.perf_counter(), dataset.dry_run_subset(at_least=2 * ranks.world_size())
    in_folder = tempfile.TemporaryDirectory(prefix=DRY_RUN_PREFIX, dir=run.save_dir)
    try:
        with in_folder as name, logs.mute_logging():
            folder = Path(name)
            known = {name: run.record.facts[name] for name in ("data", "counts")}
            record = RunRecord(None, argv=[], config=vars(config), **known)
            record.write_to(folder / RUN_RECORD)
            small = RunContext(folder, run.device, record, is_rehearsal=True)
            once = replace(subset, pretrained_once=True)  # one encoder shows what K would
            stages(shortened(config), once, _settings(config, dataset, subset), small)
            for path in sorted(folder.glob("model*.pt")):
                _check_model(path, subset, config.device)
    except (ModuleNotFoundError, UserError, RankLost):
        raise
    except Exception:
        logger.error("the dress rehearsal failed, as the run would have after pretraining:")
        raise
    logger.info(
        "rehearsal: every stage works, on a handful of frames (%d, in %s)",
        *(len(subset.part), logs.format_duration(time.perf_counter() - start)),
    )


def shortened(config: Config) -> Config:
    """Return the configuration with as few epochs as all stages need."""
    return replace(
        config,
        epochs=len(sizes_of(config)),
        linear_epochs=1,
        finetune_epochs=1,
        head_seeds=1,
        monitor="training-loss" if config.monitor == "knn" else config.monitor,  # too few frames for a vote
        init="random",
    )


def _settings(config: Config, dataset: Dataset, subset: Dataset) -> TrainingSettings:
    processes = ranks.world_size()
    batch_size = min(workload_of(config, dataset).rows, len(subset.rows("unlabelled")))
    batch_size = min(batch_size, max(BATCH_SIZE, 2 * processes)) // processes * processes
    several = subset.effective_videos() > 1
    return TrainingSettings(
        batch_size=batch_size,
        micro_batch=max(1, batch_size // processes // 2) if config.micro_batch else None,
        learning_rate=1e-4,
        weight_decay=0.0,
        warmup_epochs=0.0,
        positives="video" if config.positives != "frame" and several else "frame",
        precision=config.precision,
    )


def _check_model(path: Path, dataset: Dataset, device: str) -> None:
    """Load a model that the rehearsal wrote, and predict with it.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        model = load_model(path, device=device)
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UserError(f"the run would end with a {path.name} that cannot be loaded: {reason}") from None
    frame = dataset.store.frames[dataset.labelled()[:1]]
    predictions = model.predict_squares(np.broadcast_to(frame, (1, 3, *frame.shape[2:])).copy())
    for task, p in predictions.probabilities.items():
        if not np.isfinite(p).all():
            raise RuntimeError(f"{path.name} gives no probabilities for {task}")
