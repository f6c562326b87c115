from dataclasses import replace

import pytest
from pictures import AWKWARD, is_reproducible, record_figures, size_in_inches
from results import metrics, results, task_result

from simclr_rhd.data.summary.flow import Amount, DataFlow
from simclr_rhd.report.charts.flow_stages import MAX_REASONS, flow_stages
from simclr_rhd.report.charts.participant_flow import flow_panel, plot_participant_flow

FLOW = DataFlow(
    files=133,
    left_out={"not an image": 3, "cut off": 10},
    read_in_part=2,
    decoded=Amount(240, 40, 12),
    labelled=Amount(120, 20, 12),
    unlabelled=Amount(120, 20, 0),
    pretraining=80,
    loss=10,
    unused=30,
    contradictory={"view": 4},
)
MANY = 123_456_789_012
EXTREME = DataFlow(
    files=MANY,
    left_out={f"{name} " + "cannot be read: no codec for it " * 4: MANY - k for k, name in enumerate(AWKWARD)}
    | {"x" * 300: 1}
    | {f"reason {number}": 1 for number in range(20)},
    read_in_part=MANY,
    decoded=Amount(MANY, MANY, 0),
    labelled=Amount(MANY, MANY, MANY),
    unlabelled=Amount(MANY, MANY, MANY),
    pretraining=MANY,
    loss=MANY,
    unused=MANY,
    contradictory=dict.fromkeys(("view", "condition", "severity"), MANY),
)


def run(folds=1, **tasks):
    found = metrics(**tasks or {"view": task_result(0.9, 0.8, not_evaluable=("Definite RHD",))})
    if folds > 1:
        parts = {
            str(number): {"frames": 2_000_000_000, "groups": 1_234_567_890} for number in range(1, folds + 1)
        }
        found["split"] |= {"folds": folds, "parts": parts}
    return results(found)


def words(stages):
    return [text for of in stages for lines in (of.lines, of.left_out, *of.cells) for text in lines]


def test_each_step_has_its_numbers_and_what_it_leaves_out():
    shown = words(flow_stages(FLOW, run()))
    for text in (
        "133 frames, clips and other files",
        "13 files left out",
        "10: cut off",
        "2 more read in part: first frames used",
        "240 frames of 40 videos",
        "no patient is known",
        "80 to pretrain the encoder",
        "30 of validated or tested groups, not used",
        "view: of 4 files",
        "no patient is in two parts",
        "view: 40 frames, 7 patients",
    ):
        assert text in shown, text
    assert shown.index("10: cut off") < shown.index("3: not an image")


def test_tested_frames_are_scored_or_left_out_with_the_reason():
    found = metrics(view=task_result(0.9, 0.8, not_evaluable=("Definite RHD",)))
    found["tasks"]["view"]["test"]["frame"] |= {"n": 24, "confusion": [[20, 4], [3, 6]]}
    shown = words(flow_stages(FLOW, results(found)))
    assert "view: 9 frames of classes that cannot be evaluated (Definite RHD)" in shown
    assert "view: 7 frames without its label" in shown  # 24 + 9 + 7 are the 40 of the test part


def test_nothing_is_drawn_beside_a_step_that_leaves_nothing_out():
    clean = replace(FLOW, left_out={}, read_in_part=0, unlabelled=Amount(0, 0, 0), contradictory={})
    assert [stage.left_out for stage in flow_stages(clean, run())][:3] == [(), (), ()]
    assert "left out" not in flow_panel(flow_stages(clean, run())).alt_text


def test_many_reasons_are_counted_together():
    left_out = flow_stages(EXTREME, run())[0].left_out
    assert len(left_out) == 1 + MAX_REASONS + 1 + 1 and "other reasons" in left_out[-2]


def contains(outer, inner):
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1


@pytest.mark.parametrize("folds", [1, 2, 11])
def test_no_text_overlaps_another_or_leaves_its_box(tmp_path, monkeypatch, folds):
    long_names = [f"{name} of a sort with a name that is far too long" for name in AWKWARD]
    tasks = {
        "view": task_result(0.9, 0.8, classes=long_names, not_evaluable=long_names),
        "condition": {"classes": [], "not_evaluable": [], "skipped": "one class"},
    }
    tasks["view"]["test"]["frame"] |= {"n": 1_999_999_999, "groups": 1_234_567_890}
    figures, stages = record_figures(monkeypatch), flow_stages(EXTREME, run(folds, **tasks))
    plot_participant_flow(tmp_path / "flow.png", stages, note="LEAKY split")
    flow_panel(stages)
    for figure in figures:
        (axes,) = figure.axes
        boxes = [patch.get_window_extent() for patch in axes.patches]
        texts = [text.get_window_extent() for text in axes.texts if text.get_text()]
        sheet = figure.bbox
        assert len(texts) > 40 and all(contains(sheet, box) for box in boxes)
        for text in texts:
            around = [box for box in boxes if box.overlaps(text)]
            assert around and all(contains(box, text) for box in around)
        texts += [text.get_window_extent() for text in figure.texts]
        assert not any(a.overlaps(b) for k, a in enumerate(texts) for b in texts[k + 1 :])


def test_a_picture_and_a_chart_as_wide_as_a_phone(tmp_path):
    stages = flow_stages(FLOW, run())
    assert is_reproducible(lambda path: plot_participant_flow(path, stages, note=""), tmp_path)
    assert size_in_inches(tmp_path / "one.png")[0] == 8.5
    panel = flow_panel(stages)
    assert panel.image.startswith("data:image/svg+xml") and "133 frames, clips" in panel.alt_text
