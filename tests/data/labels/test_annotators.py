from datetime import UTC, datetime

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from simclr_rhd.data.labels.annotators import (
    Agreement,
    cohen_kappa,
    inter_annotator_agreement,
    make_time_parser,
    resolve_conflict,
)


def row(user="", time=""):
    return {"USER": user, "TIMESTAMP": time}


def test_a_tie_or_an_unreadable_time_settles_nothing():
    two = [({"a"}, row(time="2024-01-01")), ({"b"}, row(time="2024-01-01"))]
    assert resolve_conflict(two, "majority") == resolve_conflict(two, "latest") == ""
    assert resolve_conflict([({"a"}, row(time="2024-01-01")), ({"b"}, row(time="yesterday"))], "latest") == ""
    assert resolve_conflict([({"a", "b"}, row())], "majority") == ""
    slashes = [({"a"}, row(time="02/10/2024 09:00")), ({"b"}, row(time="03/01/2024 09:00"))]
    assert resolve_conflict(slashes, "latest") == "", "day or month first?"


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("2024-01-31T23:59:59", "2024-02-01T00:00:00"),
        ("31.01.2024 23:59:00", "01.02.2024 00:01:00"),
        ("1706745599", "1706745601"),
        ("1706745599000", "1706745601000"),
    ],
)
def test_times_are_compared_as_times_and_not_as_text(early, late):
    assert resolve_conflict([({"late"}, row(time=late)), ({"early"}, row(time=early))], "latest") == "late"


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("20210304", "2021-03-05"),
        ("2021-03-04 12:00", "20210305"),
        ("20210304070700", "202103040708"),
        ("2021-9-2 7:07", "2021-10-01"),
        ("2021-9-2 7:07 AM", "2021-9-2 7:06 PM"),
        ("2021-09-21 07:07:00.250", "2021-09-21 07:07:00.500"),
    ],
)
def test_a_date_without_signs_is_no_number_of_seconds(early, late):
    assert make_time_parser([early, late])(early) < make_time_parser([early, late])(late)


def test_a_contradictory_row_has_no_vote():
    rows = [({"a", "b"}, row()), ({"b"}, row()), (set(), row())]
    assert resolve_conflict(rows, "majority") == "b"


def test_kappa_by_hand_and_as_scikit_learn_says():
    """20 and 15 times both say yes and no, 5 and 10 times they differ: Cohen's example, kappa 0.4."""
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)
    rng = np.random.default_rng(0)
    pairs = list(zip(rng.choice(list("abc"), 30).tolist(), rng.choice(list("abc"), 30).tolist(), strict=True))
    assert cohen_kappa(pairs) == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))
    assert cohen_kappa([("a", "a")] * 5) is None


def test_agreement_is_of_each_pair_on_common_files_with_their_last_word():
    rows = {
        "f1": [({"a"}, row("ann")), ({"b"}, row("ann")), ({"b"}, row("bob"))],
        "f2": [({"a"}, row("ann")), ({"a"}, row("bob")), ({"a"}, row("cy"))],
        "f3": [({"a"}, row(""))],
    }
    assert inter_annotator_agreement({"view": rows}) == [Agreement("view", ["ann", "bob"], 2, 1.0)]


def test_the_latest_row_must_be_plain_and_an_annotator_has_one_vote():
    rows = [({"a"}, row(time="2024-01-01")), ({"a", "b"}, row(time="2024-01-02"))]
    assert resolve_conflict(rows, "latest") == ""
    assert resolve_conflict([({"a"}, row("x")), ({"a"}, row("x")), ({"b"}, row("y"))], "majority") == ""
    assert resolve_conflict([({"b"}, row("x")), ({"a"}, row("x")), ({"a"}, row("y"))], "majority") == "a"


def when(*numbers):
    return datetime(*numbers, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["3/4/2021 7:07", "9/21/2021 7:07"], when(2021, 3, 4, 7, 7)),
        (["3/4/2021 7:07", "21/9/2021 7:07"], when(2021, 4, 3, 7, 7)),
        (["3/4/21 7:07:09 PM", "9/21/21 7:07 am"], when(2021, 3, 4, 19, 7, 9)),
        (["3/4/2021 12:07 a.m.", "9/21/2021"], when(2021, 3, 4, 0, 7)),
        (["03-04-2021, 17:07", "09-21-2021"], when(2021, 3, 4, 17, 7)),
        (["3.4.2021 7:07", "9/21/2021"], when(2021, 4, 3, 7, 7)),
        (["3.4.2021", "9.21.2021"], when(2021, 3, 4)),
        (["5/5/2021"], when(2021, 5, 5)),
        (["9/21/2021 7:07"], when(2021, 9, 21, 7, 7)),
        (["2021/9/21 7:07"], when(2021, 9, 21, 7, 7)),
        (["2021-09-21T07:07+03:00"], when(2021, 9, 21, 4, 7)),
    ],
)
def test_a_day_above_12_anywhere_says_the_order_for_the_column(cells, wanted):
    assert make_time_parser(cells)(cells[0]) == wanted


@pytest.mark.parametrize(
    "cells",
    [["3/4/2021"], ["3/4/2021", "9/21/2021", "21/9/2021"], ["13/13/2021"], ["2/30/2021"], ["x"], [""]],
)
def test_a_time_that_may_be_another_cannot_be_read(cells):
    assert np.isnan(make_time_parser(cells)(cells[0]))
