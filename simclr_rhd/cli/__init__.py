"""The command line: parse, run, and turn what happens into an exit status."""

import logging
import sys
from collections.abc import Sequence

from simclr_rhd.cli.arguments import Command
from simclr_rhd.cli.command_line import parse
from simclr_rhd.cli.commands import run
from simclr_rhd.config import Config
from simclr_rhd.core import logs, signals
from simclr_rhd.core.errors import ErrorOfAllRanks, RankLost, UserError, is_out_of_memory

logger = logging.getLogger("simclr_rhd")

PACKAGE_NAMES = {"umap": "umap-learn", "sklearn": "scikit-learn", "PIL": "pillow"}  # by module


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 2 bad arguments or input, 1 anything else)."""
    try:
        config = parse(argv)
    except SystemExit as leaving:  # argparse has printed the reason
        return int(leaving.code or 0)
    logs.start_log()
    try:
        with signals.handle_termination(is_follower=logs.rank() > 0):
            run(config, sys.argv[1:] if argv is None else list(argv))
            return 0
    except (Exception, KeyboardInterrupt, signals.Terminated) as error:
        return _report(error, config)
    finally:
        logs.stop_log()


def _report(error: BaseException, config: Config | Command) -> int:
    """Log an error that is being handled, in the user's words; returns the exit status."""
    advice, again = "", ""
    if isinstance(config, Config):
        again = "the same command" + ", without --overwrite," * config.overwrite
    if logs.is_in_file():  # the run has begun to write to its folder
        advice = f"; what is finished is saved, and {again} continues from there"
    if isinstance(error, UserError):
        own = logs.rank() > 0 and not isinstance(error, ErrorOfAllRanks)
        logger.error("error: %s%s", f"rank {logs.rank()}: " * own, error)
        return 2
    if isinstance(error, KeyboardInterrupt | signals.Terminated):
        logger.error("stopped%s", advice)
        return 130 if isinstance(error, KeyboardInterrupt) else 143
    if isinstance(error, RankLost):
        if status := signals.signal_exit_status():  # the leader ends first, when all get the signal
            return status
        logger.error(
            "error: rank %d: another rank ended, so this one stops; %s continues from the last "
            "checkpoint (%s)",
            *(logs.rank(), again, error),
        )
    elif isinstance(error, OSError):  # a full disk, a folder that went away
        logger.error("error: %s%s", error, advice)
    elif isinstance(error, ImportError):
        return _report_import(error)
    elif isinstance(error, Exception) and is_out_of_memory(error):
        logger.error(
            "error: the memory does not suffice (%s)%s. A smaller --batch-size, --micro-batch or "
            "--image-size takes less; so does a higher limit, where `ulimit -v` or a scheduler sets one",
            *(_shorten(error) or type(error).__name__, advice),
        )
    else:
        logger.exception("internal error, please report it with these lines")
    return 1


def _report_import(error: ImportError) -> int:
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").split(".")[0]
        logger.error("error: a package is missing: pip install %s", PACKAGE_NAMES.get(name, name))
        return 2
    logger.error(
        "error: a package is installed and cannot be loaded (%s). Where a process has little memory, as by "
        "`ulimit -v` or a scheduler, give it some gigabytes; else install the package anew",
        _shorten(error),
    )
    return 1


def _shorten(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
