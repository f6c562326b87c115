import re

import pytest
from results import RUN, metrics, results, task_result

from simclr_rhd.report.card.model_card import CARD_SETTINGS, model_card
from simclr_rhd.report.wording import BASELINE_NAMES

HOSTILE = "<script>alert(1)</script> | `rm` [x](http://y) # _a_"


@pytest.fixture
def run():
    versions = {"python": "3.11", "torch": "2.9"}
    return RUN | {"config": dict.fromkeys(CARD_SETTINGS, 7), "versions": versions, "device": "CPU, 2 threads"}


def tables(card):
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)]


def test_the_card_has_the_runs_figures_and_says_what_it_is_not_for(run):
    found = metrics(view=task_result(0.91234, 0.72, low=0.85))
    found["tasks"]["view"]["selective"] = {"most_wrong": 0.1, "confidence": 0.9} | {
        level: {"coverage": 0.62, "risk": 0.08, "thresholds": [0.7], "reasons": [""], "curve": {}}
        for level in ("frame", "video")
    }
    card = model_card(results(found), run)
    wanted = ["Not a medical device", "120 frames, 40 of them labelled, of 20 videos; 7 known patients"]
    wanted += [r"0.91 \[0.85, 1.00\]", "0.72", "62%", "8%", "torch 2.9", "CPU, 2 threads", "another hospital"]
    for words in wanted:
        assert words in card, words
    heads = re.findall("^## (.*)$", card, re.MULTILINE)
    assert heads == ["Use", "Data", "Results", "Screening", "Limits", "Abstention", "How it was made"]
    for lines in tables(card):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1  # of equal columns


def test_the_last_columns_of_the_scores_are_all_baselines(run):
    card = model_card(results(metrics(view=task_result(0.9, 0.7, low=0.8))), run)
    header = next(lines[0] for lines in tables(card) if "balanced accuracy" in lines[0])
    n_baselines = sum(name in header for name in BASELINE_NAMES.values())
    assert n_baselines == 4 and f"(The last {n_baselines} columns: balanced accuracy" in card


def test_names_are_shown_as_they_are(run):
    card = model_card(results(metrics(view=task_result(0.9, 0.7, low=0.8, classes=(HOSTILE, "b")))), run)
    assert "<script" not in card and not re.search(r"(?<!\\)\]\(http", card)
    assert card.count("&lt;script&gt;alert(1)&lt;/script&gt; \\| \\`rm\\`") >= 2
    assert all(len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1 for lines in tables(card))


def test_what_is_not_known_is_a_dash_and_what_was_skipped_is_named(run):
    found = metrics(view=task_result(None, None))
    found["tasks"]["severity"] = {"classes": [], "not_evaluable": [], "skipped": "one class only"}
    found["split"]["leaky"] = found["synthetic"] = True
    card = model_card(results(found), run)
    assert "None" not in card and "nan" not in card and "severity: skipped, one class only" in card
    assert "LEAKY" in card and "SYNTHETIC" in card


def test_the_card_names_the_weights_it_began_with_without_their_folder(run):
    run["config"]["init"] = "/srv/Dr Smith/weights.pt"
    card = model_card(results(metrics(view=task_result(0.9, 0.7, low=0.8))), run)
    assert "weights.pt" in card and "Smith" not in card
