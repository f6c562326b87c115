import numpy as np

from simclr_rhd.data.labelled_set import lesion_names, lesion_presence
from simclr_rhd.inference.external.class_mapping import map_classes, map_lesions

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
