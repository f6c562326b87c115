"""`predictions.csv` of an evaluation: true classes may be some that the model does not know."""

from collections.abc import Iterator

from simclr_rhd.data.labelled_set import LabelledSet, Probabilities
from simclr_rhd.evaluation.predictions_csv import prediction_header, prediction_rows

TRUE = 4  # number of the column


def external_header(shared: LabelledSet) -> list[str]:
    """Columns of `predictions.csv`: a probability for each class or lesion of the model."""
    return prediction_header(shared)


def external_rows(
    shared: LabelledSet, wide: LabelledSet, table: Probabilities, padded: Probabilities
) -> Iterator[list[object]]:
    """One row per frame and task.

    Args:
        shared: the frames with the model's classes.
        wide: the same with the classes that it does not know.
        table: the model's probabilities.
        padded: the same with a column for each unknown class.
    """
    rows = zip(prediction_rows(shared, [table]), prediction_rows(wide, [padded]), strict=True)
    for row, wide_row in rows:
        row[TRUE] = wide_row[TRUE]
        yield row
