import base64
import copy
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from simclr_rhd import report

AVERAGES = [
    *("accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro", "specificity_macro"),
    *("precision_weighted", "recall_weighted", "f1_weighted", "auroc_macro"),
]
PER_CLASS = ("accuracy", "precision", "recall", "f1", "specificity", "auroc")
HOSTILE = "<script>alert(1)</script>"
PICTURE = b"\x89PNG not really"


def scores(value, classes, low=None):
    """SCORES in which every figure is `value`, with an interval from `low` where that is given."""
    bounds = {} if low is None else {name: [low, 1.0] for name in AVERAGES[:-1]}
    return {"n": 40, "groups": 7, **dict.fromkeys(AVERAGES, value), "ci95": bounds} | {
        "per_class": {name: dict.fromkeys(PER_CLASS, value) | {"support": 5} for name in classes},
        "confusion": [[1] * len(classes)] * len(classes),
    }


def task(ours, pixels, *, low=None, classes=("Normal", "Definite RHD"), not_evaluable=()):
    def both(value, low=None):
        return {"frame": scores(value, classes, low), "video": scores(value, classes, low)}

    return {
        "classes": list(classes),
        "not_evaluable": [{"class": name, "reason": "one group only"} for name in not_evaluable],
        "val": both(ours),
        "test": both(ours, low),
        "baselines": {
            name: found["frame"] | {"video": found["video"]}
            for name, found in (("majority", both(0.5)), ("pixels", both(pixels)))
        },
        "margins": {
            name: dict.fromkeys(("frame", "video"), margin(ours, theirs, low))
            for name, theirs in (("majority", 0.5), ("pixels", pixels))
        },
    }


def margin(ours, theirs, low):
    if ours is None or theirs is None:
        return {"balanced_accuracy": None, "ci95": None}
    return {"balanced_accuracy": ours - theirs, "ci95": None if low is None else [low - theirs, 0.5]}


def metrics(**tasks):
    parts = {part: {"frames": 40, "groups": 7} for part in ("train", "val", "test")}
    split = {"by": "patient", "leaky": False, "folds": 1, "parts": parts}
    return {"synthetic": False, "split": split, "tasks": tasks}


RUN = {
    "status": "finished",
    "argv": ["main.py", "--save-dir", HOSTILE],
    "commit": None,
    "summary": "said above",
    "config": {"epochs": 3},
    "counts": {
        "rejected": {},
        "classes": {"view": {"a": {"train": 61, "test": 0}, "b": {"train": 62, "test": 1}}},
    },
    "wall_s": {"pretraining": 12.5},
}


class Page(HTMLParser):
    """Tags with their attributes, and the text; fails on a tag that is closed but not open."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def write(tmp_path, found, **changes):
    picture = tmp_path / "loss.png"
    picture.write_bytes(PICTURE)
    keywords = {"run": RUN, "figures": {"Loss": picture}} | changes
    report.write_html(tmp_path / "report.html", metrics=found, **keywords)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def summary(found):
    text = report.summary(found, save_dir=Path("models"))
    assert max(map(len, text.splitlines())) <= 110
    return text


def test_summary_has_both_levels_intervals_and_comparators():
    text = summary(metrics(view=task(0.91234, 0.72, low=0.85), severity=task(0.8, 0.6, low=0.7)))
    row = next(line for line in text.splitlines() if line.startswith("view per video"))
    assert row.split() == "view per video 40 7 0.91 [0.85, 1.00] 0.91 [0.85, 1.00] 0.50 0.72".split()
    assert sum(line.startswith(("view per", "severity per")) for line in text.splitlines()) == 4
    assert "Look at models/report.html" in text
    assert "SYNTHETIC" not in text and "LEAKY" not in text


def test_summary_says_dash_for_what_is_null():
    found = metrics(view=task(None, None))
    for level in ("frame", "video"):
        found["tasks"]["view"]["test"][level]["reason"] = (
            "fewer than two classes can be evaluated here (Normal)"
        )
    text = summary(found)
    row = next(line for line in text.splitlines() if line.startswith("view per frame"))
    assert row.split() == ["view", "per", "frame", "40", "7", "-", "-", "0.50", "-"]
    assert "fewer than two classes" in text and "0.00" not in text and "None" not in text
    assert report.verdicts(found) == []


@pytest.mark.parametrize(
    ("ours", "pixels", "low", "says", "not_says"),
    [
        (0.70, 0.85, 0.60, "does NOT beat raw pixels (0.85).", "frequent"),
        (0.85, 0.85, 0.80, "does NOT beat raw pixels (0.85).", "frequent"),
        (0.45, 0.40, 0.40, "does NOT beat the most frequent class (0.50).", "pixels"),
        (0.90, 0.85, 0.80, "is above raw pixels (0.85), but that may be chance", "NOT"),
        (0.90, 0.70, 0.80, "beats raw pixels (0.70) and the most frequent class (0.50).", "NOT"),
    ],
)
def test_verdict_in_plain_words(ours, pixels, low, says, not_says, tmp_path):
    found = metrics(view=task(ours, pixels, low=low))
    (verdict,) = report.verdicts(found)
    assert says in verdict and not_says not in verdict
    assert verdict in " ".join(summary(found).split()) and verdict in Page(write(tmp_path, found)).text


def test_few_groups_cannot_tell():
    found = metrics(view=task(0.90, 0.70, low=0.80))
    found["tasks"]["view"]["test"]["video"]["groups"] = 4
    assert "too few groups" in report.verdicts(found)[0] and "beats" not in report.verdicts(found)[0]


def test_verdict_falls_back_to_frames():
    found = metrics(view=task(0.9, 0.8))
    found["tasks"]["view"]["test"]["video"]["balanced_accuracy"] = None
    assert "per frame" in report.verdicts(found)[0]


def test_warnings_come_first_and_what_is_left_out_is_named(tmp_path):
    classes = [f"Aortic Valve Regurgitation of the sort {number}" for number in range(14)]
    found = metrics(
        view={"classes": ["A4C"], "not_evaluable": [], "skipped": "one class in training"},
        condition=task(0.9, 0.8, classes=classes, not_evaluable=classes[2:]),
    )
    found["synthetic"] = found["split"]["leaky"] = True
    text, page = summary(found), Page(write(tmp_path, found)).text
    assert text.startswith("SYNTHETIC") and "LEAKY" in text.splitlines()[1]
    for shown in (" ".join(text.split()), page):
        assert "one class in training" in shown
        assert all(name in shown for name in classes[2:])
        assert shown.index("SYNTHETIC") < shown.index("LEAKY") < shown.index("skipped")
    assert "condition: 2 of 14 classes are evaluated" in text
    assert "one group only" in page
    assert "Research use only" in page and "Not a medical device" in page


def test_html_shows_hostile_names_as_text(tmp_path):
    found = metrics(view=task(0.9, 0.8, classes=(HOSTILE, "b"), not_evaluable=[HOSTILE]))
    text = write(tmp_path, found, figures={f'"{HOSTILE}': tmp_path / "loss.png"})
    page = Page(text)
    assert "<script" not in text.lower()
    assert page.text.count(HOSTILE) >= 4
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"] == [f'"{HOSTILE}']


def test_html_holds_all_it_needs(tmp_path):
    text = write(tmp_path, metrics(view=task(0.9, 0.8)))
    page = Page(text)
    (image,) = (attributes for tag, attributes in page.tags if tag == "img")
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == PICTURE
    assert not re.search(r"https?://|url\(|@import", text)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    assert "prefers-color-scheme: dark" in text and "max-width: 100%" in text
    around = [
        attributes.get("class")
        for (tag, attributes), (inner, _) in zip(page.tags, page.tags[1:], strict=False)
        if inner == "table"
    ]
    assert set(around) == {"scroll"}, "a table without a box to scroll in"


def test_html_shows_results_facts_and_null_as_dash(tmp_path):
    found = metrics(view=task(0.9, 0.8, low=0.7), condition=task(None, None))
    page = Page(write(tmp_path, found)).text
    for shown in ("0.90 [0.70, 1.00]", "pretraining", "12.5", "61", "62", "Definite RHD"):
        assert shown in page
    assert "None" not in page and "nan" not in page and "said above" not in page
    assert (
        page.index("Results") < page.index("Per class") < page.index("Pictures") < page.index("Data and run")
    )


def test_html_leaves_its_arguments_alone_and_is_written_whole(tmp_path):
    found = metrics(view=task(0.9, 0.8))
    before, run = copy.deepcopy(found), copy.deepcopy(RUN)
    old = write(tmp_path, found)
    assert found == before and run == RUN
    with pytest.raises(FileNotFoundError):
        write(tmp_path, found, figures={"lost": tmp_path / "lost.png"})
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png", "report.html"]


def test_summary_breaks_a_name_without_blanks():
    classes = ("x" * 300, "b", "c")
    assert "x" * 100 in summary(metrics(view=task(0.9, 0.8, classes=classes, not_evaluable=classes[:1])))
