"""Several annotators of one file: where they disagree, which reading is used, how well they agree.

A reading is what a row's cell can be taken for: no class (empty), one, or several (contradictory in itself).
"""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from simclr_rhd.data.labels.table import TIME_COLUMN, USER_COLUMN, Row

CLOCK_PATTERN = (
    r"(?:[\sT,]+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d+)?)?"
    r"\s*(?P<half>[ap])?(?(half)\.?m\.?))?"
)
DATE_PATTERN = re.compile(
    rf"(?P<one>\d{{1,2}})(?P<sign>[./-])(?P<two>\d{{1,2}})(?P=sign)(?P<year>\d{{4}}|\d\d){CLOCK_PATTERN}",
    re.I,
)
COMPACT_DATE_PATTERN = re.compile(r"((?:19|20)\d{6})(\d{4}(?:\d\d)?)?")  # 20210921, 20210921070700
YEAR_FIRST_PATTERN = re.compile(
    rf"(?P<year>\d{{4}})[./-](?P<one>\d{{1,2}})[./-](?P<two>\d{{1,2}}){CLOCK_PATTERN}", re.I
)
POLICIES = ("drop", "latest", "majority")
Readings = Sequence[tuple[set[str], Row]]  # of the rows of one file


@dataclass(frozen=True)
class Conflict:
    """Rows of one file that disagree.

    Attributes:
        file: its name.
        task: what they disagree on, a task or 'patient'.
        readings: one a row that has one.
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
    def from_readings(cls, file: str, task: str, readings: Readings, used: str) -> "Conflict":
        """The conflict in the rows of a file."""
        distinct = [(reading, row) for of_row, row in readings for reading in sorted(of_row)]
        return cls(
            file,
            task,
            [reading for reading, _ in distinct],
            [(row.get(USER_COLUMN) or "").strip() for _, row in distinct],
            [(row.get(TIME_COLUMN) or "").strip() for _, row in distinct],
            used,
        )


@dataclass(frozen=True)
class Agreement:
    """The agreement of two annotators on a task.

    Attributes:
        task: its name.
        users: both annotators.
        files: that both have labelled.
        kappa: Cohen's; None where both have one class throughout.
    """

    task: str
    users: list[str]
    files: int
    kappa: float | None


def resolve_conflict(
    readings: Readings, policy: str, parse_time: Callable[[str], float] | None = None
) -> str:
    """The reading that a policy picks from rows that disagree, "" if it picks none.

    'drop' picks none, 'latest' that of the row with the latest time, 'majority' that of most annotators (each
    one's last word). A tie, or a time that cannot be read, picks none.

    Args:
        readings: of the rows of one file.
        policy: one of `POLICIES`.
        parse_time: reads a time (`make_time_parser` of its column); None for one of these rows alone.
    """
    if policy == "majority":
        votes = {}  # one for each annotator, the last
        for number, (reading, row) in enumerate(readings):
            if len(reading) == 1:
                votes[(row.get(USER_COLUMN) or "").strip() or number] = next(iter(reading))
        counts = Counter(votes.values()).most_common(2)
        return counts[0][0] if len(counts) == 1 or (counts and counts[0][1] > counts[1][1]) else ""
    if policy == "latest":
        parse_time = parse_time or make_time_parser([row.get(TIME_COLUMN) or "" for _, row in readings])
        times = [(parse_time(row.get(TIME_COLUMN) or ""), reading) for reading, row in readings if reading]
        if any(math.isnan(when) for when, _ in times):
            return ""
        last = max(when for when, _ in times)
        latest = set().union(*(reading for when, reading in times if when == last))
        return latest.pop() if len(latest) == 1 else ""
    return ""


def inter_annotator_agreement(readings: Mapping[str, Mapping[str, Readings]]) -> list[Agreement]:
    """Cohen's kappa (1960) of each pair of annotators with at least two files in common, for each task.

    Args:
        readings: {task: {file: its rows' readings}}; of several rows of one annotator the last counts.

    """
    agreement = []
    for task, of_files in readings.items():
        by_user: dict[str, dict[str, str]] = defaultdict(dict)
        for file, rows in of_files.items():
            for reading, row in rows:
                user = (row.get(USER_COLUMN) or "").strip()
                if user and len(reading) == 1:
                    by_user[user][file] = next(iter(reading))
        for one, other in itertools.combinations(sorted(by_user), 2):
            common = sorted(by_user[one].keys() & by_user[other].keys())
            if len(common) >= 2:
                pairs = [(by_user[one][file], by_user[other][file]) for file in common]
                agreement.append(Agreement(task, [one, other], len(common), cohen_kappa(pairs)))
    return agreement


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement beyond chance of two annotators; None where chance alone would agree always."""
    from sklearn.metrics import cohen_kappa_score

    if len({reading for pair in pairs for reading in pair}) < 2:
        return None
    return float(cohen_kappa_score([one for one, _ in pairs], [other for _, other in pairs]))


def make_time_parser(cells: Sequence[str]) -> Callable[[str], float]:
    """A function from a cell of a column of times to seconds since 1970; NaN where it cannot be read.

    It reads ISO 8601, (milli)seconds since 1970, and days, months and years as numbers. Whether the day or
    the month comes first is the same throughout a column: a number above 12 in one of `cells` decides for all
    with the same sign between numbers. Where none does, the day comes first in 3.4.2021 by custom, and
    3/4/2021 cannot be read. A time without a zone is taken as UTC.
    """
    first = defaultdict[str, set[str]](set)  # by sign: what is seen to come first
    for match in filter(None, (DATE_PATTERN.fullmatch(cell.strip()) for cell in set(cells))):
        if int(match["one"]) > 12:
            first[match["sign"]].add("day")
        if int(match["two"]) > 12:
            first[match["sign"]].add("month")

    def parse(cell: str) -> float:
        cell = cell.strip()
        if match := DATE_PATTERN.fullmatch(cell):
            return _parse_date(match, first[match["sign"]])
        if match := COMPACT_DATE_PATTERN.fullmatch(cell):
            return _parse_iso("T".join(filter(None, match.groups())))
        try:
            number = float(cell)
            return number / 1000 if number > 1e11 else number
        except ValueError:
            seconds = _parse_iso(cell)
        if math.isnan(seconds) and (match := YEAR_FIRST_PATTERN.fullmatch(cell)):
            return _to_seconds(match, int(match["one"]), int(match["two"]))
        return seconds

    return parse


def _parse_date(match: re.Match[str], order: set[str]) -> float:
    """Seconds of a date; `order` is what comes first in others of its column."""
    one, two = int(match["one"]), int(match["two"])
    order = order or ({"day"} if match["sign"] == "." else set())
    if max(one, two) > 12 or one == two:
        order = {"day"} if one > 12 else {"month"}
    if len(order) != 1:
        return math.nan
    return _to_seconds(match, *((two, one) if order == {"day"} else (one, two)))


def _to_seconds(match: re.Match[str], month: int, day: int) -> float:
    year, hour = int(match["year"]) + 2000 * (len(match["year"]) == 2), int(match["hour"] or 0)
    if match["half"]:  # 12 AM is midnight, 12 PM noon
        hour = hour % 12 + 12 * (match["half"].lower() == "p")
    clock = f"{hour:02d}:{match['minute'] or '00'}:{match['second'] or '00'}"
    return _parse_iso(f"{year:04d}-{month:02d}-{day:02d} {clock}")


def _parse_iso(text: str) -> float:
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan
