"""Declaration of a knob: a field of a frozen dataclass, with its help, its range, and what it affects.

Each room declares the knobs that steer it; `config.py` composes them, and `cli` makes flags of them.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

AUTO = "auto"
IMAGE_SIZE = 224
DEMO_IMAGE_SIZE = 64
MAX_COUNT, MAX_EPOCHS = 10**9, 100_000  # more is a slip, and too much for arithmetic and memory

RESULT, DOWNSTREAM, NOTHING = "result", "downstream", "nothing"  # what a knob affects
# What a knob changes the meaning of: which frames are tested, what a view is, the losses
TESTED_FRAMES, VIEWS, CONTRASTIVE_LOSS, HEAD_LOSS = "tested frames", "views", "contrastive loss", "head loss"

NOT_IN_FILES = ("overwrite", "evaluate_again")  # steps, not settings: repeated unseen they would cost results
NOT_TAKEN_OVER = ("save_dir", "resume", *NOT_IN_FILES)  # by a run from the record of another one


@dataclass(frozen=True)
class Check:
    """Condition on a value.

    Attributes:
        holds: whether a value is fine; never called with None, and with 'auto' only if `sees_auto`.
        wanted: the same in words.
        sees_auto: whether 'auto' is judged, too, instead of always being fine.
    """

    holds: Callable[[Any], bool]
    wanted: str
    sees_auto: bool = False

    def accepts(self, value: Any) -> bool:
        """Return True if a knob may have this value."""
        return value is None or (value == AUTO and not self.sees_auto) or self.holds(value)


def at_least(low: int, *, at_most: int = MAX_COUNT) -> Check:
    """Whole numbers from `low` to `at_most`."""
    words = f"{low} or more" if at_most == MAX_COUNT else f"from {low} to {at_most:,}"
    return Check(lambda x: low <= x <= at_most, words)


NOT_NEGATIVE = Check(lambda x: 0 <= x < math.inf, "0 or more")
POSITIVE = Check(lambda x: x > 0, "above 0")
RATE = Check(lambda x: 0 < x <= 1000, "above 0 and at most 1000")
SHARE = Check(lambda x: 0 <= x <= 1, "between 0 and 1")
SHARE_ABOVE_0 = Check(lambda x: 0 < x <= 1, "above 0 and at most 1")
SHARE_BELOW_1 = Check(lambda x: 0 <= x < 1, "at least 0 and below 1")
DEGREES = Check(lambda x: 0 <= x <= 180, "between 0 and 180")
FILE = Check(os.path.isfile, "a file that exists")


def _is_below_data(text: str) -> bool:
    path = PurePosixPath(text)
    return path.parts != () and not path.is_absolute() and ".." not in path.parts


BELOW_DATA = Check(_is_below_data, "a path below --data")


def count_or_auto(text: str) -> int | str:
    """A whole number, or 'auto'."""
    return AUTO if text == AUTO else int(text)


def number_or_auto(text: str) -> float | str:
    """A number, or 'auto'."""
    return AUTO if text == AUTO else float(text)


def fractions(text: str) -> tuple[float, ...]:
    """Numbers with commas between them, in rising order."""
    return tuple(sorted({float(part) for part in text.split(",")}))


# the type's name in argparse's messages
count_or_auto.__name__ = "int or 'auto'"
number_or_auto.__name__ = "number or 'auto'"
fractions.__name__ = "list of numbers"


def flag(
    default: Any,
    help: str,
    *,
    check: Check | None = None,
    affects: str = RESULT,
    changes: str = "",
    **options: Any,
) -> Any:
    """A field that is a flag of the command line.

    Args:
        default: its value where the flag is not given.
        help: what `--help` prints.
        check: what a value must be.
        affects: RESULT, DOWNSTREAM (what follows pretraining alone), or NOTHING of a run's result.
        changes: TESTED_FRAMES, VIEWS, CONTRASTIVE_LOSS or HEAD_LOSS, where figures of runs with other values
            are not on one scale.
        options: of argparse; also `positional`, and `environment`, a variable that sets another default.
    """
    metadata = {"help": help, "check": check, "affects": affects, "changes": changes, "options": options}
    return dataclasses.field(default=default, metadata=metadata)


def flag_name(field: str) -> str:
    """`--image-size` of `image_size`."""
    return "--" + field.replace("_", "-")


def flags_that_change(*subjects: str, of: type[Any]) -> set[str]:
    """The flags of a dataclass that change the meaning of one of the subjects."""
    return {
        flag_name(field.name) for field in dataclasses.fields(of) if field.metadata.get("changes") in subjects
    }


@dataclass(frozen=True)
class DeviceConfig:
    """The device of a command that runs a network."""

    device: str = flag(
        "auto",
        "where networks run: 'cpu', 'cuda', 'mps' (GPUs of Apple; never tried), or 'auto': a GPU with CUDA "
        "where there is one, else the processor",
        choices=("auto", "cpu", "cuda", "mps"),
    )


@dataclass(frozen=True)
class CommonConfig(DeviceConfig):
    """Knobs that several rooms read."""

    image_size: int | None = flag(
        None,
        f"pixels of a view's side (default: {IMAGE_SIZE}; "
        f"{DEMO_IMAGE_SIZE} for the small frames of the demo)",
        check=at_least(32),
        changes=VIEWS,
    )
    seed: int = flag(
        42,
        "seed of everything random",
        check=Check(lambda x: 0 <= x < 2**32, "between 0 and 4294967295"),
        changes=TESTED_FRAMES,
    )

    @property
    def size(self) -> int:
        """Pixels of a view's side, once the command line is read."""
        return self.image_size or 0
