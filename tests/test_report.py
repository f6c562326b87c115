import base64
import copy
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from simclr_rhd import report
from simclr_rhd import summary as words
from simclr_rhd.metrics import AVERAGES, PER_CLASS

HOSTILE = "<script>alert(1)</script>"
PICTURE = b"\x89PNG not really"


def scores(value, classes, low=None):
    """SCORES in which every figure is `value`, with an interval from `low` where that is given."""
    bounds = {} if low is None else {name: [low, 1.0] for name in AVERAGES}
    return {"n": 40, "groups": 7, **dict.fromkeys(AVERAGES, value), "ci95": bounds} | {
        "per_class": {name: dict.fromkeys(PER_CLASS, value) | {"support": 5} for name in classes},
        "confusion": [[1] * len(classes)] * len(classes),
        "reasons": {},
    }


def task(ours, pixels, *, low=None, classes=("Normal", "Definite RHD"), not_evaluable=()):
    def all_levels(value, low=None):
        found = {level: scores(value, classes, low) for level in ("frame", "video", "patient")}
        return found | {"patient": scores(None, classes) | {"reason": "no patient is known"}}

    rivals = {"majority": 0.5, "pixels": pixels, "random encoder": 0.5}
    tables = {name: all_levels(value) for name, value in rivals.items()}
    return {
        "classes": list(classes),
        "not_evaluable": [{"class": name, "reason": "one group only"} for name in not_evaluable],
        "groups": {name: {"frames": 40, "groups": 7, "train": 5, "val": 1, "test": 1} for name in classes},
        "power": {"groups": 7, "accuracy": 0.9, "half_width": 0.26, "groups_needed": 38},
        "val": all_levels(ours),
        "test": all_levels(ours, low),
        "baselines": {
            name: of["frame"] | {"video": of["video"], "patient": of["patient"]}
            for name, of in tables.items()
        },
        "margins": {
            name: dict.fromkeys(("frame", "video", "patient"), margin(ours, theirs, low))
            for name, theirs in rivals.items()
        },
        "folds": [{"fold": 1, "n": 40, "groups": 7, "accuracy": ours, "balanced_accuracy": ours}],
        "head": {"l2": [0.01], "temperature": [1.5], "balanced_accuracy_of_seeds": [ours]},
    }


def margin(ours, theirs, low):
    if ours is None or theirs is None:
        return {"balanced_accuracy": None, "ci95": None}
    return {"balanced_accuracy": ours - theirs, "ci95": None if low is None else [low - theirs, 0.5]}


def metrics(**tasks):
    parts = {part: {"frames": 40, "groups": 7} for part in ("train", "val", "test")}
    split = {"by": "patient", "leaky": False, "folds": 1, "parts": parts, "pretraining": "once, on others"}
    pair = {
        "test_path": "a.png",
        "test_group": "g",
        "other_path": "b.png",
        "other_group": "h",
        "value": 0.9876,
    }
    audit = {"closest": [pair], "near_identical": {"found": 0, "listed": 0, "threshold": 5.0}}
    return {"synthetic": False, "split": split, "tasks": tasks, "audit": audit}


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
    text = words.summary(found, save_dir=Path("models"))
    assert max(map(len, text.splitlines())) <= 110
    return text


def test_summary_has_both_levels_intervals_and_comparators():
    text = summary(metrics(view=task(0.91234, 0.72, low=0.85), severity=task(0.8, 0.6, low=0.7)))
    row = next(line for line in text.splitlines() if line.startswith("view per video"))
    assert row.split() == "view per video 40 7 0.91 [0.85, 1.00] 0.91 [0.85, 1.00] 0.50 0.72 0.50".split()
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
    assert row.split() == ["view", "per", "frame", "40", "7", "-", "-", "0.50", "-", "0.50"]
    assert "fewer than two classes" in text and "0.00" not in text and "None" not in text
    assert words.verdicts(found) == []


@pytest.mark.parametrize(
    ("ours", "pixels", "low", "says", "not_says"),
    [
        (0.70, 0.85, 0.60, "does NOT beat raw pixels (0.85); beats an untrained", "or raw"),
        (0.85, 0.85, 0.80, "does NOT beat raw pixels (0.85);", "chance"),
        (
            0.45,
            0.40,
            0.40,
            "does NOT beat an untrained encoder (0.50) or the most",
            "raw pixels;",
        ),
        (0.90, 0.85, 0.80, "is above raw pixels (0.85), but that may be chance", "NOT"),
        (
            *(0.90, 0.70, 0.80),
            "beats raw pixels (0.70), an untrained encoder (0.50) and the most frequent class (0.50).",
            "NOT",
        ),
    ],
)
def test_verdict_in_plain_words(ours, pixels, low, says, not_says, tmp_path):
    found = metrics(view=task(ours, pixels, low=low))
    (verdict,) = words.verdicts(found)
    assert says in verdict and not_says not in verdict
    assert verdict in " ".join(summary(found).split()) and verdict in Page(write(tmp_path, found)).text


@pytest.mark.parametrize(
    ("ours", "low", "says"),
    [
        (0.80, 0.70, "NOT BETTER THAN RAW PIXELS: view."),
        (0.90, 0.80, "NOT SHOWN TO BE BETTER THAN RAW PIXELS: view."),
        (0.95, 0.90, None),
    ],
)
def test_what_does_not_beat_raw_pixels_is_said_at_the_top(ours, low, says, tmp_path):
    found = metrics(view=task(ours, 0.85, low=low), severity=task(0.99, 0.5, low=0.9))
    text, page = summary(found), Page(write(tmp_path, found)).text
    if says is None:
        assert "RAW PIXELS" not in text and "RAW PIXELS" not in page
    else:
        assert text.startswith(says)
        assert page.index(says) < page.index("Results")


def test_a_task_without_any_figure_is_told_without_one(tmp_path):
    found = metrics(view=task(0.9, 0.8), severity=task(None, None))
    found["tasks"]["severity"]["power"] |= {"groups": 0, "half_width": None}
    text = summary(found)
    assert "severity: with" not in text and "view: with 7 patients" in text
    assert "severity" in Page(write(tmp_path, found)).text


def test_an_untrained_encoder_that_is_not_beaten_is_said_at_the_top():
    found = metrics(view=task(0.45, 0.3, low=0.4))
    assert summary(found).startswith("NOT BETTER THAN AN UNTRAINED ENCODER: view.")


def test_what_was_asked_for_is_in_the_log():
    found = metrics(view=task(0.6, 0.5, low=0.55))
    of_view = found["tasks"]["view"]
    of_view["leak"] = {"leaky": True, "frame": scores(0.97, ("a", "b"))}
    of_view["finetuned"] = {
        "test": of_view["test"],
        "margin": of_view["margins"]["pixels"],
        "epochs_kept": [0],
    }
    of_view["finetuned"]["margin"] = dict.fromkeys(("frame", "video"), margin(0.7, 0.6, 0.5))
    points = [{"fraction": 0.25, "groups": 12.5, "balanced_accuracy": None, "low": None, "high": None}]
    of_view["label_efficiency"] = {"simclr": points}
    text = " ".join(summary(found).split())
    assert (
        "LEAKY, under a split over frames the same heads would score 0.97 per frame instead of 0.60" in text
    )
    assert "flatter them by +0.37" in text and "epochs kept: 0 (0: as it was)" in text
    assert "with 25% of the labelled groups (12 to learn from) balanced accuracy per video -" in text


def test_lesions_are_told_one_by_one():
    lesions = {name: task(0.9, 0.8, low=0.85, classes=("absent", "present")) for name in ("MR", "A" * 40)}
    found = metrics(condition={"mode": "multilabel", "classes": [], "not_evaluable": [], "lesions": lesions})
    text = summary(found)
    assert "condition: MR: balanced accuracy per video 0.90" in text
    rows = [line[:30].rstrip() for line in text.splitlines() if " per frame" in line[:30]]
    assert rows == ["condition: MR per frame", f"{'A' * 17}… per frame"]


def test_folds_and_how_exact_a_figure_can_be_are_told():
    found = metrics(view=task(0.9, 0.8, low=0.85))
    found["split"] |= {"folds": 2, "pretraining": "anew for each fold"}
    found["tasks"]["view"]["folds"] *= 2
    text = " ".join(summary(found).split())
    assert "2 folds; balanced accuracy per video of the classes that each tests: view 0.90 0.90" in text
    assert "with 7 patients an accuracy of 0.90 has an interval of about ± 0.26; ± 0.10 would take 38" in text
    assert "pretrained anew for each fold" in text


def test_pairs_that_look_nearly_identical_are_an_alarm(tmp_path):
    found = metrics(view=task(0.9, 0.8))
    assert "nearly identical to a frame" in Page(write(tmp_path, found)).text
    found["audit"]["near_identical"]["found"] = 3
    assert "3 pairs of frames in different parts look nearly identical" in Page(write(tmp_path, found)).text


def test_few_groups_cannot_tell():
    found = metrics(view=task(0.90, 0.70, low=0.80))
    found["tasks"]["view"]["test"]["video"]["groups"] = 4
    assert "too few groups" in words.verdicts(found)[0] and "beats" not in words.verdicts(found)[0]


def test_verdict_falls_back_to_frames():
    found = metrics(view=task(0.9, 0.8))
    found["tasks"]["view"]["test"]["video"]["balanced_accuracy"] = None
    assert "per frame" in words.verdicts(found)[0]


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
