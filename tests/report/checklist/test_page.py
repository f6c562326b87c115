import re
from dataclasses import asdict

import pytest
from results import RUN, metrics, results, task_result

from simclr_rhd.data.summary.flow import Amount, DataFlow
from simclr_rhd.report.checklist.items import RunFacts
from simclr_rhd.report.checklist.page import GUIDELINES, TO_BE_FILLED, checklist, fill

HOSTILE = "<script>alert(1)</script> | `rm` [x](http://y) # _a_\nnext"
FLOW = DataFlow(
    files=125,
    left_out={"not an image": 5},
    read_in_part=0,
    decoded=Amount(120, 20, 7),
    labelled=Amount(40, 10, 7),
    unlabelled=Amount(80, 10, 0),
    pretraining=60,
    loss=5,
    unused=15,
    contradictory={"view": 1},
)
CONFIG = {"image_size": 64, "seed": 42, "init": "/srv/Dr Smith/weights.pt", "epochs": 3}
CONFIG |= {"head_seeds": 5, "head_l2": "auto"}
COUNTS = {
    "quality": {"near_black": 3, "constant": 0, "duplicates": 2, "pictures_in_several_videos": 0},
    "conflicts": {"found": 2, "settled": 1},
    "flow": asdict(FLOW),
}
DATA = {"location": "/srv/Dr Smith/echo", "synthetic": False, "fingerprint": "f1d0"}


def make_facts(found=None, figures=True, **changes):
    run = RUN | {"config": CONFIG, "data": DATA, "versions": {"torch": "2.9"}, "device": "CPU, 2 threads"}
    run |= {"counts": RUN["counts"] | COUNTS, "settled": {"batch_size": 17}} | changes
    return RunFacts(results(found or metrics(view=task_result(0.9, 0.8, low=0.7))), run, figures)


def known(facts):
    """{(guideline, item's number): what the run knows}."""
    return {(of.name, answer.item.number): answer.known for of in GUIDELINES for answer in fill(of, facts)}


@pytest.mark.parametrize(
    ("guideline", "n_items", "n_parts"),
    zip(GUIDELINES, (27, 44, 40), (52, 44, 48), strict=True),
    ids=lambda of: getattr(of, "name", ""),
)
def test_a_guideline_has_all_its_items_once_and_in_order(guideline, n_items, n_parts):
    numbers = [re.fullmatch("([0-9]+)([a-g]?)", item.number).groups() for item in guideline.items]
    assert len(numbers) == n_parts
    assert list(dict.fromkeys(int(number) for number, _ in numbers)) == list(range(1, n_items + 1))
    for number in range(1, n_items + 1):
        letters = "".join(letter for of, letter in numbers if int(of) == number)
        assert letters in ("", "abcdefg"[: len(letters)]) and len(letters) != 1
    assert all(item.about for item in guideline.items)


@pytest.mark.parametrize("figures", [True, False])
def test_every_item_is_filled_or_left_to_the_authors(figures):
    text = checklist(make_facts(figures=figures))
    rows = [line for line in text.splitlines() if re.match(r"\| [0-9]", line)]
    assert len(rows) == 52 + 44 + 48
    for row in rows:
        _, _, _, of_run, yours, _ = re.split(r"(?<!\\)\|", row)
        assert of_run.strip() or TO_BE_FILLED in yours
    assert "None" not in re.sub("None(: the| in this)", "", text) and "nan" not in text
    assert ("participant\\_flow.png" in text) == figures


def test_what_is_known_is_that_of_the_run():
    facts = known(make_facts())
    for key, words in {
        (
            "TRIPOD+AI",
            "5a",
        ): "Files of a folder: 120 frames of 20 videos, 7 known patients; 40 frames",
        ("TRIPOD+AI", "11"): "80 frames have no label",
        ("TRIPOD+AI", "12a"): "train 40 frames of 7 patients; val 40",
        ("TRIPOD+AI", "23a"): "balanced accuracy 0.90 [0.70, 1.00]",
        ("CLAIM 2024", "8"): "5 files left out: 5 not an image",
        ("CLAIM 2024", "20"): "No patient is in two parts",
        ("CLAIM 2024", "21"): "± 0.10 would take 38",
        ("CLAIM 2024", "23"): "torch 2.9; on CPU, 2 threads",
        ("CLAIM 2024", "25"): "batch size 17",
        ("CLAIM 2024", "26"): "Heads: the last epoch, the L2 penalty of the lowest loss on the validation",
        ("CLAIM 2024", "27"): "mean of 5 heads",
        ("CLAIM 2024", "37"): "+0.10 [-0.10, +0.50] to raw pixels",
        ("CLAIM 2024", "38"): "Definite RHD (n = 5) sensitivity 0.90",
        ("STARD-AI", "14"): "3 near-black, 0 constant and 2 duplicate frames",
        ("STARD-AI", "24"): "Files: 125 frames, clips and other files. 5 files left out: 5: not an image.",
    }.items():
        assert words in facts[key], key
    assert facts["CLAIM 2024", "18"] == "" and facts["CLAIM 2024", "33"] == ""


def test_what_is_known_changes_with_the_run():
    before = known(make_facts())
    found = metrics(view=task_result(0.6, 0.8, low=0.5))
    found["split"] |= {"leaky": True, "test_evaluations": 3}
    found["tasks"]["view"]["readers"] = {"pairs": 1, "files": 9, "kappa": 0.7, "lowest": 0.7, "highest": 0.7}
    found["tasks"]["view"]["selective"] = {"most_wrong": 0.1, "confidence": 0.9} | {
        level: {"coverage": 0.62, "risk": 0.08, "thresholds": [0.7], "reasons": [""], "curve": {}}
        for level in ("frame", "video")
    }
    found["screening"] = {
        "any RHD": {"task": "view", "positive": ["a"], "unit": "patient", "n_positive": 0, "n_negative": 5}
        | {"reason": "no exam is positive"}
    }
    after = known(make_facts(found, data=DATA | {"location": "gs://bucket/x"}))
    for key, words in {
        ("CLAIM 2024", "7"): "Files of a bucket",
        ("CLAIM 2024", "18"): "Cohen's kappa 0.70 on 9 files",
        ("CLAIM 2024", "20"): "LEAKY",
        ("CLAIM 2024", "32"): "LEAKY",
        ("CLAIM 2024", "40"): "scored 3 times",
        ("STARD-AI", "15c"): "Screening, any RHD: no figures, no exam is positive",
        ("STARD-AI", "18"): "For screening: likelihood ratios",
        ("STARD-AI", "19"): "62% accepted, 8% of these wrong",
        ("STARD-AI", "31"): "0.60 [0.50, 1.00]",
    }.items():
        assert words in after[key] and words not in before[key], key
    # nobody but the authors knows what was changed between the first and the third look
    assert before["TRIPOD+AI", "12f"] and after["TRIPOD+AI", "12f"] == ""


def test_no_folder_is_named_and_hostile_names_are_text():
    names = task_result(0.9, 0.8, low=0.7, classes=(HOSTILE, "b"), not_evaluable=[HOSTILE])
    flow = asdict(FLOW) | {"left_out": {HOSTILE: 2}}
    facts = make_facts(metrics(view=names), counts=RUN["counts"] | COUNTS | {"flow": flow}, commit=HOSTILE)
    text = checklist(facts)
    assert "Smith" not in text and "weights.pt" in text
    assert "<script" not in text and not re.search(r"(?<!\\)\]\(http", text)
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt; \\| \\`rm\\`") >= 3
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


def test_a_long_text_stands_once():
    text = checklist(make_facts())
    assert text.count("whole groups are assigned") == 2  # alone, and within the development of STARD-AI
    assert "| See TRIPOD+AI 12a. |" in text
