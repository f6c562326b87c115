import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from simclr_rhd.annotators import agreement, cohen_kappa, settle


def row(user="", time=""):
    return {"USER": user, "TIMESTAMP": time}


def test_a_tie_or_an_unreadable_time_settles_nothing():
    two = [({"a"}, row(time="2024-01-01")), ({"b"}, row(time="2024-01-01"))]
    assert settle(two, "majority") == settle(two, "latest") == ""
    assert settle([({"a"}, row(time="2024-01-01")), ({"b"}, row(time="yesterday"))], "latest") == ""
    assert settle([({"a", "b"}, row())], "majority") == ""
    slashes = [({"a"}, row(time="02/10/2024 09:00")), ({"b"}, row(time="03/01/2024 09:00"))]
    assert settle(slashes, "latest") == "", "day or month first?"


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
    assert settle([({"late"}, row(time=late)), ({"early"}, row(time=early))], "latest") == "late"


def test_a_contradictory_row_has_no_vote():
    rows = [({"a", "b"}, row()), ({"b"}, row()), (set(), row())]
    assert settle(rows, "majority") == "b"


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
    assert agreement({"view": rows}) == [{"task": "view", "users": ["ann", "bob"], "files": 2, "kappa": 1.0}]


def test_the_latest_row_must_be_plain_and_an_annotator_has_one_vote():
    rows = [({"a"}, row(time="2024-01-01")), ({"a", "b"}, row(time="2024-01-02"))]
    assert settle(rows, "latest") == ""
    assert settle([({"a"}, row("x")), ({"a"}, row("x")), ({"b"}, row("y"))], "majority") == ""
    assert settle([({"b"}, row("x")), ({"a"}, row("x")), ({"a"}, row("y"))], "majority") == "a"
