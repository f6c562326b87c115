"""Frames that a report shows: of each class, those with errors or doubts, and where the model looks.

Notation: n labelled frames, C classes of a target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.report.charts.style import short_names
from simclr_rhd.report.page import images

# frames, or pairs, that are shown at most
MAX_PER_CLASS, MAX_ERRORS, MAX_UNCERTAIN, MAX_EXPLAINED, MAX_PAIRS = 6, 8, 8, 3, 6
N_PROBABILITIES = 3  # probabilities beside a frame

# target, rows, classes -> heat
Explainer = Callable[[Target, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FrameCard:
    """A frame on the page.

    Attributes:
        image: its address.
        alt_text: what it is, in words.
        name: its file, without the patient's identifier.
        line: the line of `split.csv` that has its full name.
        true: its class, "" where not annotated.
        predicted: the predicted class, "" where there is no prediction.
        probabilities: (class in short, probability), the largest first, the predicted class among them.
    """

    image: str
    alt_text: str
    name: str
    line: int
    true: str = ""
    predicted: str = ""
    probabilities: list[tuple[str, float]] = field(default_factory=list)


class ExplainedFrame(NamedTuple):
    """A frame, the address of the same with what speaks for its class, and whether anything does."""

    card: FrameCard
    heat_map: str
    has_heat: bool


class Gallery:
    """Frames of a data set, to be shown.

    Args:
        dataset: the frames.
        labelled_set: the labelled ones.
    """

    def __init__(self, dataset: Dataset, labelled_set: LabelledSet) -> None:
        self.frames, self.rows = dataset.store.frames, dataset.labelled()
        self.labelled_set = labelled_set
        self.names = dataset.pseudonyms()

    def classes(self, target: Target) -> dict[str, list[FrameCard]]:
        """{class: frames of it}, of as many groups and parts as can be."""
        cards = {}
        for number, name in enumerate(target.classes):
            here = np.flatnonzero(target.true == number)
            _, firsts = np.unique(self.labelled_set.groups[here], return_index=True)
            chosen = _choose_evenly(here[firsts], MAX_PER_CLASS)
            chosen += _choose_evenly(np.delete(here, firsts), MAX_PER_CLASS - len(chosen))
            cards[name] = [self._labelled_card(at, f"A frame of {name}") for at in chosen]
        return cards

    def failures(
        self, target: Target, probabilities: Probabilities, rows: np.ndarray
    ) -> dict[str, list[FrameCard]]:
        """{"errors": the most confident ones, "uncertain": the least certain frames}.

        Args:
            target: the task, or one of its lesions.
            probabilities: of the n frames.
            rows: indices, among the n, of the annotated frames that were tested.
        """
        p, predicted = (of(probabilities)[rows] for of in (target.probabilities, target.predicted))
        wrong = np.flatnonzero(predicted != target.true[rows])
        entropy = -(p * np.log(np.clip(p, 1e-12, 1))).sum(axis=1)
        errors = self._one_per_video(
            rows[wrong[np.argsort(-p[wrong, predicted[wrong]], kind="stable")]], MAX_ERRORS
        )
        uncertain = self._one_per_video(rows[np.argsort(-entropy, kind="stable")], MAX_UNCERTAIN)
        return {
            "errors": [self._predicted_card(at, target, probabilities, "An error") for at in errors],
            "uncertain": [
                self._predicted_card(at, target, probabilities, "A doubtful frame") for at in uncertain
            ],
        }

    def explanations(
        self, target: Target, probabilities: Probabilities, rows: np.ndarray, explainer: Explainer
    ) -> list[ExplainedFrame]:
        """Right and wrong frames with heat maps of the predicted class, the most confident first."""
        p = target.probabilities(probabilities)[rows]
        predicted = target.predicted(probabilities)[rows]
        by_confidence = np.argsort(-p[np.arange(len(p)), predicted], kind="stable")
        turn = np.zeros(len(predicted), dtype=int)  # of each frame among those of its predicted class
        for number in np.unique(predicted):
            of_class = by_confidence[predicted[by_confidence] == number]
            turn[of_class] = np.arange(len(of_class))
        by_turn = by_confidence[np.argsort(turn[by_confidence], kind="stable")]  # classes alternate
        right = predicted[by_turn] == target.true[rows[by_turn]]
        chosen = np.array(
            self._one_per_video(rows[by_turn[right]], MAX_EXPLAINED)
            + self._one_per_video(rows[by_turn[~right]], MAX_EXPLAINED),
            dtype=np.int64,
        )
        if not len(chosen):
            return []
        heat = explainer(target, chosen, target.predicted(probabilities)[chosen])
        shots = []
        for at, warm in zip(chosen, heat, strict=True):
            shot = self._predicted_card(at, target, probabilities, "A frame")
            picture = self.frames[self.rows[[at]]][0]
            shots.append(ExplainedFrame(shot, images.overlay_heatmap(picture, warm), bool(warm.any())))
        return shots

    def pairs(self, closest: Sequence[dict[str, Any]]) -> list[tuple[FrameCard, FrameCard, float]]:
        """Pairs of the leak audit: the tested frame, the one it is like, and how much."""
        places = {key: row for row, key in enumerate(self.names.keys)}
        cards = []
        for pair in closest[:MAX_PAIRS]:
            rows = places[pair["test_path"]], places[pair["other_path"]]
            one, other = (
                self._card(row, f"{what}, {self.names.patient(row) or 'patient unknown'}")
                for row, what in zip(rows, ("Tested", "Of another part"), strict=True)
            )
            cards.append((one, other, pair["value"]))
        return cards

    def _one_per_video(self, rows: np.ndarray, limit: int) -> list[int]:
        """The first rows, no two of one video."""
        firsts: dict[str, int] = {}
        for row in rows.tolist():
            firsts.setdefault(str(self.labelled_set.videos[row]), row)
        return list(firsts.values())[:limit]

    def _predicted_card(
        self, index: int, target: Target, probabilities: Probabilities, label: str
    ) -> FrameCard:
        p = target.probabilities(probabilities)[index]
        order = np.argsort(-p, kind="stable")
        true = target.classes[target.true[index]]
        number = target.predicted(probabilities)[index]
        predicted = target.classes[number]
        shorts = short_names(target.classes)
        if number not in order[:N_PROBABILITIES]:
            order = np.array([*order[: N_PROBABILITIES - 1], number])
        shown = [(shorts[one], float(p[one])) for one in order[:N_PROBABILITIES]]
        alt_text = f"{label}: {true}, predicted {predicted} with probability {p[number]:.2f}"
        return self._labelled_card(index, alt_text, true=true, predicted=predicted, probabilities=shown)

    def _labelled_card(self, index: int, alt_text: str, **facts: Any) -> FrameCard:
        return self._card(int(self.rows[index]), alt_text, **facts)

    def _card(self, row: int, alt_text: str, **facts: Any) -> FrameCard:
        picture = images.jpeg(self.frames[np.array([row])][0])
        return FrameCard(picture, alt_text, self.names.frame(row), self.names.line(row), **facts)


def _choose_evenly(rows: np.ndarray, limit: int) -> list[int]:
    """Some of the rows at most, evenly spaced."""
    return [rows[place] for place in evenly_spaced(len(rows), limit)]
