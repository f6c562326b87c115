"""Which frames a report shows: what each class looks like, where the model errs or doubts, what it looks at.

Notation: n labelled frames, C classes of a question.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.report.charts.style import short_names
from simclr_rhd.report.page import images

OF_A_CLASS, ERRORS, DOUBTFUL, EXPLAINED, PAIRS = 6, 8, 8, 3, 6  # frames, or pairs, that are shown at most
OF_A_VIDEO = 1  # frames of one video among the errors, or the doubtful ones
SPOKEN = 3  # probabilities beside a frame

Explain = Callable[[Target, np.ndarray, np.ndarray], tuple[np.ndarray, int]]  # rows, classes -> heat, fields


@dataclass(frozen=True)
class Shot:
    """A frame on the page.

    Attributes:
        image: its address.
        words: what it is, for who cannot see it.
        name: its file, without the patient's identifier.
        line: the line of `split.csv` that has its full name.
        true: its class, "" where not annotated.
        said: the class that the model says, "" where it was not asked.
        probabilities: (class in short, probability), the largest first, the class that is said among them.
    """

    image: str
    words: str
    name: str
    line: int
    true: str = ""
    said: str = ""
    probabilities: list[tuple[str, float]] = field(default_factory=list)


class Gallery:
    """Frames of a data set, to be shown.

    Args:
        dataset: the frames.
        cohort: the labelled ones.
    """

    def __init__(self, dataset: Dataset, cohort: LabelledSet) -> None:
        self.frames, self.rows = dataset.store.frames, dataset.labelled()
        self.labelled_set = cohort
        self.names = dataset.pseudonyms()

    def classes(self, question: Target) -> dict[str, list[Shot]]:
        """{class: frames of it}, of as many groups and parts as can be."""
        found = {}
        for number, name in enumerate(question.classes):
            here = np.flatnonzero(question.true == number)
            _, firsts = np.unique(self.labelled_set.groups[here], return_index=True)
            others = np.setdiff1d(np.arange(len(here)), firsts)
            chosen = (
                here[[firsts[place] for place in evenly_spaced(len(firsts), OF_A_CLASS)]]
                if len(here)
                else here
            )
            more = (
                here[[others[place] for place in evenly_spaced(len(others), OF_A_CLASS - len(chosen))]]
                if len(chosen) < OF_A_CLASS and len(others)
                else here[:0]
            )
            found[name] = [self._shot(at, f"A frame of {name}") for at in (*chosen, *more)]
        return found

    def failures(self, question: Target, table: Probabilities, rows: np.ndarray) -> dict[str, list[Shot]]:
        """{"errors": the most confident ones, "doubts": the least certain frames}.

        Args:
            question: what was asked.
            table: the answers.
            rows: indices, among the n, of the annotated frames that were tested.
        """
        p, said = question.probabilities(table)[rows], question.predicted(table)[rows]  # (r, C), (r,)
        wrong = np.flatnonzero(said != question.true[rows])
        entropy = -(p * np.log(np.clip(p, 1e-12, 1))).sum(axis=1)
        errors = self._apart(rows[wrong[np.argsort(-p[wrong, said[wrong]], kind="stable")]], ERRORS)
        doubts = self._apart(rows[np.argsort(-entropy, kind="stable")], DOUBTFUL)
        return {
            "errors": [self._asked(at, question, table, "An error") for at in errors],
            "doubts": [self._asked(at, question, table, "A doubtful frame") for at in doubts],
        }

    def explained(
        self, question: Target, table: Probabilities, rows: np.ndarray, explain: Explain
    ) -> dict[str, Any] | None:
        """Right and wrong frames, the surest first, with what speaks for the class said.

        Returns:
            {"shots": (the frame, the same with heat, whether anything is hot) of each, "fields": of the map's
            side}; None without any.
        """
        p = question.probabilities(table)[rows]
        said = question.predicted(table)[rows]
        surest = np.argsort(-p[np.arange(len(p)), said], kind="stable")
        turn = np.zeros(len(said), dtype=int)  # of each frame among those of what is said
        for number in np.unique(said):
            of_class = surest[said[surest] == number]
            turn[of_class] = np.arange(len(of_class))
        surest = surest[np.argsort(turn[surest], kind="stable")]  # every class said has its turn
        right = said[surest] == question.true[rows[surest]]
        chosen = np.array(
            self._apart(rows[surest[right]], EXPLAINED) + self._apart(rows[surest[~right]], EXPLAINED),
            dtype=np.int64,
        )
        if not len(chosen):
            return None
        heat, fields = explain(question, chosen, question.predicted(table)[chosen])
        shots = []
        for at, warm in zip(chosen, heat, strict=True):
            shot = self._asked(at, question, table, "A frame")
            picture = self.frames[self.rows[[at]]][0]
            shots.append((shot, images.heated(picture, warm), bool(warm.any())))
        return {"shots": shots, "fields": fields}

    def pairs(self, closest: Sequence[dict[str, Any]]) -> list[tuple[Shot, Shot, float]]:
        """Pairs of the leak audit: the tested frame, the one it is like, and how much."""
        places = {key: row for row, key in enumerate(self.names.keys)}
        found = []
        for pair in closest[:PAIRS]:
            rows = places[pair["test_path"]], places[pair["other_path"]]
            one, other = (
                self._of_all(row, f"{what}, {self.names.patient(row) or 'patient unknown'}")
                for row, what in zip(rows, ("Tested", "Of another part"), strict=True)
            )
            found.append((one, other, pair["value"]))
        return found

    def _apart(self, rows: np.ndarray, most: int) -> list[int]:
        """The first rows, few of one video."""
        taken: dict[str, int] = {}
        chosen: list[int] = []
        for row in rows.tolist():
            video = str(self.labelled_set.videos[row])
            if len(chosen) < most and taken.get(video, 0) < OF_A_VIDEO:
                taken[video] = taken.get(video, 0) + 1
                chosen.append(row)
        return chosen

    def _asked(self, at: int, question: Target, table: Probabilities, what: str) -> Shot:
        p = question.probabilities(table)[at]
        order = np.argsort(-p, kind="stable")
        true = question.classes[question.true[at]]
        number = question.predicted(table)[at]
        said = question.classes[number]
        shorts = short_names(question.classes)
        if number not in order[:SPOKEN]:
            order = np.array([*order[: SPOKEN - 1], number])
        spoken = [(shorts[one], float(p[one])) for one in order[:SPOKEN]]
        words = f"{what}: {true}, said to be {said} with probability {p[number]:.2f}"
        return self._shot(at, words, true=true, said=said, probabilities=spoken)

    def _shot(self, at: int, words: str, **facts: Any) -> Shot:
        return self._of_all(int(self.rows[at]), words, **facts)

    def _of_all(self, row: int, words: str, **facts: Any) -> Shot:
        picture = images.jpeg(self.frames[np.array([row])][0])
        return Shot(picture, words, self.names.frame(row), self.names.line(row), **facts)
