import logging
from dataclasses import replace

import numpy as np
import pytest
from simulated import make_labelled_set

from simclr_rhd.data.labelled_set import lesion_names, lesion_presence
from simclr_rhd.inference.external.class_mapping import (
    map_classes,
    map_lesions,
    map_tasks,
    match_without_disease,
)

GROUPS = np.array(["g1", "g1", "g2", "g3", "g3", "g4"])


def test_spellings_are_one_class_and_others_are_named_with_their_numbers():
    values = np.array([0, 1, 1, 2, -1, 2])
    mapped = map_classes(
        ["Mild", "Severe", "None"], ["severe", "MILD", "Torrential", "unused"], values, GROUPS
    )
    assert mapped.values.tolist() == [1, 0, 0, -1, -1, -1]
    assert mapped.wide_classes == ["Mild", "Severe", "None", "Torrential"]
    assert mapped.wide_values.tolist() == [1, 0, 0, 3, -1, 3]
    assert mapped.comparison.shared == ["Mild", "Severe"] and mapped.comparison.only_in_model == ["None"]
    assert mapped.comparison.unknown == {"Torrential": {"frames": 2, "groups": 2}}
    assert mapped.unknown.tolist() == [False, False, False, True, False, True]


def test_a_frame_that_is_not_applicable_shows_nothing_unknown():
    mapped = map_classes(
        ["Mild", "Severe"], ["Mild", "Not Applicable"], np.array([0, 1, 1, 0, -1, 0]), GROUPS
    )
    assert mapped.comparison.unknown == {"Not Applicable": {"frames": 2, "groups": 2}}
    assert not mapped.unknown.any()


def test_lesions_of_a_condition_keep_the_models_order_and_unknown_ones_are_left_out():
    classes = ["AR", "MR + AR", "Stenosis + MR", "Not Applicable", "Stenosis"]
    values = np.array([0, 1, 2, 3, -1, 4])
    mapped = map_lesions(["MR", "AR", "TR"], classes, values, GROUPS)
    assert lesion_names(mapped.classes) == ["MR", "AR", "TR"]
    presence = lesion_presence(mapped.values, mapped.classes, ["MR", "AR", "TR"])
    expected = [[0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0], [-1, -1, -1], [0, 0, 0]]
    assert presence.tolist() == expected
    assert mapped.comparison.shared == ["MR", "AR"] and mapped.comparison.only_in_model == ["TR"]
    assert mapped.comparison.unknown == {"Stenosis": {"frames": 2, "groups": 2}}
    assert mapped.unknown.tolist() == [False, False, True, False, False, True]


BARE, NAMED = ["Normal", "Borderline", "Definite"], ["Normal", "Borderline RHD", "Definite RHD"]


@pytest.mark.parametrize(("of_model", "here"), [(NAMED, BARE), (BARE, NAMED)])
def test_degrees_are_matched_whether_or_not_they_name_the_disease(of_model, here, caplog):
    data = make_labelled_set(6, 2, classes=3)
    data = replace(data, values={"severity": data.values["view"]}, classes={"severity": here})
    with caplog.at_level(logging.INFO, "simclr_rhd"):
        mapped = map_tasks({"severity": of_model}, data, multilabel=False)["severity"]
    assert mapped.values.tolist() == data.values["severity"].tolist()
    assert mapped.comparison.unknown == {} and mapped.comparison.shared == of_model
    assert mapped.comparison.read_as == dict(zip(here[1:], of_model[1:], strict=True))
    assert f"NOTICE severity: {here[2]!r} is read as {of_model[2]!r}" in caplog.text


def test_views_are_matched_by_their_whole_names():
    data = replace(make_labelled_set(6, 2, classes=3), classes={"view": BARE})
    assert map_tasks({"view": NAMED}, data, multilabel=False)["view"].comparison.unknown.keys() == {*BARE[1:]}


def test_a_degree_with_and_without_the_disease_is_no_match():
    assert match_without_disease(["Definite", "Definite RHD"], ["DEFINITE", "Mild"]) == {}
    assert match_without_disease([*NAMED, "Definite"], ["Borderline"]) == {"Borderline": "Borderline RHD"}
    assert match_without_disease(["Definite RHD"], ["Definite", "Definite RHD"]) == {}
