"""The front matter is YAML with the figures of the run, whatever the names in them."""

import pytest
import yaml
from results import RUN, metrics, results, task_result

from simclr_rhd.report.card.front_matter import FENCE, HubResult, front_matter, with_results
from simclr_rhd.report.card.model_card import CARD_SETTINGS, model_card

HOSTILE = (
    'a: "b"\n---\n- !!python/object c # {x}\ttab \\ \x07 \x85 \u2028 \ufeff \u00a0 é 心 \U0001f600 \U000e0041'
)


def parsed(card):
    start, block, rest = card.split(f"{FENCE}\n", 2)
    assert start == "" and rest.lstrip().startswith("#")
    return yaml.safe_load(block)


def fields(found, fingerprint="0123abcd"):
    return yaml.safe_load("\n".join(list(front_matter(results(found), fingerprint))[1:-2]))


def test_the_card_begins_with_what_a_hub_reads():
    run = RUN | {
        "config": dict.fromkeys(CARD_SETTINGS, 7),
        "versions": {},
        "data": {"fingerprint": "0123abcd"},
    }
    card = model_card(results(metrics(view=task_result(0.91234, 0.7, low=0.85))), run)
    block = parsed(card)
    assert list(block) == "license library_name pipeline_tag tags metrics model-index".split()
    assert block["pipeline_tag"] == "image-classification" and block["license"] == "unknown"
    assert "datasets" not in block and "synthetic-data" not in block["tags"]
    (index,) = block["model-index"]
    (entry,) = index["results"]
    assert entry["task"] == {"type": "image-classification", "name": "view"}
    assert entry["dataset"] == {
        "name": "data of the run",
        "type": "private",
        "split": "test part, split by patient",
        "revision": "0123abcd",
    }
    assert entry["metrics"][0] == {
        "type": "balanced_accuracy",
        "name": "balanced accuracy per video, 95 % interval 0.85 to 1.00",
        "value": 0.9123,
    }
    types = [metric["type"] for metric in entry["metrics"]]
    assert types == ["balanced_accuracy", "accuracy", "roc_auc"] * 2 and set(types) == set(block["metrics"])


@pytest.mark.parametrize(
    "name", [HOSTILE, "no", "1e3", "0o17", "", "~", "a: b", "- a", "'", "{", "*x", "---"]
)
def test_names_come_back_as_they_were(name):
    found = metrics(**{"view": task_result(0.9, 0.7), name: task_result(0.8, 0.7)})
    found["split"]["by"] = name
    entries = fields(found, name)["model-index"][0]["results"]
    assert [entry["task"]["name"] for entry in entries] == ["view", name]
    assert entries[1]["dataset"]["revision"] == name
    assert entries[1]["dataset"]["split"] == f"test part, split by {name}"


def test_what_makes_figures_too_good_is_in_the_name_of_the_split():
    found = metrics(view=task_result(0.9, 0.7))
    found["split"] |= {"leaky": True, "folds": 5}
    found["synthetic"] = True
    block = fields(found)
    dataset = block["model-index"][0]["results"][0]["dataset"]
    assert dataset["split"] == "5 folds, split by patient, LEAKY" and dataset["type"] == "synthetic"
    assert "synthetic-data" in block["tags"]


def test_what_cannot_be_computed_is_left_out():
    found = metrics(view=task_result(None, None), condition=task_result(1.0, 0.5))
    for level in ("frame", "video"):
        found["tasks"]["condition"]["test"][level]["auroc_macro"] = None
    (entry,) = fields(found)["model-index"][0]["results"]
    assert [metric["type"] for metric in entry["metrics"]] == ["balanced_accuracy", "accuracy"] * 2
    assert "model-index" not in fields(metrics(view=task_result(None, None)))


def test_figures_are_added_only_to_a_front_matter_of_this_program():
    entry: HubResult = {"dataset": {"revision": "feed"}, "task": {"name": HOSTILE}, "metrics": []}
    lines = [
        *front_matter(results(metrics(view=task_result(0.9, 0.7))), "home"),
        "# Card",
        "model-index: [1]",
    ]
    card = "\n".join(lines)
    once = with_results(card, [entry], "feed")
    assert parsed(once)["model-index"][0]["results"][1] == entry and once.endswith(
        "\n# Card\nmodel-index: [1]"
    )
    assert with_results(once, [entry], "feed") == once
    block = card.split(FENCE)[1]
    others = [
        "# Card\nmodel-index: []\n",
        f"{FENCE}\nlicense: mit\n{FENCE}\n\nmodel-index: []\n",
        card.replace("results", "figures"),
        card.replace(block, "\nmodel-index:\n- name: x\n"),
    ]
    for other in others:
        assert with_results(other, [entry], "feed") == other
