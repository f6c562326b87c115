"""The description of a trained classifier, as `model.pt` holds it."""

import json
from dataclasses import dataclass, field

from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.data.labels.tasks.flag import is_task_name

# 1: no temperatures, no lesions; 2: no novelty, no thresholds; 6: the training record, screening
VERSION = 6
OLDEST_VERSION = 3  # no biases and no prevalence, thresholds of which nothing is proved; can be read still
ALL_STAGES_VERSION = 5  # before, heads see the features of the last stage alone
MAX_SIDE, MAX_CLASSES = 4096, 10_000  # in a file that is not damaged
MAX_NAME_LENGTH = 1000  # characters of a class

Thresholds = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class ModelInfo:
    """Description of a classifier.

    Attributes:
        classes: names of each task's classes, or lesions, in the order of the probabilities.
        image_size: s, pixels of a view's side.
        synthetic: whether it learnt from the built-in data.
        thresholds: {target: {"frame", "video": confidence below which a prediction is not to be taken, None
            where no validation frame tells}}.
        unproved: {target: {"frame", "video": why none is to be taken, "" where some are}}.
        trained_on: the data's fingerprint, how they were split, the weights at the start, and the tasks.
        version: of the file that it was read from.
    """

    classes: dict[str, list[str]]
    image_size: int
    synthetic: bool = False
    thresholds: Thresholds = field(default_factory=dict)
    unproved: dict[str, dict[str, str]] = field(default_factory=dict)
    trained_on: dict[str, object] = field(default_factory=dict)
    version: int = VERSION

    @property
    def stored_side(self) -> int:
        """S, pixels of a frame's side as it goes in."""
        return storage_size(self.image_size)


def validate(facts: ModelInfo) -> None:
    """Check a description that stands in a file.

    Raises:
        ValueError: it is damaged.
    """
    if type(facts.image_size) is not int or not 32 <= facts.image_size <= MAX_SIDE:
        raise ValueError(f"image_size {facts.image_size!s:.20}")
    for name in ("classes", "thresholds", "trained_on"):
        if not isinstance(getattr(facts, name), dict):
            raise ValueError(f"{name} is no table")
    if not facts.classes or not all(map(is_task_name, facts.classes)):
        raise ValueError(f"tasks {', '.join(map(str, facts.classes))!s:.80}")
    for task, names in facts.classes.items():
        if not isinstance(names, list) or not 0 < len(names) <= MAX_CLASSES or not all(map(_is_name, names)):
            raise ValueError(f"the class names of {task}")
        if len(set(names)) < len(names):
            raise ValueError(f"two classes of {task} have one name")
    _validate_thresholds(facts)
    if type(facts.synthetic) is not bool:
        raise ValueError("synthetic")
    json.dumps(facts.trained_on)


def _validate_thresholds(facts: ModelInfo) -> None:
    for name, limits in facts.thresholds.items():
        known = (value is None or (type(value) is float and value >= 0) for value in limits.values())
        if not _is_name(name) or not all(known):  # below NaN or -1 nothing could be abstained from
            raise ValueError("the thresholds")
    for name, reasons in facts.unproved.items():
        if not all(map(_is_name, (name, *reasons.values()))):
            raise ValueError("the reasons of the thresholds")


def _is_name(value: object) -> bool:
    """Return True for a text that can be shown."""
    return isinstance(value, str) and value.isprintable() and len(value) <= MAX_NAME_LENGTH
