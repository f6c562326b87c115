import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from exam_files import write_exams
from random_model import CLASSES, write_model
from small_simclr import small_networks

from simclr_rhd import load_model
from simclr_rhd.cli import main
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.evaluation.screening.attention import AttentionPooling
from simclr_rhd.evaluation.screening.exams import ExamScorer, frame_evidence
from simclr_rhd.evaluation.screening.fit import ScreeningTest
from simclr_rhd.evaluation.screening.pooling import FIXED_POOLINGS, MEAN_POOLING
from simclr_rhd.evaluation.screening.positives import ScreeningQuestion
from simclr_rhd.heads.calibration import Scaling
from simclr_rhd.inference.screening import ExamStream, from_saved, to_saved

DIM, MULTILABEL = 960, frozenset({"condition"})
N_OTHERS = len(CLASSES["condition"])


def attention(seed=0):
    rng = np.random.default_rng(seed)
    weights, centre = rng.normal(size=(2, DIM)) / DIM**0.5
    return AttentionPooling(centre, np.full(DIM, 0.5), weights, 0.3, 1.5, rng.normal(size=N_OTHERS))


def make_test(pooling=MEAN_POOLING, **thresholds):
    question = ScreeningQuestion("view", ("PLAX", "PSAX"), ("A4C",), tuple(CLASSES["view"]))
    scaling = Scaling(1.2, np.array([-0.5]), np.array([0.4]))
    return ScreeningTest(question, ExamScorer(pooling, scaling), {"sensitivity 0.90": 0.5} | thresholds)


def round_trip(saved):
    return from_saved(saved, CLASSES, MULTILABEL, dim=DIM)


@pytest.mark.parametrize("pooling", [*FIXED_POOLINGS, attention()], ids=lambda pooling: pooling.name)
def test_a_test_is_read_back_as_it_was_saved(pooling):
    test = make_test(pooling, **{"specificity 0.90": None})
    (again,) = round_trip(to_saved([test]))
    assert again.question == test.question and again.thresholds == test.thresholds
    assert again.scorer.scaling.temperature == 1.2 and again.scorer.scaling.bias.tolist() == [-0.5]
    assert again.scorer.pooling.name == pooling.name
    if pooling.name == "attention":
        assert np.array_equal(again.scorer.pooling.weights, pooling.weights)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "severity"},
        {"positive": []},
        {"positive": ["PLAX", "None"]},
        {"positive": ["PLAX", "PLAX"]},
        {"negative": ["A4C", "PLAX"]},
        {"pooling": "another"},
        {"temperature": 0.0},
        {"temperature": "1"},
        {"bias": float("nan")},
        {"prevalence": 1.0},
        {"thresholds": {"sensitivity 0.90": "0.5"}},
        {"thresholds": {"sensitivity\n0.90": 0.5}},
        {"attention": {"weights": torch.zeros(3)}},
    ],
    ids=str,
)
def test_a_damaged_test_is_refused(change):
    (saved,) = to_saved([make_test()])
    with pytest.raises((ValueError, KeyError)):
        round_trip([saved | change])


@pytest.mark.parametrize("name", ["centre", "scale", "weights", "attention"])
def test_a_damaged_attention_is_refused(name):
    (saved,) = to_saved([make_test(attention())])
    for bad in (torch.full_like(saved["attention"][name], torch.nan), torch.ones(7, dtype=torch.float64)):
        with pytest.raises(ValueError, match="attention"):
            round_trip([saved | {"attention": saved["attention"] | {name: bad}}])


def test_a_damaged_test_in_a_file_is_a_users_error(tmp_path):
    with small_networks():
        path = write_model(tmp_path / "model.pt", screening=[make_test()])
        saved = torch.load(path, weights_only=True)
        saved["screening"][0]["bias"] = float("inf")
        torch.save(saved, path)
        with pytest.raises(UserError, match="damaged"):
            load_model(path)


@pytest.mark.parametrize("pooling", [*FIXED_POOLINGS, attention()], ids=lambda pooling: pooling.name)
def test_frames_that_stream_in_give_what_whole_exams_give(pooling):
    rng, n = np.random.default_rng(0), 40
    test, exam = make_test(pooling), np.sort(rng.integers(0, 5, 40))
    view = rng.dirichlet(np.ones(3), size=n)
    table = {"view": view, prevalence_key("view"): np.tile([0.6, 0.3, 0.1], (n, 1))}
    table |= {"condition": rng.random((n, N_OTHERS))}
    features, videos = (
        rng.normal(size=(n, DIM)).astype(np.float32),
        np.array([f"v{i // 3}" for i in range(n)]),
    )
    whole = frame_evidence(test.question, table, list(CLASSES), videos=videos, features=features)
    expected = test.scorer.probability(whole, exam)
    stream, order = ExamStream([test], list(CLASSES)), rng.permutation(n)
    for rows in np.array_split(order, 4):
        part = {name: values[rows] for name, values in table.items()}
        keys = [(True, f"p{number}") for number in exam[rows]]
        stream.add(keys, videos[rows].tolist(), part, features[rows])
    for (_, name), (prediction,) in stream.predictions().items():
        p = expected[int(name[1:])]
        assert prediction.probability == pytest.approx(p, abs=1e-9)
        assert prediction.sent_on == {"sensitivity 0.90": bool(prediction.probability >= 0.5)}


def test_predict_writes_an_answer_for_each_exam(tmp_path):
    table = write_exams(tmp_path / "data", {"Ann": 2, "": 1}, frames=3)
    never = make_test(**{"specificity 0.90": None})
    always = replace(make_test(attention()), thresholds={"sensitivity 0.90": 0.0})
    always = replace(always, question=replace(always.question, positive=("PSAX",), negative=("A4C", "PLAX")))
    with small_networks():
        model = write_model(tmp_path / "model.pt", screening=[never, always])
        out, page = tmp_path / "out.csv", tmp_path / "out.html"
        words = ["predict", str(tmp_path / "data"), "--model", str(model), "--out", str(out)]
        words += ["--html", str(page), "--patients-csv", str(table), "--cache-dir", str(tmp_path / "cache")]
        assert main(words) == 0
    rows = list(csv.DictReader((tmp_path / "out.screening.csv").open()))
    assert all(row["out_of_distribution"] == "False" and int(row["frames"]) in (3, 6) for row in rows)
    assert sorted({(row["exam"] == "Ann", row["of"]) for row in rows}) == [
        (False, "video"),
        (True, "patient"),
    ]
    assert len(rows) == 4 and {row["question"] for row in rows} == {"view=PLAX,PSAX", "view=PSAX"}
    for row in rows:
        prediction = row["sent on for sensitivity 0.90"]
        limit = 0.0 if row["question"] == "view=PSAX" else 0.5
        assert prediction == str(float(row["probability"]) >= limit)
    text = page.read_text()
    assert text.count("Screening, view=PSAX: probability") == 2
    assert "sent on at the threshold for sensitivity 0.90" in text
