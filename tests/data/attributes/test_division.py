"""The user's own split, and folds that are the values of a column."""

from dataclasses import replace

import numpy as np
import pytest
from untrained_run import make_dataset

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.attributes.attributes import FrameAttributes, read_attributes
from simclr_rhd.data.attributes.own_split import OwnSplit
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.dataset import build_dataset
from simclr_rhd.data.labels.matching import LabelledFiles
from simclr_rhd.data.labels.table import read_rows
from simclr_rhd.data.splits.split import crosses_sides
from simclr_rhd.data.summary.tables import write_tables

CLASSES = {"view": ["a", "b"], "condition": ["x", "y"], "severity": ["u", "v"]}
PARTS = ["train"] * 12 + ["val"] * 5 + ["test"] * 8  # of the 25 labelled patients


def patient_numbers(dataset):
    return np.array([int(name[1:]) for name in dataset.labels.patients])


def parts_by_patient(dataset, parts=PARTS):
    """(M,) the part of each frame of a labelled patient, "" for the others."""
    return np.array([parts[number] if number < len(parts) else "" for number in patient_numbers(dataset)])


def divide(dataset, parts, *, allow_leak=False):
    own = OwnSplit(np.asarray(parts, dtype="<U8"), "--split mine.csv", allow_leak)
    return build_dataset(dataset.store, dataset.labels, "0", DataConfig(seed=0), FrameAttributes(split=own))


def test_a_split_of_ones_own_is_used_and_pretraining_keeps_to_it():
    dataset = make_dataset(CLASSES)
    parts, labelled = parts_by_patient(dataset), dataset.labels.annotated()
    divided = divide(dataset, parts)
    assert (divided.part[labelled] == parts[labelled]).all() and not divided.leaky
    number = patient_numbers(dataset)
    assert (divided.part[~labelled & (number >= 12) & (number < 25)] == "held-out").all()
    assert not divided.ssl_val[parts == "test"].any() and divided.ssl_val[~labelled & (parts == "val")].all()
    assert (divided.part[~labelled & (number < 12)] == "unlabelled").sum() > 12


def test_frames_without_a_part_are_left_out_of_training_and_evaluation(caplog):
    dataset = make_dataset(CLASSES)
    parts = parts_by_patient(dataset)
    parts[np.isin(patient_numbers(dataset), (0, 1, 20))] = ""
    divided = divide(dataset, parts)
    assert "9 frames with labels have no part" in caplog.text
    assert not np.isin(patient_numbers(dataset)[divided.labelled()], (0, 1, 20)).any()
    assert divided.labels.annotated().sum() == 22 * 3


def test_a_group_on_two_sides_is_refused_with_its_first_frames_and_counts():
    dataset = make_dataset(CLASSES)
    parts = parts_by_patient(dataset)
    row = np.flatnonzero(dataset.labels.annotated() & (patient_numbers(dataset) == 3))[1]
    parts[row] = "test"
    with pytest.raises(UserError, match=r"1 groups.*two sides.*\(6 frames\)") as error:
        divide(dataset, parts)
    assert f"{dataset.store.keys[row]} (test)" in str(error.value) and "--allow-leak" in str(error.value)
    leaky = divide(dataset, parts, allow_leak=True)
    assert leaky.leaky and leaky.part[row] == "test"
    # even so the encoder does not see a tested patient
    unlabelled = ~dataset.labels.annotated() & (patient_numbers(dataset) == 3)
    assert (leaky.part[unlabelled] == "held-out").all()


def test_an_unlabelled_frame_of_the_test_part_keeps_its_group_out_of_pretraining():
    dataset = make_dataset(CLASSES)
    parts, number = parts_by_patient(dataset), patient_numbers(dataset)
    row = np.flatnonzero(number == 28)[0]  # of a patient without any label
    parts[row] = "test"
    divided = divide(dataset, parts)
    assert set(divided.part[number == 28]) == {"held-out"} and not divided.ssl_val[number == 28].any()
    assert len(divided.rows("test")) == 8 * 3


def test_a_labelled_frame_that_is_held_out_is_not_evaluated():
    dataset = make_dataset(CLASSES)
    parts = parts_by_patient(dataset)
    parts = np.where(patient_numbers(dataset) == 0, "held-out", parts)
    divided = divide(dataset, parts)
    here = patient_numbers(dataset) == 0
    assert set(divided.part[here]) == {"held-out"} and not divided.labels.annotated()[here].any()


def test_without_a_validation_part_training_groups_are_taken_for_it():
    dataset = make_dataset(CLASSES)
    divided = divide(dataset, parts_by_patient(dataset, ["train"] * 17 + ["test"] * 8))
    assert len(divided.rows("test")) == 8 * 3 and 1 <= len(divided.rows("val")) / 3 <= 6
    assert not crosses_sides(divided.groups, divided.part)


def test_a_split_without_test_frames_is_refused():
    dataset = make_dataset(CLASSES)
    with pytest.raises(UserError, match="no labelled frame is in the part test"):
        divide(dataset, parts_by_patient(dataset, ["train"] * 25))


def read(dataset, table, config, split=b""):
    rows = read_rows(table.encode(), "t.csv")
    files = LabelledFiles(dataset.store.files, dataset.store.files, ("labelled", "unlabelled"))
    return read_attributes((rows, []), split, dataset.store.keys, files, config)


def table_of(dataset, **columns):
    """A label table of the labelled files, with more columns, {name: value of a patient's number}."""
    lines = [",".join(("FILENAME,VIEW-APP,CONDITION,SEVERITY", *columns))]
    for row in np.flatnonzero(dataset.labels.annotated()):
        number = int(dataset.labels.patients[row][1:])
        cells = (str(of(number)) for of in columns.values())
        lines.append(",".join((dataset.store.keys[row], "a,x,u", *cells)))
    return "\n".join(lines)


def test_the_column_split_is_read_in_all_spellings():
    dataset = make_dataset(CLASSES)
    names = ["Training", " TRAIN ", "Dev", "validation", "Testing", "test", ""]
    table = table_of(dataset, SPLIT=lambda number: names[number % len(names)])
    found = read(dataset, table, DataConfig()).split
    labelled = dataset.labels.annotated()
    wanted = ["train", "train", "val", "val", "test", "test", ""]
    numbers = patient_numbers(dataset)[labelled]
    assert found.parts[labelled].tolist() == [wanted[number % len(names)] for number in numbers]
    assert read(dataset, table, DataConfig(split="none")).split is None
    with pytest.raises(UserError, match="cannot be divided into folds; pass --split none"):
        read(dataset, table, DataConfig(folds=3))


def test_the_table_of_a_run_gives_the_same_split_again(tmp_path):
    dataset = make_dataset(CLASSES)
    write_tables(dataset, tmp_path)
    path = tmp_path / "split.csv"
    config = DataConfig(seed=0, split=str(path))
    attributes = read(dataset, table_of(dataset), config, path.read_bytes())
    again = build_dataset(dataset.store, dataset.labels, "0", config, attributes)
    assert (again.part == dataset.part).all() and (again.ssl_val == dataset.ssl_val).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{key},maybe", "line 2 has the part 'maybe'; wanted train, val or test"),
        ("{key},3", "Folds of your own: .* --folds-by"),
        ("elsewhere.png,train", "none of its 1 rows names a frame of --data"),
        ("{key},train\n{key},test", "name several parts: test, train"),
    ],
)
def test_a_file_that_is_no_split_is_refused(line, message):
    dataset = make_dataset(CLASSES)
    content = ("path,part\n" + line.format(key=dataset.store.keys[0])).encode()
    with pytest.raises(UserError, match=message):
        read(dataset, table_of(dataset), DataConfig(split="mine.csv"), content)


def sites(dataset, of):
    return np.array([of(number) for number in patient_numbers(dataset)])


def by_site(dataset, values, **options):
    config = DataConfig(seed=0, folds_by="SITE", **options)
    return build_dataset(dataset.store, dataset.labels, "0", config, FrameAttributes(fold_values=values))


def test_each_site_is_tested_once_by_the_others():
    dataset = make_dataset(CLASSES)
    divided = by_site(dataset, values := sites(dataset, lambda number: "ABC"[number // 2 % 3]))
    assert len(divided.folds) == 3 and divided.pretrained_once and not divided.leaky
    for name, fold in zip("ABC", divided.folds, strict=True):
        assert set(values[fold.part == "test"]) == {name}
        assert name not in values[np.isin(fold.part, ("train", "val"))] and (fold.part == "val").any()


def test_an_encoder_of_a_fold_does_not_see_the_site_that_is_left_out():
    dataset = make_dataset(CLASSES)
    values = sites(dataset, lambda number: "ABC"[number // 2 % 3])
    divided = by_site(dataset, values, pretrain_per_fold=True)
    assert not divided.pretrained_once
    for name, fold in zip("ABC", divided.folds, strict=True):
        assert name not in values[(fold.part == "unlabelled") | fold.ssl_val]
        assert (fold.part == "unlabelled").any()


def test_frames_of_no_site_are_left_out(caplog):
    dataset = make_dataset(CLASSES)
    divided = by_site(dataset, sites(dataset, lambda number: "AB"[number // 2 % 2] if number > 4 else ""))
    assert "15 frames with labels have no value in the column of --folds-by" in caplog.text
    assert patient_numbers(dataset)[divided.labelled()].min() == 5


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda number: "A", r"1 value\(s\) there \(A\); wanted at least 2"),
        (lambda number: "A" if number % 2 else "B", "no class of A stands at another value"),
    ],
)
def test_sites_that_cannot_be_left_out_are_refused(of, message):
    dataset = make_dataset(CLASSES)
    with pytest.raises(UserError, match=message):
        by_site(dataset, sites(dataset, of))


def test_a_patient_at_two_sites_is_refused():
    dataset = make_dataset(CLASSES)
    values = sites(dataset, lambda number: "AB"[number // 2 % 2])
    row = np.flatnonzero(dataset.labels.annotated())[0]
    values[row] = "B"
    with pytest.raises(UserError, match="1 groups.*several values") as error:
        by_site(dataset, values)
    assert f"{dataset.store.keys[row]} (B)" in str(error.value)


def test_parts_of_some_frames_stay_with_a_subset():
    dataset = make_dataset(CLASSES)
    attributes = FrameAttributes({"SITE": sites(dataset, str)})
    rows = np.array([3, 10, 50])
    subset = replace(dataset, attributes=attributes).subset(rows)
    assert (subset.attributes.columns["SITE"] == attributes.columns["SITE"][rows]).all()
