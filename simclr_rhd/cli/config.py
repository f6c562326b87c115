"""The command line of the main job: its flags, and the rules between them.

Nothing heavy is imported here, so `main.py --help` answers at once.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence

from simclr_rhd.cli.arguments import Command, parse_compare, parse_export, parse_predict
from simclr_rhd.cli.parser import flag_name, make_parser, out_of_range, read
from simclr_rhd.config import Config
from simclr_rhd.core.config import DEMO_IMAGE_SIZE, IMAGE_SIZE

COMMANDS = ("train", "predict", "export", "estimate", "compare")
PARSERS: dict[str, Callable[[Sequence[str]], Command]] = {
    "compare": parse_compare,
    "predict": parse_predict,
    "export": parse_export,
}


def parse(argv: Sequence[str] | None = None) -> Config | Command:
    """Read the command line (`sys.argv` if None). Leaves with status 2 and one message on any mistake."""
    parser = build_parser()
    arguments, command = list(sys.argv[1:] if argv is None else argv), COMMANDS[0]
    if arguments and not arguments[0].startswith("-"):
        command = arguments.pop(0)
        if command not in COMMANDS:
            parser.error(f"unknown command {command!r}; known: {', '.join(COMMANDS)}")
    if command in PARSERS:
        return PARSERS[command](arguments)
    config = read(parser, Config, arguments, command=command)
    if config.image_size is None:
        config = dataclasses.replace(config, image_size=DEMO_IMAGE_SIZE if config.synthetic else IMAGE_SIZE)
    if problems := [*out_of_range(config), *contradictions(config)]:
        parser.error("\n  ".join(["the command line asks for what cannot be:", *problems]))
    return config


def build_parser() -> argparse.ArgumentParser:
    """The parser of the main job: a flag for each declared field of `Config`."""
    return make_parser(
        Config,
        prog="main.py",
        usage="python3 main.py [train | estimate] [flags]\n"
        "       python3 main.py predict PATH... [--model FILE] [--out FILE.csv]\n"
        "       python3 main.py export [--model FILE] [--out DIR]\n"
        "       python3 main.py compare DIR DIR... [--out FILE.html]",
        description="SimCLR pretraining on unlabelled heart ultrasound frames, then three linear heads "
        "(view, valve condition, severity) with honest metrics. Without flags it runs on built-in "
        "synthetic data. `estimate` gives the memory and time of a run with these flags, without running it; "
        "`predict` classifies new frames with what a run has learnt, `export` writes it for other runtimes, "
        "`compare` holds finished runs against each other (each has its own --help).",
    )


def contradictions(config: Config) -> Iterator[str]:
    """The flags that do not fit each other, one sentence each."""
    if config.monitor == "knn" and config.knn_every != 1:
        yield f"--monitor knn: wanted --knn-every 1, got {config.knn_every}: each epoch is judged by it"
    for name in ("finetune_epochs", "finetune_lr"):
        if getattr(config, name) != getattr(Config, name) and not config.finetune:
            yield f"{flag_name(name)} {getattr(config, name)}: only --finetune reads it"
    in_bucket = any(place.startswith("gs://") for place in (config.data, config.save_dir))
    if config.billing_project is not None and not in_bucket:
        yield f"--billing-project {config.billing_project}: only gs://BUCKET in --data or --save-dir reads it"
    if config.evaluate_again and config.overwrite:
        yield "--evaluate-again keeps what --overwrite would remove: wanted one of them"
    if config.pretrain_per_fold and config.folds == 1:
        yield "--pretrain-per-fold: there are no folds; wanted --folds 2 or more"
    if config.monitor == "knn" and config.folds > 1 and not config.pretrain_per_fold:
        yield (
            "--monitor knn: all labelled groups are tested by some fold, so their labels must not stop the "
            "pretraining; wanted --pretrain-per-fold, or another monitor"
        )
    if config.warmup_epochs is not None and config.warmup_epochs > config.epochs:
        yield f"--warmup-epochs {config.warmup_epochs}: more than --epochs {config.epochs}"
    if config.demo_patients != Config.demo_patients and not config.synthetic:
        yield f"--demo-patients {config.demo_patients}: only --data demo has demo patients"
