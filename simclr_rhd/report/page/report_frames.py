"""The frames that a report shows, with the predictions for the tested ones."""

from dataclasses import dataclass

from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities


@dataclass(frozen=True)
class ReportFrames:
    """Frames of a run.

    Attributes:
        dataset: all of them.
        labelled_set: the n labelled ones.
        probabilities: of the tested ones, NaN for others.
    """

    dataset: Dataset
    labelled_set: LabelledSet
    probabilities: Probabilities
