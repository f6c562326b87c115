"""A run that is under way: its folder, its device, its record, and the copy in a bucket."""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core import logs
from simclr_rhd.core.device import describe_device
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import CONFIG_FILE, FINETUNED_MODEL, RUN_RECORD
from simclr_rhd.core.files import cache_folder
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.sources.remote import WRITABLE_SCHEMES
from simclr_rhd.data.store import exchange
from simclr_rhd.data.summary.tables import write_tables
from simclr_rhd.runs.config import RunConfig
from simclr_rhd.runs.outputs import clear, clear_pictures
from simclr_rhd.runs.record import PreviousRun, RunRecord, versions, write_config
from simclr_rhd.runs.remote_run_dir import ConcurrentWriteError, Mirror, open_mirror
from simclr_rhd.runs.run_dir import lock_run_dir, resume_or_refuse
from simclr_rhd.runs.test_evaluations import PastEvaluations, digest_test_part
from simclr_rhd.runs.time_limit import TimeLimit
from simclr_rhd.runs.tracking.trackers import TrackedRun
from simclr_rhd.runs.tracking.tracking import Tracking, tracker_id

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class Identity:
    """Identification of a run.

    Attributes:
        argv: the command line.
        config: as the flags set it.
        signature: those that decide the result.
        downstream: names in the signature that only decide about what follows pretraining.
    """

    argv: Sequence[str]
    config: RunConfig
    signature: Mapping[str, object]
    downstream: Sequence[str]


@dataclass(frozen=True)
class RunContext:
    """A run as its stages see it: its folder, device and record.

    Attributes:
        save_dir: the folder of this machine that the run writes to.
        device: where the network runs.
        record: `run.json`.
        before: the run that is continued; None for a new one.
        mirror: the copy in a bucket, where --save-dir is one.
        past: earlier evaluations in the folder.
        limit: the end of the run, where --minutes plans one.
        tracking: its trackers.
        series: name of this pretraining's curves in them.
        is_rehearsal: whether it is the dress rehearsal, which does not compile UMAP.
    """

    save_dir: Path
    device: torch.device
    record: RunRecord
    before: PreviousRun | None = None
    mirror: Mirror | None = None
    past: PastEvaluations = PastEvaluations()
    limit: TimeLimit | None = None
    tracking: Tracking = field(default_factory=Tracking)
    series: str = "simclr"
    is_rehearsal: bool = False

    def is_finished(self, config: RunConfig) -> bool:
        """Return True if the run of this folder is complete, with figures unless --no-figures."""
        before = self.before
        return bool(before and before.status == "finished" and (config.no_figures or before.figures))

    def repeat_summary(self) -> None:
        """Log the results of a finished run once more."""
        assert self.before is not None
        logger.info("This run was finished on %s: its data are not looked at again.", self.before.finished)
        for line in [*self.before.summary.splitlines(), "", "--overwrite repeats it."]:
            logger.info(line)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time a stage."""
        return self.record.stage(name)

    def on_saved(self) -> None:
        """Bring a checkpoint to the bucket, if it is time."""
        if self.mirror:
            self.mirror.push_if_due()

    def inside(self, name: str) -> "RunContext":
        """Return the run with a sub-folder as its folder."""
        return replace(self, save_dir=self.save_dir / name, series=f"{name}/{self.series}")

    def start_trackers(self, config: RunConfig) -> None:
        """Start the trackers; those of a resumed run continue its run there.

        Raises:
            UserError: a tracker of a new run does not answer.
        """
        if self.tracking.names:
            name = os.path.basename(os.path.abspath(config.save_dir))
            tracked = TrackedRun(tracker_id(self.record.facts.get("tracker_id")), name, self.save_dir)
            self.record.update(tracker_id=tracked.id)
            self.tracking.start(tracked, is_new=self.before is None)

    def begin(self, dataset: Dataset, config: RunConfig) -> None:
        """Start to write, once the run is known to be possible: tables, log, record, and the flags."""
        if self.before is None:
            clear(self.save_dir)
            if self.mirror:  # before a checkpoint of this run can stand beside one of another
                self.mirror.push()
        else:  # results of the previous evaluation, which this one may not have
            clear_pictures(self.save_dir)
            (self.save_dir / FINETUNED_MODEL).unlink(missing_ok=True)
        logs.log_to(self.save_dir)
        test_part = digest_test_part(dataset)
        self.record.update(test_part=test_part, test_evaluations=self.past.count(test_part))
        self.record.write_to(self.save_dir / RUN_RECORD)
        write_config(self.save_dir / CONFIG_FILE, config)
        write_tables(dataset, self.save_dir)
        facts = self.record.facts
        more = {"data_fingerprint": facts["data"]["fingerprint"], "commit": facts["commit"]}
        self.tracking.log_config({**facts["config"], **facts.get("settled", {}), **more})


@contextmanager
def open_run(config: RunConfig, device: torch.device, identity: Identity) -> Iterator[RunContext]:
    """Hold a run's folder, join its processes, and decide whether an earlier run is continued.

    Raises:
        UserError: the folder cannot be used, or holds another run.
    """
    save_dir = local_folder(config)
    if logs.rank():  # the leader alone writes
        with ranks.process_group(device):
            yield _started(config, device, identity, save_dir, None)
        return
    with (
        Tracking(config.trackers) as tracking,  # the last to end: a server may be slow
        lock_run_dir(save_dir),
        _mirroring(config, save_dir) as mirror,
    ):
        try:
            with ranks.process_group(device):
                run = _started(config, device, identity, save_dir, mirror)
                yield replace(run, tracking=tracking)
        except UserError as error:
            if mirror is None or isinstance(error, ConcurrentWriteError):  # that one means the local folder
                raise
            raise UserError(str(error).replace(str(save_dir), config.save_dir)) from None


def _started(
    config: RunConfig, device: torch.device, identity: Identity, save_dir: Path, mirror: Mirror | None
) -> RunContext:
    if ranks.world_size() > 1:
        _refuse_other_starts(identity)
    previous = None
    if ranks.is_main_process():
        with ranks.errors_reach_followers():
            previous = resume_or_refuse(
                save_dir,
                identity.signature,
                changeable=identity.downstream,
                reevaluate=config.evaluate_again,
                resume=config.resume,
                overwrite=config.overwrite,
            )
    previous = ranks.broadcast(previous)
    record = RunRecord(
        previous,
        argv=identity.argv,
        signature=identity.signature,
        config=vars(identity.config),
        device=describe_device(device),
    )
    before = None if previous is None else PreviousRun.from_record(previous)
    past = PastEvaluations.from_folder(save_dir, identity.signature, evaluate_again=config.evaluate_again)
    return RunContext(save_dir, device, record, before, mirror, past)


def _refuse_other_starts(identity: Identity) -> None:
    """Stop all ranks where one was started with other flags, or has other versions of packages.

    Raises:
        ErrorOfAllRanks: one was.
    """
    own = dict(identity.signature) | versions()
    del own["python"], own["data"]  # a folder may have another place; what is in it is compared later
    with exchange.raise_together():
        leaders = ranks.broadcast(own)
        if other := [name for name, value in own.items() if value != leaders[name]]:
            differences = ", ".join(f"{name} {own[name]} (rank 0: {leaders[name]})" for name in other)
            raise UserError(f"this machine was started with other flags or versions: {differences}")


def local_folder(config: RunConfig) -> Path:
    """The folder of this machine that the run writes to."""
    if not config.save_dir.startswith(WRITABLE_SCHEMES):
        return Path(config.save_dir)
    name = hashlib.sha256(config.save_dir.rstrip("/").encode()).hexdigest()[:16]
    return cache_folder(config.cache_dir) / "runs" / name


def _mirroring(config: RunConfig, save_dir: Path) -> AbstractContextManager[Mirror | None]:
    """Open the copy in the bucket, where --save-dir is one."""
    if not config.save_dir.startswith(WRITABLE_SCHEMES):
        return nullcontext()
    return open_mirror(config.save_dir, save_dir, config.bucket_access())
