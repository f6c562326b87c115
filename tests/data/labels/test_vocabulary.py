import numpy as np

from simclr_rhd.data.labels.vocabulary import VOCABULARY, format_label


def test_only_degrees_of_an_ordinal_task_are_ordered():
    classes = ["Not Applicable", "Definite RHD", "Something", "Normal", "Borderline"]
    assert VOCABULARY["severity"].ordinal_classes(classes) == [3, 4, 1]
    assert VOCABULARY["view"].ordinal_classes(["Subcostal", "Doppler"]) == []


def test_pairs_come_after_single_findings_in_clinical_order():
    condition = VOCABULARY["condition"]
    names = ["Healthy", "Aortic Valve Regurgitation", "Mitral Valve Prolapse", "Unknown"]
    pair = " + ".join(names[1:3])
    assert sorted([pair, *reversed(names)], key=condition.clinical_order) == [*names, pair]


def test_labels_are_written_as_names():
    assert format_label(-1, ["a", "b"]) == "" and format_label(1, ["a", "b"]) == "b"
    assert format_label(np.array([1, 1]), ["a", "b"]) == "a + b"
    assert format_label(np.array([0, 0]), ["a", "b"]) == "no lesion"
