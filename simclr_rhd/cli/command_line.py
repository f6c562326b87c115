"""The command line: the commands with their flags, and the rules between the flags of the main job.

Nothing heavy is imported here, so `main.py --help` answers at once.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from simclr_rhd.cli.arguments import (
    Command,
    CompareArgs,
    ExportArgs,
    PredictArgs,
    RunsArgs,
    compare_problems,
    demo_problems,
    evaluate_problems,
    export_problems,
    predict_problems,
    runs_problems,
)
from simclr_rhd.cli.parser import CommandLine, make_parser, out_of_range
from simclr_rhd.cli.read import read
from simclr_rhd.config import Config
from simclr_rhd.core.config import DEMO_IMAGE_SIZE, IMAGE_SIZE, flag_name
from simclr_rhd.core.file_names import SPLIT
from simclr_rhd.core.text import printable
from simclr_rhd.data.config import OWN_SPLIT_AUTO, OWN_SPLIT_NONE
from simclr_rhd.data.labels.tasks.flag import parse_tasks
from simclr_rhd.inference.external.config import ExternalConfig
from simclr_rhd.ssl.config import EPOCHS, EPOCHS_IN_TIME


def parse(argv: Sequence[str] | None = None) -> Config | Command:
    """Read the command line (`sys.argv` if None). Leaves with status 2 and one message on any mistake."""
    arguments, name = list(sys.argv[1:] if argv is None else argv), "train"
    if arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        if name not in COMMANDS:
            make_parser(MAIN_JOB).error(f"unknown command {name!r}; known: {', '.join(COMMANDS)}")
    parser = make_parser(COMMANDS[name])
    config: Config | Command = read(parser, COMMANDS[name], arguments)
    if isinstance(config, Config):
        default = DEMO_IMAGE_SIZE if config.synthetic else IMAGE_SIZE
        size = default if config.image_size is None else config.image_size
        at_most = EPOCHS if config.minutes is None else EPOCHS_IN_TIME
        epochs = at_most if config.epochs is None else config.epochs
        config = replace(config, command=name, image_size=size, epochs=epochs)
    if problems := list(COMMANDS[name].problems(config)):
        parser.error(printable("\n  ".join(problems), keep="\n"))  # a file may have set the values
    return config


def main_job_problems(config: Config) -> list[str]:
    """The problems of what the main job is given, all in one message."""
    problems = [*out_of_range(config), *_task_problems(config), *validate(config)]
    return ["invalid arguments:", *problems] if problems else []


def _task_problems(config: Config) -> Iterator[str]:
    try:
        parse_tasks(config.tasks)
    except ValueError as error:
        yield f"--tasks {config.tasks}: {error}"


def validate(config: Config) -> Iterator[str]:
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
    yield from _split_problems(config)
    if config.monitor == "knn" and config.has_folds and not config.pretrain_per_fold:
        yield (
            "--monitor knn: all labelled groups are tested by some fold, so their labels must not stop the "
            "pretraining; wanted --pretrain-per-fold, or another monitor"
        )
    if config.warmup_epochs is not None and config.warmup_epochs > config.epochs:
        yield f"--warmup-epochs {config.warmup_epochs}: more than --epochs {config.epochs}"
    yield from demo_problems(config)


def _split_problems(config: Config) -> Iterator[str]:
    if config.pretrain_per_fold and not config.has_folds:
        yield "--pretrain-per-fold: there are no folds; wanted --folds 2 or more"
    if config.folds > 1 and config.folds_by:
        yield f"--folds {config.folds}: the folds are the values of --folds-by {config.folds_by}; drop one"
    own_file = config.split not in (OWN_SPLIT_AUTO, OWN_SPLIT_NONE)
    if own_file and os.path.abspath(config.split) == os.path.abspath(os.path.join(config.save_dir, SPLIT)):
        yield f"--split {config.split}: the run writes that file anew; copy it to another place"
    if own_file and config.has_folds:
        yield f"--split {config.split}: is one split; drop it, or --folds and --folds-by"
    if config.allow_leak and (config.has_folds or config.split == OWN_SPLIT_NONE):
        yield "--allow-leak: is for a split of your own (--split, or a column SPLIT); drop it"


MAIN_JOB = CommandLine(
    Config,
    prog="main.py",
    usage="python3 main.py [train | estimate] [flags]\n"
    "       python3 main.py predict PATH... [--model FILE] [--out FILE.csv]\n"
    "       python3 main.py evaluate --data DIR [--model FILE] [--save-dir DIR]\n"
    "       python3 main.py export [--model FILE] [--out DIR]\n"
    "       python3 main.py compare DIR DIR... [--out FILE.html]\n"
    "       python3 main.py runs [FOLDER...]",
    description="SimCLR pretraining on unlabelled heart ultrasound frames, then a linear head for each "
    "task (view, valve condition, severity, or your own) with honest metrics. Without flags it runs on "
    "built-in synthetic data. `estimate` gives the memory and time of a run with these flags, without "
    "running it; "
    "`predict` classifies new frames with what a run has learnt, `evaluate` scores it on another labelled "
    "data set, `export` writes it for other runtimes, "
    "`compare` compares finished runs, `runs` lists those that are there (each has its own --help).",
    problems=main_job_problems,
    takes_config=True,
)
COMMANDS = {
    "train": MAIN_JOB,
    "predict": CommandLine(
        PredictArgs,
        prog="main.py predict",
        usage="python3 main.py predict PATH... [--model FILE] [--out FILE.csv] [flags]",
        description="Classifies frames, folders of frames, clips and DICOM files with a trained model: per "
        "frame, per video and per patient. Beside --out it writes the same as JSON, and tables of the "
        "videos, of the patients and of the files left out. Research use only.",
        problems=predict_problems,
        takes_config=True,
    ),
    "evaluate": CommandLine(
        ExternalConfig,
        prog="main.py evaluate",
        usage="python3 main.py evaluate --data DIR [--model FILE] [--save-dir DIR] [flags]",
        description="Scores a trained model on another labelled data set, such as that of another hospital: "
        "per frame, video and patient, with intervals, calibration as it is and after recalibration there, "
        "abstention and novelty. Frames and patients that the model has learnt from are refused.",
        problems=evaluate_problems,
        takes_config=True,
    ),
    "export": CommandLine(
        ExportArgs,
        prog="main.py export",
        usage="python3 main.py export [--model FILE] [--out DIR] [--frames PATH...] [flags]",
        description="Writes a trained model as safetensors, as torch.export's model.pt2, as ONNX, and as "
        "ONNX with 8-bit weights, and checks each against PyTorch on real frames. Needs onnx, onnxscript "
        "and onnxruntime.",
        problems=export_problems,
    ),
    "estimate": MAIN_JOB,
    "compare": CommandLine(
        CompareArgs,
        prog="main.py compare",
        usage="python3 main.py compare DIR DIR... [--out FILE.html]",
        description="Compares finished runs on one page: settings, curves, results, and by "
        "how much each run that tested the same frames differs from the first.",
        problems=compare_problems,
    ),
    "runs": CommandLine(
        RunsArgs,
        prog="main.py runs",
        usage="python3 main.py runs [FOLDER...] [--json]",
        description="Lists the runs and evaluations in some folders and below, the newest first: date, "
        "folder, state, data, split, balanced accuracy of each task, and the model for `predict --model`.",
        problems=runs_problems,
    ),
}
