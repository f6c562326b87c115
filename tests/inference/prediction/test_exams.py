"""Exams gathered from a stream of frames: what they show is what the tables have."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from exam_files import write_exams
from random_model import write_model
from small_simclr import small_networks

from simclr_rhd import load_model
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.sources.base import BucketAccess
from simclr_rhd.inference.prediction.exams import FRAMES, MAX_FRAMES, UNKNOWN, VIDEOS, ExamCollector
from simclr_rhd.inference.prediction.frame_reader import FrameReader, InputFrame
from simclr_rhd.inference.prediction.input_files import find_inputs, read_patients
from simclr_rhd.inference.prediction.predict_files import PredictionRun
from simclr_rhd.inference.prediction.predictions_table import Prediction, TaskPrediction


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    """A run over four exams, all its frames, its collector, and the folder of its tables."""
    top = tmp_path_factory.mktemp("exams")
    write_exams(top / "data", {"": 1}, frames=1, name="single_frame{frame}.png")
    table = write_exams(top / "data", {"Ann": 3, "Bob": 1, "": 1}, frames=5)
    with small_networks():
        model = load_model(write_model(top / "model.pt", scaled=True))
        inputs = find_inputs([str(top / "data")], BucketAccess(top / "cache", False, None))
        options = DecodeOptions(model.facts.stored_side, None, 10**8)
        reader = FrameReader(inputs, read_patients(str(table), inputs), options)
        run, collector, frames = PredictionRun(model, reader), ExamCollector(), []

        def add(frame, prediction):
            frames.append((frame, prediction))
            collector.add(frame, prediction)

        run.write(top / "out.csv", on_frame=add)
    return SimpleNamespace(run=run, collector=collector, frames=frames, top=top)


def rows(path, task):
    with path.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["task"] == task]


def exams_by_name(gathered):
    return {exam.name: exam for exam in gathered.collector.exams(gathered.run)}


def test_patients_are_exams_and_so_are_videos_without_one(gathered):
    exams = exams_by_name(gathered)
    data = gathered.top / "data"
    assert set(exams) == {"Ann", "Bob", f"{data}/v2-0", f"{data}/single"}
    shown = [
        (exams[name].is_patient, exams[name].n_frames, len(exams[name].videos), exams[name].spread_over)
        for name in ("Ann", "Bob", f"{data}/v2-0", f"{data}/single")
    ]
    assert shown == [
        (True, 15, 3, VIDEOS),
        (True, 5, 1, FRAMES),
        (False, 5, 1, FRAMES),
        (False, 1, 1, UNKNOWN),
    ]
    for name in ("Ann", "Bob"):
        (row,) = [row for row in rows(gathered.top / "out.patients.csv", "view") if row["patient"] == name]
        task = exams[name].tasks["view"].prediction
        assert (task.predicted, f"{task.probability:.5f}") == (
            row["predicted"],
            f"{float(row['probability']):.5f}",
        )


@pytest.mark.parametrize("task", ["view", "condition"])
def test_the_spread_is_the_range_of_videos_or_the_middle_of_the_frames_of_one(gathered, task):
    exams = exams_by_name(gathered)
    videos = [row for row in rows(gathered.top / "out.videos.csv", task) if row["patient"] == "Ann"]
    frames = [row for row in rows(gathered.top / "out.csv", task) if row["patient"] == "Bob"]
    assert len(videos) == 3 and len(frames) == 5
    for name, spread in exams["Ann"].tasks[task].spread.items():
        p = [float(row[f"p:{name}"]) for row in videos]
        assert spread == pytest.approx((min(p), max(p)))
        assert spread[0] <= exams["Ann"].tasks[task].prediction.probabilities[name] <= spread[1]
    for name, spread in exams["Bob"].tasks[task].spread.items():
        p = [float(row[f"p:{name}"]) for row in frames]
        assert spread == pytest.approx(np.quantile(p, [0.1, 0.9]), abs=1e-6)
    assert exams[f"{gathered.top}/data/single"].tasks[task].spread == {}


def test_the_frames_that_decided_have_the_highest_probability_of_the_predicted_class(gathered):
    for exam in gathered.collector.exams(gathered.run):
        task = exam.tasks["view"]
        name = task.prediction.predicted
        of_exam = [
            (float(row[f"p:{name}"]), row["video"], row["path"])
            for row in rows(gathered.top / "out.csv", "view")
            if exam.name in (row["patient"], row["video"])
        ]
        if len(exam.videos) > 1:  # the best of each video
            of_exam = [max(one for one in of_exam if one[1] == video.name) for video in exam.videos]
        best = sorted(of_exam, reverse=True)[:MAX_FRAMES]
        assert [(frame.frame.path, frame.name) for frame in task.frames] == [
            (path, name) for *_, path in best
        ]
        assert [frame.probability for frame in task.frames] == pytest.approx([p for p, *_ in best])
        assert {frame.index for frame in task.frames} == {gathered.run.tasks["view"].classes.index(name)}


def test_without_a_lesion_the_frames_are_those_nearest_to_one(gathered):
    shown = set()
    for exam in gathered.collector.exams(gathered.run):
        task, output = exam.tasks["condition"], gathered.run.tasks["condition"]
        ratios = {
            name: task.prediction.probabilities[name] / share
            for name, share in zip(output.classes, output.prevalence, strict=True)
        }
        predicted = [name for name, ratio in ratios.items() if ratio >= 1]
        assert {frame.name for frame in task.frames} == set(predicted or [max(ratios, key=ratios.get)])
        shown.add(bool(predicted))
    assert shown == {True, False}, "both cases are here"


def test_frames_may_come_in_any_order_and_look_as_they_were(gathered):
    pixels = {frame.path: frame.pixels for frame, _ in gathered.frames}
    other = ExamCollector()
    for number in np.random.default_rng(0).permutation(len(gathered.frames)):
        other.add(*gathered.frames[number])
    again = {exam.name: exam for exam in other.exams(gathered.run)}
    for name, exam in exams_by_name(gathered).items():
        for task, of_task in exam.tasks.items():
            assert [frame.frame.path for frame in again[name].tasks[task].frames] == [
                frame.frame.path for frame in of_task.frames
            ]
            for low_high, of_class in zip(
                again[name].tasks[task].spread.values(), of_task.spread.values(), strict=True
            ):
                assert low_high == pytest.approx(of_class)
            for frame in of_task.frames:
                error = np.abs(frame.frame.pixels().astype(float) - pixels[frame.frame.path])
                assert error.mean() < 4, "of 255 grey levels"


def test_a_long_stream_keeps_a_few_frames_of_the_first_exams(gathered):
    """3,000 frames of 30 patients with four videos each: memory holds three frames a class at most."""
    rng, collector = np.random.default_rng(0), ExamCollector(max_exams=10)
    grey = np.broadcast_to(np.zeros((1, 4, 4), np.uint8), (3, 4, 4))
    for number in range(3000):
        patient, video = str(number % 30), f"{number % 30}-{number % 4}"
        p = rng.dirichlet(np.ones(5))
        of_task = TaskPrediction("a", p[0], 0.0, None, dict(zip("abcde", p.tolist(), strict=True)))
        frame = InputFrame(f"{number}.png", video, patient, grey)
        collector.add(frame, Prediction(patient, 0.0, False, {"view": of_task}))
    assert collector.n_left_out == 20
    in_memory = [exam.frames for exam in collector._gathered.values()]
    assert len(in_memory) == 10 and max(map(len, in_memory)) <= 5 * MAX_FRAMES
    assert not any(exam.probabilities for exam in collector._gathered.values()), "of several videos, none"
