"""The configuration of a run: one frozen dataclass, its flags, and every contradiction in one message.

Nothing heavy is imported here, so `main.py --help` answers at once.
"""

import argparse
import dataclasses
import math
import os
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from simclr_rhd.cli.commands import PARSERS, Command
from simclr_rhd.data.decoding.limits import MAX_PIXELS

COMMANDS = ("train", "predict", "export", "estimate", "compare")
AUTO = "auto"
DEMO_IMAGE_SIZE = 64
AFTER_PRETRAINING = (  # what --evaluate-again may change
    "linear_epochs",
    "classifier_lr",
    "class_weights",
    "head_l2",
    "head_seeds",
    "condition_mode",
    "finetune",
    "finetune_epochs",
    "finetune_lr",
    "label_fractions",
    "show_leak",
)
IMAGE_SIZE = 224


def count_or_auto(text: str) -> int | str:
    """A whole number, or 'auto'."""
    return AUTO if text == AUTO else int(text)


def number_or_auto(text: str) -> float | str:
    """A number, or 'auto'."""
    return AUTO if text == AUTO else float(text)


def fractions(text: str) -> tuple[float, ...]:
    """Numbers with commas between them, in rising order."""
    return tuple(sorted({float(part) for part in text.split(",")}))


count_or_auto.__name__ = "int or 'auto'"  # what argparse calls them in a message
number_or_auto.__name__ = "number or 'auto'"
fractions.__name__ = "list of numbers"


def flag(default: Any, help: str, **options: Any) -> Any:
    """A field of `Config` that is a flag of the command line."""
    return dataclasses.field(default=default, metadata={"help": help, **options})


@dataclass(frozen=True)
class Config:
    """What a run is told to do; one field a flag, `image_size` for `--image-size`."""

    data: str = flag(
        "demo",
        "'demo' (built-in synthetic clips), a folder, or gs://BUCKET[/PREFIX]; "
        "the environment variable SIMCLR_RHD_DATA sets another default",
    )
    labelled_prefix: str = flag("supervised/annotated-final", "labelled frames, below --data")
    unlabelled_prefix: str = flag("unsupervised-videos/unlabelled-frames", "unlabelled frames, below --data")
    labels_csv: str = flag("supervised/sorted_file.csv", "label table, below --data")
    patients_csv: str | None = flag(
        None,
        "a table on this machine with columns FILENAME (a file or a folder of either prefix) and PATIENT: "
        "unlabelled files of patients that are tested are then kept out of pretraining",
    )
    cache_dir: str | None = flag(
        None, "where fetched and decoded frames are kept (default: the platform's user cache folder)"
    )
    save_dir: str = flag(
        "models",
        "folder that everything is written to, or gs://BUCKET/PREFIX: results and checkpoints are brought "
        "there, and a run goes on from there on any machine",
    )

    offline: bool = flag(False, "use what the cache folder has of a bucket, without the network")
    billing_project: str | None = flag(
        None, "Google Cloud project that pays for a bucket whose requesters pay"
    )
    frames_per_clip: int | None = flag(
        None, "evenly spaced frames of a clip or DICOM file at most (default: all)"
    )
    max_pixels: int = flag(
        MAX_PIXELS,
        "pixels of a frame at most; of a whole file, 25 times as many, or 1,000 for each of its bytes. What "
        "is larger is left out: small files can expand to gigabytes",
    )
    label_conflict: str = flag(
        "drop",
        "where rows of one file disagree: 'drop' (not annotated), 'latest' (by TIMESTAMP), 'majority'",
        choices=("drop", "latest", "majority"),
    )

    epochs: int = flag(100, "pretraining epochs at most")
    linear_epochs: int = flag(50, "epochs of each linear head")
    batch_size: int | str = flag(
        64,
        "frames in a contrastive batch, 2 views each; 'auto': the largest that fits in memory and leaves "
        "some 20 batches an epoch",
        type=count_or_auto,
    )
    micro_batch: int | str | None = flag(
        None,
        "frames that go through the network at once, for large batches on small memory; 'auto': as many as "
        "fit (default: the whole batch). BatchNorm's statistics are then those of each piece",
        type=count_or_auto,
    )
    optimizer: str = flag("adamw", "'adamw', or 'lars' for large batches", choices=("adamw", "lars"))
    learning_rate: float | None = flag(
        None,
        "peak learning rate of pretraining (default: by batch size B; adamw 0.001 sqrt(B/64), "
        "lars 0.3 B/256)",
    )
    weight_decay: float | None = flag(
        None, "of weights, not of biases and norms (default: adamw 0.01, lars 1e-6)"
    )
    warmup_epochs: float | None = flag(
        None,
        "epochs in which the learning rate rises to its peak (default: a tenth, at most 10); it stays there "
        "until early stopping or the end of --epochs is near, and falls to 0 in the last sixth of the epochs",
    )
    ema_decay: float | str = flag(
        AUTO,
        "decay of the moving average of the weights over the steps of pretraining; the average is what is "
        "measured after an epoch (all but the training loss) and what is kept. 'auto': an average of ten "
        "epochs; 0: the weights as they are",
        type=number_or_auto,
    )
    classifier_lr: float = flag(3e-4, "learning rate of the linear heads (Adam)")
    temperature: float = flag(0.5, "temperature of NT-Xent")
    positives: str = flag(
        AUTO,
        "two views of one 'frame' are a positive pair, or two frames of one 'video', of which no other frame "
        "is then a negative; 'auto': of a video, where two frames of a batch are seldom of one",
        choices=(AUTO, "frame", "video"),
    )
    monitor: str = flag(
        "held-out-loss",
        "what early stopping watches: 'held-out-loss', 'training-loss', 'alignment', 'uniformity', 'rank' or "
        "'knn'",
        choices=("held-out-loss", "training-loss", "alignment", "uniformity", "rank", "knn"),
    )
    patience: int = flag(
        5,
        "epochs in which --monitor did not get better, after which the learning rate falls to 0 over a fifth "
        "as many epochs as were done, and pretraining ends",
    )
    min_delta: float = flag(
        0.001,
        "by how much --monitor must change to count as better: a loss by this share of its uniform value "
        "ln(2N-1), another figure by this difference",
    )
    knn_every: int = flag(
        5,
        "epochs from one vote of the nearest neighbours among labelled training frames to the next; 0: none",
    )
    checkpoint_minutes: float = flag(10.0, "minutes between two checkpoints within a long epoch")
    image_size: int | None = flag(
        None,
        f"pixels of a view's side (default: {IMAGE_SIZE}; "
        f"{DEMO_IMAGE_SIZE} for the small frames of the demo)",
    )
    view_sizes: str = flag(
        "growing",
        "'growing': views of half the size first, then of three quarters, at last of --image-size, each for "
        "the same time or until --monitor gets no better; 'full': of --image-size from the first epoch",
        choices=("growing", "full"),
    )
    init: str = flag(
        "random",
        "'random', 'imagenet' (torchvision's weights), or the path of a checkpoint of this program "
        "or of a ResNet-18 state dict",
    )

    augment: str = flag(
        "standard",
        "how strong the views differ: 'light', 'standard', 'strong', or 'simclr' (made for photographs); "
        "the five flags below change one part of it",
        choices=("light", "standard", "strong", "simclr"),
    )
    crop_min: float | None = flag(None, "smallest share of a frame's area that a random crop keeps")
    flip: float | None = flag(
        None, "probability of a horizontal flip (left and right carry meaning in echo views)"
    )
    jitter: float | None = flag(
        None,
        "strength of brightness, contrast and saturation jitter; saturation never for "
        "Doppler frames, hue never: it is the direction of flow",
    )
    grayscale: float | None = flag(None, "probability of removing colour, never for Doppler frames")
    blur: float | None = flag(None, "probability of a Gaussian blur")

    group_by: str = flag(
        "auto",
        "what never stands on two sides of the split: 'patient', 'video', 'auto' "
        "(patient where the table has one, else video), or 'frame' (leaky, marked so)",
        choices=("auto", "patient", "video", "frame"),
    )
    folds: int = flag(
        1,
        "1: one split, 70 % to learn, 15 % to choose, 15 % to test; K > 1: cross-validation, each group is "
        "tested once; the model that is kept learns from all groups then",
    )
    pretrain_per_fold: bool = flag(
        False,
        "with --folds: an encoder for each fold, pretrained without its test groups (K + 1 pretrainings), "
        "instead of one that never sees a frame of a labelled group",
    )
    class_weights: str = flag(
        "balanced",
        "weight of a class in the heads' loss: 'balanced' (inverse to its frames), 'sqrt' (to their root), "
        "'none'",
        choices=("balanced", "sqrt", "none"),
    )
    head_l2: float | str = flag(
        AUTO,
        "L2 penalty of the heads; 'auto': chosen on the validation groups",
        type=number_or_auto,
    )
    head_seeds: int = flag(3, "heads that are trained from different starts and averaged")
    condition_mode: str = flag(
        "classes",
        "'classes': a frame has one condition, pairs are classes of their own; 'multilabel': each valve "
        "lesion is there or not",
        choices=("classes", "multilabel"),
    )
    finetune: bool = flag(
        False, "train encoder and heads together on the labelled frames, too, and tell that beside the heads"
    )
    finetune_epochs: int = flag(20, "epochs of --finetune at most")
    finetune_lr: float = flag(
        1e-4, "learning rate of the encoder in --finetune; the heads' is --classifier-lr"
    )
    label_fractions: tuple[float, ...] | None = flag(
        None,
        "what the heads would reach with a part of the labelled groups, such as 0.1,0.25,0.5,1, beside raw "
        "pixels and a random encoder",
        type=fractions,
    )
    show_leak: bool = flag(
        False, "train the heads under a split over frames, too: how much a leak would flatter them"
    )
    max_rejected: float = flag(0.05, "share of unreadable frames above which the run stops")
    seed: int = flag(42, "seed of everything random")
    num_workers: int | None = flag(None, "threads that read batches ahead (default: by cores)")
    device: str = flag("auto", "'auto', 'cpu' or 'cuda'", choices=("auto", "cpu", "cuda"))
    precision: str = flag(
        AUTO,
        "numbers that the network is trained in: 'float32', 'bfloat16', or 'auto': the fastest for which the "
        "device has instructions; all that follows is float32",
        choices=(AUTO, "float32", "bfloat16"),
    )
    resume: str = flag(
        "auto",
        "'auto': go on with an unfinished run of the same configuration; 'never'",
        choices=("auto", "never"),
    )
    evaluate_again: bool = flag(
        False,
        "keep the pretraining of the run in --save-dir and repeat what follows it, with other flags of heads "
        "and evaluation",
    )
    overwrite: bool = flag(False, "start anew and replace what a run left in --save-dir")
    no_figures: bool = flag(False, "leave out the pictures; t-SNE and UMAP take most of the time at the end")
    no_rehearsal: bool = flag(
        False, "skip the dress rehearsal, which runs all stages on a handful of frames before the long one"
    )
    tensorboard: bool = flag(False, "write the curves for TensorBoard, too, below --save-dir")
    demo_patients: int = flag(96, "patients of the built-in data")
    command: str = "train"

    @property
    def multilabel(self) -> bool:
        """Whether conditions are asked lesion by lesion."""
        return self.condition_mode == "multilabel"

    @property
    def synthetic(self) -> bool:
        """Whether the run uses the built-in synthetic data."""
        return self.data == "demo"

    def pick(self, *names: str) -> dict[str, Any]:
        """Some fields, as keyword arguments."""
        return {name: getattr(self, name) for name in names}

    def signature(self) -> dict[str, Any]:
        """The fields that decide a run's result, on the same data: equal signatures, the same run.

        As JSON would give them back, since they are compared with those of an earlier run.
        """
        aside = {
            "cache_dir",
            "save_dir",
            "num_workers",
            "offline",
            "billing_project",
            "resume",
            "overwrite",
            "no_figures",
            "no_rehearsal",
            "tensorboard",
            "checkpoint_minutes",
            "max_rejected",
            "evaluate_again",
            "command",
        }
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name not in aside}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


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
    config = Config(**vars(parser.parse_args(arguments)), command=command)
    names = ("save_dir", "cache_dir", "patients_csv")
    homes = {name: os.path.expanduser(getattr(config, name) or "") for name in names}
    config = dataclasses.replace(
        config,
        save_dir=homes["save_dir"],
        cache_dir=homes["cache_dir"] or None,
        patients_csv=homes["patients_csv"] or None,
    )
    if config.image_size is None:
        config = dataclasses.replace(config, image_size=DEMO_IMAGE_SIZE if config.synthetic else IMAGE_SIZE)
    if problems := list(contradictions(config)):
        parser.error("\n  ".join(["the command line asks for what cannot be:", *problems]))
    return config


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line: a flag for each field of `Config`, no abbreviations."""
    parser = argparse.ArgumentParser(
        prog="main.py",
        usage="python3 main.py [train | estimate] [flags]\n"
        "       python3 main.py predict PATH... [--model FILE] [--out FILE.csv]\n"
        "       python3 main.py export [--model FILE] [--out DIR]\n"
        "       python3 main.py compare DIR DIR... [--out FILE.html]",
        description="SimCLR pretraining on unlabelled heart ultrasound frames, then three linear heads "
        "(view, valve condition, severity) with honest metrics. Without flags it runs on built-in "
        "synthetic data. `estimate` says what a run with these flags would take, without running it; "
        "`predict` classifies new frames with what a run has learnt, `export` writes it for other runtimes, "
        "`compare` holds finished runs against each other (each has its own --help).",
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(Config)
    for field in dataclasses.fields(Config):
        if not field.metadata:
            continue
        name, text = "--" + field.name.replace("_", "-"), field.metadata["help"].replace("%", "%%")
        default = (os.environ.get("SIMCLR_RHD_DATA") or "demo") if field.name == "data" else field.default
        if hints[field.name] is bool:
            parser.add_argument(name, action="store_true", help=text)
            continue
        shown = "" if default is None else " (default: %(default)s)"
        parser.add_argument(
            name,
            type=field.metadata.get("type") or _base_type(hints[field.name]),
            default=default,
            help=text + shown,
            choices=field.metadata.get("choices"),
            metavar=None if "choices" in field.metadata else field.name.upper(),
        )
    return parser


def _base_type(hint: Any) -> type:
    """`int` for `int` and for `int | None`."""
    return typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint


def contradictions(config: Config) -> Iterator[str]:
    """Everything that is wrong with `config`, one sentence each, in the flags' spelling."""
    wanted: list[tuple[str, bool, str]] = []
    for name, least in {
        "epochs": 1,
        "linear_epochs": 1,
        "batch_size": 2,
        "micro_batch": 2,
        "patience": 1,
        "image_size": 32,
        "demo_patients": 12,
        "knn_every": 0,
        "frames_per_clip": 1,
        "max_pixels": 1,
        "num_workers": 0,
        "folds": 1,
        "head_seeds": 1,
        "finetune_epochs": 1,
    }.items():
        value = getattr(config, name)
        wanted.append((name, value is None or value == AUTO or value >= least, f"at least {least}"))
    for name in ("learning_rate", "classifier_lr", "finetune_lr", "temperature"):
        value = getattr(config, name)
        wanted.append((name, value is None or 0 < value <= 1000, "above 0 and at most 1000"))
    l2 = config.head_l2
    wanted.append(("head_l2", isinstance(l2, str) or 0 <= l2 < math.inf, "'auto', or 0 or more"))
    parts = config.label_fractions or ()
    wanted.append(("label_fractions", all(0 < x <= 1 for x in parts), "numbers above 0 and at most 1"))
    wanted.append(("seed", 0 <= config.seed < 2**32, "between 0 and 4294967295"))
    wanted.append(("min_delta", math.isfinite(config.min_delta) and config.min_delta >= 0, "0 or more"))
    wanted.append(("checkpoint_minutes", config.checkpoint_minutes > 0, "above 0"))
    for name in ("weight_decay", "warmup_epochs"):
        value = getattr(config, name)
        wanted.append((name, value is None or 0 <= value < math.inf, "0 or more"))
    for name, fits, want in (
        ("crop_min", lambda x: 0 < x <= 1, "above 0 and at most 1"),
        ("jitter", lambda x: 0 <= x < 1, "at least 0 and below 1"),
        ("ema_decay", lambda x: x == AUTO or 0 <= x < 1, "'auto', or at least 0 and below 1"),
        *(
            (name, lambda x: 0 <= x <= 1, "between 0 and 1")
            for name in ("flip", "grayscale", "blur", "max_rejected")
        ),
    ):
        value = getattr(config, name)
        wanted.append((name, value is None or fits(value), want))
    for name in ("labelled_prefix", "unlabelled_prefix", "labels_csv"):
        path = PurePosixPath(getattr(config, name))
        wanted.append(
            (
                name,
                path.parts != () and not path.is_absolute() and ".." not in path.parts,
                "a path below --data",
            )
        )
    wanted.append(
        (
            "data",
            config.data != "" and ("://" not in config.data or config.data.startswith("gs://")),
            "'demo', a folder, or gs://BUCKET[/PREFIX]",
        )
    )
    wanted.append(
        (
            "save_dir",
            config.save_dir != "" and ("://" not in config.save_dir or config.save_dir.startswith("gs://")),
            "a folder of this machine, or gs://BUCKET/PREFIX",
        )
    )
    wanted.append(
        (
            "init",
            config.init in ("random", "imagenet") or os.path.isfile(config.init),
            "'random', 'imagenet', or a file that exists",
        )
    )
    table = config.patients_csv
    wanted.append(("patients_csv", table is None or os.path.isfile(table), "a file that exists"))
    for name, holds, want in wanted:
        if not holds:
            yield f"--{name.replace('_', '-')} {getattr(config, name)!s}: wanted {want}"
    if config.monitor == "knn" and config.knn_every != 1:
        yield f"--monitor knn: wanted --knn-every 1, got {config.knn_every}: each epoch is judged by it"
    for name in ("finetune_epochs", "finetune_lr"):
        if getattr(config, name) != getattr(Config, name) and not config.finetune:
            yield f"--{name.replace('_', '-')} {getattr(config, name)}: only --finetune reads it"
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
