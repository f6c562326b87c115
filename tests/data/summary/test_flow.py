"""No frame and no file is lost between two steps of the flow, and none is counted twice."""

from dataclasses import asdict, replace

import pytest
from untrained_run import make_dataset

from simclr_rhd.data.labels.annotators import Conflict
from simclr_rhd.data.summary.flow import Amount, DataFlow, count_flow

CLASSES = {"view": ["A4C", "PLAX"], "severity": ["Normal", "Borderline RHD"]}


@pytest.mark.parametrize("folds", [1, 3])
def test_the_counts_add_up(folds):
    dataset = make_dataset(CLASSES, folds=folds)
    part_read = dataset.store.files[0]
    reasons = dict.fromkeys(("bad1.png", "bad2.png"), "not an image")
    reasons |= dict.fromkeys(("c.mp4", part_read), "cut off")
    flow = count_flow(dataset, reasons)
    assert flow.left_out == {"not an image": 2, "cut off": 1} and flow.read_in_part == 1
    assert flow.files == len(set(dataset.store.files)) + sum(flow.left_out.values())
    assert flow.decoded == Amount(180, 60, 30)
    assert flow.labelled.frames + flow.unlabelled.frames == 180 and flow.labelled == Amount(75, 25, 25)
    assert flow.unlabelled.videos == 35 and flow.unlabelled.patients == 30
    assert flow.pretraining + flow.loss + flow.unused == flow.unlabelled.frames
    assert min(flow.pretraining, flow.loss, flow.unused) > 0
    parts = dataset.parts()
    assert sum(part["frames"] for part in parts.values()) == flow.labelled.frames
    assert DataFlow.from_record(asdict(flow)) == flow


def test_only_contradictions_that_are_not_settled_are_left_out():
    dataset = make_dataset(CLASSES)
    rows = [("x", "view", ""), ("y", "view", "a"), ("x", "severity", ""), ("z", "patient", "")]
    conflicts = [Conflict(file, task, ["a", "b"], [""] * 2, [""] * 2, used) for file, task, used in rows]
    dataset = replace(dataset, labels=replace(dataset.labels, conflicts=conflicts))
    assert count_flow(dataset, {}).contradictory == {"view": 1, "severity": 1}
