"""The knobs of pretraining: views, loss, optimizer, course, stopping."""

from dataclasses import dataclass, fields, replace

from simclr_rhd.core.config import (
    AUTO,
    CONTRASTIVE_LOSS,
    DEGREES,
    FILE,
    MAX_EPOCHS,
    NOT_NEGATIVE,
    NOTHING,
    POSITIVE,
    RATE,
    SHARE,
    SHARE_ABOVE_0,
    SHARE_BELOW_1,
    VIEWS,
    Check,
    CommonConfig,
    at_least,
    count_or_auto,
    flag,
    number_or_auto,
)

EPOCHS, EPOCHS_IN_TIME = 100, 10_000  # at most, by default; with --minutes
NO_WINDOW = 1.5  # of --window-min: so wide an ellipse holds the view's corners


@dataclass(frozen=True)
class ViewConfig(CommonConfig):
    """Knobs of the random views."""

    view_sizes: str = flag(
        "growing",
        "'growing': views of half of --image-size first, then of three quarters, then of full size, each for "
        "the same time or until --monitor stops improving; 'full': full size from the first epoch",
        choices=("growing", "full"),
        changes=VIEWS,
    )
    augment: str = flag(
        "standard",
        "strength of the augmentations: 'light', 'standard', 'strong', or 'simclr' (made for photographs); "
        "the flags below replace one strength of the preset",
        choices=("light", "standard", "strong", "simclr"),
        changes=VIEWS,
    )
    crop_min: float | None = flag(
        None, "smallest share of a frame's area that a crop keeps", check=SHARE_ABOVE_0, changes=VIEWS
    )
    rotation: float | None = flag(
        None, "degrees by which a view is turned at most, either way", check=DEGREES, changes=VIEWS
    )
    window_min: float | None = flag(
        None,
        "smallest width and height, as shares of a view's, of the random ellipse outside which the view is "
        f"black; the largest is {NO_WINDOW}, where nothing is hidden. Not for --finetune: the ellipse could "
        "hide what the label names",
        check=Check(lambda x: 0 < x <= NO_WINDOW, f"above 0 and at most {NO_WINDOW}"),
        changes=VIEWS,
    )
    flip: float | None = flag(
        None,
        "probability of a horizontal flip (left and right carry meaning in echo views)",
        check=SHARE,
        changes=VIEWS,
    )
    jitter: float | None = flag(
        None,
        "strength of brightness, contrast and saturation jitter; saturation never for "
        "Doppler frames, hue never: it is the direction of flow",
        check=SHARE_BELOW_1,
        changes=VIEWS,
    )
    grayscale: float | None = flag(
        None, "probability of removing colour, never for Doppler frames", check=SHARE, changes=VIEWS
    )
    blur: float | None = flag(
        None,
        "probability of a Gaussian blur, of 0.1 to 2 pixels at 224 and in proportion: at 64 hardly any",
        check=SHARE,
        changes=VIEWS,
    )


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths of the random views; `main.py --help` explains each. The defaults change nothing."""

    crop_min: float = 1.0
    flip: float = 0.0
    jitter: float = 0.0
    grayscale: float = 0.0
    blur: float = 0.0
    rotation: float = 0.0
    window_min: float = NO_WINDOW


PRESETS = {  # of --augment
    "light": AugmentConfig(0.7, jitter=0.2, grayscale=0.1, blur=0.25, window_min=1.0),
    "standard": AugmentConfig(0.35, jitter=0.4, grayscale=0.2, blur=0.5, rotation=30.0, window_min=0.65),
    "strong": AugmentConfig(0.25, jitter=0.6, grayscale=0.2, blur=0.5, rotation=45.0, window_min=0.5),
    "simclr": AugmentConfig(0.08, flip=0.5, jitter=0.8, grayscale=0.2, blur=0.5),  # Chen et al. 2020
}


def strengths(config: ViewConfig) -> AugmentConfig:
    """The strengths of the views: a preset, and what the flags change of it."""
    changes = {field.name: getattr(config, field.name) for field in fields(AugmentConfig)}
    return replace(PRESETS[config.augment], **{name: x for name, x in changes.items() if x is not None})


@dataclass(frozen=True)
class PretrainConfig(ViewConfig):
    """Knobs of the contrastive pretraining."""

    init: str = flag(
        "random",
        "'random', 'imagenet' (torchvision's weights), or the path of a ResNet-18's weights, of this program "
        "or of another (docs/training.md names them), as a checkpoint or as .safetensors",
        check=Check(
            lambda x: x in ("random", "imagenet") or FILE.holds(x),
            "'random', 'imagenet', or a file that exists",
        ),
    )
    epochs: int = flag(  # None until the command line is read: the default depends on --minutes
        None,
        f"pretraining epochs at most (default: {EPOCHS}; with --minutes as many as there is time for)",
        check=at_least(1, at_most=MAX_EPOCHS),
    )
    batch_size: int | str = flag(
        64,
        "frames in a contrastive batch, 2 views each; 'auto': the largest that fits in memory and leaves "
        "some 20 batches an epoch",
        type=count_or_auto,
        check=at_least(2),
        changes=CONTRASTIVE_LOSS,
    )
    micro_batch: int | str | None = flag(
        None,
        "frames per forward pass, for large batches on small memory; 'auto': as many as fit (default: the "
        "whole batch). BatchNorm's statistics are then those of each piece",
        type=count_or_auto,
        check=at_least(2),
    )
    positives: str = flag(
        AUTO,
        "positive pair: two views of one 'frame', or views of two frames of one 'video' (other frames of the "
        "video are then no negatives); 'auto': 'video' if a batch seldom has two frames of one video",
        choices=(AUTO, "frame", "video"),
        changes=VIEWS,
    )
    temperature: float = flag(0.5, "temperature of NT-Xent", check=RATE, changes=CONTRASTIVE_LOSS)
    optimizer: str = flag(
        "adamw", "'adamw', or 'lars' for large batches (not measured)", choices=("adamw", "lars")
    )
    learning_rate: float | None = flag(
        None,
        "peak learning rate of pretraining (default: by batch size B; adamw 0.001 sqrt(B/64), "
        "lars 0.3 B/256; measured for adamw up to B = 128 only)",
        check=RATE,
    )
    weight_decay: float | None = flag(
        None,
        "weight decay, for weights only, not for biases and norms (default: adamw 0.01, lars 1e-6)",
        check=NOT_NEGATIVE,
    )
    warmup_epochs: float | None = flag(
        None,
        "epochs in which the learning rate rises to its peak (default: a tenth, at most 10); it stays there "
        "until early stopping or the end of --epochs is near, and falls to 0 in the last sixth of the epochs",
        check=NOT_NEGATIVE,
    )
    ema_decay: float | str = flag(
        AUTO,
        "decay per step of the moving average of the weights. Validation and the saved model use the "
        "average. 'auto': over ten epochs, at first over a ninth of those done; 0: no averaging",
        type=number_or_auto,
        check=Check(SHARE_BELOW_1.holds, "'auto', or at least 0 and below 1"),
    )
    monitor: str = flag(
        "held-out-loss",
        "metric for early stopping: 'held-out-loss', 'training-loss', 'alignment', 'uniformity', 'rank' "
        "or 'knn'",
        choices=("held-out-loss", "training-loss", "alignment", "uniformity", "rank", "knn"),
    )
    patience: int = flag(
        5,
        "epochs without improvement of --monitor; after them the learning rate falls to 0 over a fifth as "
        "many epochs as were done, and pretraining ends",
        check=at_least(1),
    )
    min_delta: float = flag(
        0.001,
        "smallest improvement of --monitor that counts: for a loss, as a share of its uniform value "
        "ln(2N-1); for another metric, as a difference",
        check=NOT_NEGATIVE,
    )
    knn_every: int = flag(
        5,
        "run the kNN evaluation on labelled training frames every N epochs (0: never)",
        check=at_least(0),
    )
    checkpoint_minutes: float = flag(
        10.0, "save a checkpoint every N minutes within a long epoch", check=POSITIVE, affects=NOTHING
    )
    precision: str = flag(
        AUTO,
        "floating-point type of the training: 'float32', 'bfloat16', or 'auto': the fastest for which the "
        "device has instructions; later stages use float32",
        choices=(AUTO, "float32", "bfloat16"),
    )
    num_workers: int | None = flag(
        None,
        "threads that read batches ahead (default: by cores)",
        check=at_least(0),
        affects=NOTHING,
    )


@dataclass(frozen=True)
class TrainingSettings:
    """The figures of a pretraining run, each of them decided.

    Attributes:
        batch_size: frames of a batch.
        micro_batch: frames of a piece of it; None for the whole batch.
        learning_rate: the peak.
        weight_decay: of weights.
        warmup_epochs: while the learning rate rises.
        positives: 'frame' or 'video', of which two views are a positive pair.
        precision: of the network's arithmetic, a key of `step.PRECISIONS`.
    """

    batch_size: int = 64
    micro_batch: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_epochs: float = 10.0
    positives: str = "frame"
    precision: str = "float32"
