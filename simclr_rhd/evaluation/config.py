"""The knobs of the evaluation."""

from dataclasses import dataclass

from simclr_rhd.core.config import AUTO, DOWNSTREAM, Check, flag, fractions
from simclr_rhd.core.file_names import MAX_QUESTIONS

MAX_LISTED = 20  # of the rates and prevalences of a flag
RATES = Check(
    lambda parts: len(parts) <= MAX_LISTED and all(0 < x <= 1 for x in parts),
    f"at most {MAX_LISTED} numbers above 0 and at most 1",
)
POOLING_NAMES = MEAN, TOP_QUARTER, NOISY_OR, ATTENTION = "mean", "top-quarter", "noisy-or", "attention"


@dataclass(frozen=True)
class PrevalenceConfig:
    """The prevalences that predictive values are given for."""

    prevalence: tuple[float, ...] = flag(
        (0.01, 0.02, 0.05),
        "shares of ill people in a population to be screened, for predictive values",
        type=fractions,
        check=Check(
            lambda parts: len(parts) <= MAX_LISTED and all(0 < x < 1 for x in parts),
            f"at most {MAX_LISTED} numbers above 0 and below 1",
        ),
        affects=DOWNSTREAM,
    )


@dataclass(frozen=True)
class ScreeningConfig(PrevalenceConfig):
    """Knobs of the screening panel."""

    positive: tuple[str, ...] = flag(
        (),
        "classes that make a patient one to be sent on, for the screening panel, such as "
        "'severity=Borderline RHD,Definite RHD' (default: of each task with degrees, all above normal). "
        "Repeat the flag for several questions",
        check=Check(lambda questions: len(questions) <= MAX_QUESTIONS, f"at most {MAX_QUESTIONS} questions"),
        action="append",
        metavar="TASK=CLASS,...",
        affects=DOWNSTREAM,
    )
    pooling: str = flag(
        AUTO,
        "how the frames of a patient are put together for the screening panel; 'auto': the mean, or another "
        "one that ranks the validation patients better by more than chance",
        choices=(AUTO, *POOLING_NAMES),
        affects=DOWNSTREAM,
    )
    sensitivity: tuple[float, ...] = flag(
        (0.90, 0.95),
        "sensitivities that thresholds of the screening panel are chosen for, on validation groups",
        type=fractions,
        check=RATES,
        affects=DOWNSTREAM,
    )
    specificity: tuple[float, ...] = flag(
        (0.90,),
        "the same for specificities",
        type=fractions,
        check=RATES,
        affects=DOWNSTREAM,
    )


@dataclass(frozen=True)
class EvaluationConfig(ScreeningConfig):
    """Knobs of what is evaluated beside the heads."""

    label_fractions: tuple[float, ...] | None = flag(
        None,
        "also train the heads on these fractions of the labelled groups, such as 0.1,0.25,0.5,1, beside raw "
        "pixels, a random encoder and ImageNet's where it is at hand, for a label-efficiency curve",
        type=fractions,
        check=Check(lambda parts: all(0 < x <= 1 for x in parts), "numbers above 0 and at most 1"),
        affects=DOWNSTREAM,
    )
    show_leak: bool = flag(
        False,
        "also train the heads under a split over frames, to show how much a leak would raise their scores",
        affects=DOWNSTREAM,
    )
