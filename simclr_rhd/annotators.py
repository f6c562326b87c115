"""Several annotators of one file: where they disagree, which reading is used, how well they agree.

A reading is what a row's cell can be taken for: no class (empty), one, or several (contradictory in itself).
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from simclr_rhd.table import TIME_COLUMN, USER_COLUMN, Row

POLICIES = ("drop", "latest", "majority")
Readings = Sequence[tuple[set[str], Row]]  # of the rows of one file


@dataclass(frozen=True)
class Conflict:
    """Rows of one file that disagree.

    Attributes:
        file: its name.
        task: what they disagree on, a task or 'patient'.
        readings: one a row that says something.
        users: who wrote these rows, "" where the table does not say.
        times: when.
        used: the reading that is used, "" if none.
    """

    file: str
    task: str
    readings: list[str]
    users: list[str]
    times: list[str]
    used: str

    @classmethod
    def of(cls, file: str, task: str, readings: Readings, used: str) -> "Conflict":
        """The conflict in the rows of a file."""
        said = [(reading, row) for readings_of_row, row in readings for reading in sorted(readings_of_row)]
        return cls(
            file,
            task,
            [reading for reading, _ in said],
            [(row.get(USER_COLUMN) or "").strip() for _, row in said],
            [(row.get(TIME_COLUMN) or "").strip() for _, row in said],
            used,
        )


def settle(readings: Readings, policy: str) -> str:
    """The reading that a policy picks from rows that disagree, "" if it picks none.

    'drop' picks none, 'latest' that of the row with the latest time, 'majority' that of most annotators (each
    one's last word). A tie, or a time that cannot be read, picks none.
    """
    if policy == "majority":
        votes = {}  # one for each annotator, the last
        for number, (said, row) in enumerate(readings):
            if len(said) == 1:
                votes[(row.get(USER_COLUMN) or "").strip() or number] = next(iter(said))
        counts = Counter(votes.values()).most_common(2)
        return counts[0][0] if len(counts) == 1 or (counts and counts[0][1] > counts[1][1]) else ""
    if policy == "latest":
        times = [(_time(row.get(TIME_COLUMN) or ""), said) for said, row in readings if said]
        if any(math.isnan(when) for when, _ in times):
            return ""
        last = max(when for when, _ in times)
        latest = set().union(*(said for when, said in times if when == last))
        return latest.pop() if len(latest) == 1 else ""
    return ""


def agreement(readings: Mapping[str, Mapping[str, Readings]]) -> list[dict[str, Any]]:
    """Cohen's kappa (1960) of each pair of annotators with at least two files in common, for each task.

    Args:
        readings: {task: {file: its rows' readings}}; of several rows of one annotator the last counts.

    Returns:
        {"task", "users", "files", "kappa"} for each pair; kappa is None where both say one class throughout.
    """
    found = []
    for task, of_files in readings.items():
        said: dict[str, dict[str, str]] = defaultdict(dict)
        for file, rows in of_files.items():
            for reading, row in rows:
                user = (row.get(USER_COLUMN) or "").strip()
                if user and len(reading) == 1:
                    said[user][file] = next(iter(reading))
        for one, other in itertools.combinations(sorted(said), 2):
            common = sorted(said[one].keys() & said[other].keys())
            if len(common) >= 2:
                pairs = [(said[one][file], said[other][file]) for file in common]
                found.append(
                    {"task": task, "users": [one, other], "files": len(common), "kappa": cohen_kappa(pairs)}
                )
    return found


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement beyond chance of two annotators; None where chance alone would agree always."""
    from sklearn.metrics import cohen_kappa_score

    if len({reading for pair in pairs for reading in pair}) < 2:
        return None
    return float(cohen_kappa_score([one for one, _ in pairs], [other for _, other in pairs]))


def _time(text: str) -> float:
    """Seconds since 1970 of a time in ISO 8601, as day.month.year, or as (milli)seconds; NaN for others."""
    text = text.strip()
    try:
        number = float(text)
        return number / 1000 if number > 1e11 else number
    except ValueError:
        pass
    for pattern in (None, "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M"):  # 02/03/2024 could be in March or February
        try:
            return (datetime.strptime(text, pattern) if pattern else datetime.fromisoformat(text)).timestamp()
        except ValueError:
            continue
    return math.nan
