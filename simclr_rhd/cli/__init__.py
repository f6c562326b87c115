"""The command line: parse, run, and turn what happens into an exit status."""

import logging
import sys
from collections.abc import Sequence

from simclr_rhd.cli.commands import run
from simclr_rhd.cli.config import parse
from simclr_rhd.config import Config
from simclr_rhd.core import logs, signals
from simclr_rhd.core.errors import RankLost, UserError, is_out_of_memory

logger = logging.getLogger("simclr_rhd")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 2 bad arguments or input, 1 anything else)."""
    try:
        config = parse(argv)
    except SystemExit as leaving:  # argparse has printed the reason
        return int(leaving.code or 0)
    again, kept, follows = "", "", logs.rank() > 0
    if isinstance(config, Config):
        again = "the same command" + ", without --overwrite," * config.overwrite
        kept = f"; what is finished is saved, and {again} goes on from there"
    logs.start_log()
    try:
        with signals.handle_termination(is_follower=follows):
            run(config, sys.argv[1:] if argv is None else list(argv))
            return 0
    except UserError as error:
        logger.error("error: %s%s", f"rank {logs.rank()}: " * follows, error)
        return 2
    except (KeyboardInterrupt, signals.Terminated) as stop:
        logger.error("stopped%s", kept)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    except RankLost as error:
        if stopped := signals.signal_exit_status():  # the leader ends first, when all get the signal
            return stopped
        logger.error(
            "error: rank %d: another rank ended, so this one does; %s goes on from the last checkpoint (%s)",
            *(logs.rank(), again, error),
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
        if is_out_of_memory(error):
            logger.error(
                "error: the memory does not suffice (%s)%s. A smaller --batch-size, --micro-batch or "
                "--image-size takes less; so does a higher limit, where `ulimit -v` or a scheduler sets one",
                *(" ".join(str(error).split())[:200] or type(error).__name__, kept),
            )
            return 1
        logger.exception("internal error, please report it with these lines")
        return 1
    finally:
        logs.stop_log()
