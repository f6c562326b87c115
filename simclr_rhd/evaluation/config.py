"""The knobs of the evaluation."""

from dataclasses import dataclass

from simclr_rhd.core.config import DOWNSTREAM, Check, flag, fractions


@dataclass(frozen=True)
class EvaluationConfig:
    """Knobs of what is evaluated beside the heads."""

    label_fractions: tuple[float, ...] | None = flag(
        None,
        "also train the heads on these fractions of the labelled groups, such as 0.1,0.25,0.5,1, beside raw "
        "pixels and a random encoder, for a label-efficiency curve",
        type=fractions,
        check=Check(lambda parts: all(0 < x <= 1 for x in parts), "numbers above 0 and at most 1"),
        affects=DOWNSTREAM,
    )
    show_leak: bool = flag(
        False,
        "also train the heads under a split over frames, to show how much a leak would raise their scores",
        affects=DOWNSTREAM,
    )
