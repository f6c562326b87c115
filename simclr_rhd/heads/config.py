"""The knobs of the heads, and of fine-tuning."""

import math
from dataclasses import dataclass

from simclr_rhd.core.config import (
    AUTO,
    DOWNSTREAM,
    HEAD_LOSS,
    MAX_EPOCHS,
    RATE,
    Check,
    CommonConfig,
    at_least,
    flag,
    number_or_auto,
)
from simclr_rhd.ssl.config import ViewConfig


@dataclass(frozen=True)
class HeadConfig(CommonConfig):
    """Knobs of the linear heads."""

    linear_epochs: int = flag(
        50, "epochs of each linear head", check=at_least(1, at_most=MAX_EPOCHS), affects=DOWNSTREAM
    )
    classifier_lr: float = flag(
        3e-3,
        "learning rate of the linear heads (Adam) at first; it falls to 0",
        check=RATE,
        affects=DOWNSTREAM,
    )
    class_weights: str = flag(
        "balanced",
        "weight of a class in the heads' loss: 'balanced' (inverse to its frames), 'sqrt' (to their root), "
        "'none'",
        choices=("balanced", "sqrt", "none"),
        affects=DOWNSTREAM,
        changes=HEAD_LOSS,
    )
    head_l2: float | str = flag(
        AUTO,
        "L2 penalty of the heads; 'auto': chosen on the validation groups",
        type=number_or_auto,
        check=Check(lambda x: 0 <= x < math.inf, "'auto', or 0 or more"),
        affects=DOWNSTREAM,
    )
    head_seeds: int = flag(
        3,
        "number of random initialisations of each head, which are averaged",
        check=at_least(1, at_most=1000),
        affects=DOWNSTREAM,
    )


@dataclass(frozen=True)
class FinetuneConfig(HeadConfig, ViewConfig):
    """Knobs of training encoder and heads together."""

    finetune: bool = flag(
        False,
        "also train encoder and heads together on the labelled frames, and report its scores beside those of "
        "the linear heads",
        affects=DOWNSTREAM,
    )
    finetune_epochs: int = flag(
        20, "epochs of --finetune at most", check=at_least(1, at_most=MAX_EPOCHS), affects=DOWNSTREAM
    )
    finetune_lr: float = flag(
        1e-4,
        "peak learning rate of encoder and heads in --finetune",
        check=RATE,
        affects=DOWNSTREAM,
    )
