import csv
import json
import sys

import pytest
from small_run import arguments, run_small

import main

QUICK = ["--no-figures", "--no-rehearsal"]


def history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def balanced_accuracy(folder):
    """The scores per video of the view."""
    scores = json.loads((folder / "metrics.json").read_text())["tasks"]["view"]["test"]["video"]
    return scores["balanced_accuracy"], *scores["ci95"]["balanced_accuracy"]


def test_tensorboard_curves_can_be_read(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    assert run_small(arguments(tmp_path / "cache", folder, *QUICK, "--tensorboard")) == 0

    def points(series, name):
        events = EventAccumulator(str(folder / "tensorboard" / series))
        events.Reload()
        return [(point.step, pytest.approx(point.value, rel=1e-6)) for point in events.Scalars(name)]

    first, *others = history(folder)
    for name in ("loss", "val_loss", "alignment", "uniformity", "rank"):
        assert points("", f"simclr/{name}") == [(1, first[name])]
    heads = [(row["epoch"], row["loss"]) for row in others if row["phase"] == "view"]
    assert points("view", "view/loss") == heads and len(heads) == 2
    for name, value in zip(("", "_low", "_high"), balanced_accuracy(folder), strict=True):
        assert points("test", f"test/view/balanced_accuracy_per_video{name}") == [(0, value)]


@pytest.mark.slow
def test_trackers_get_a_run_and_what_follows_it_but_no_names(tmp_path, monkeypatch, capfd):
    mlflow, _ = pytest.importorskip("mlflow"), pytest.importorskip("wandb")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "run"
    words = arguments(tmp_path / "cache", folder, *QUICK, "--tracker", "mlflow", "--tracker", "wandb")
    assert run_small(words) == 0
    assert run_small([*words, "--evaluate-again", "--linear-epochs", "3"]) == 0  # goes on in the same run
    assert "WARNING --tracker" not in capfd.readouterr().out

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("simclr-rhd").experiment_id])
    assert run.info.run_name == "run" and run.info.status == "FINISHED"
    assert run.data.params["epochs"] == "1" and run.data.params["data"] == "demo"
    assert run.data.metrics["simclr/loss"] == history(folder)[0]["loss"]
    for name, value in zip(("", "_low", "_high"), balanced_accuracy(folder), strict=True):
        assert run.data.metrics[f"test/view/balanced_accuracy_per_video{name}"] == value
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "view/loss")]
    assert sorted(steps) == [1, 1, 2, 2, 3]

    identifier = json.loads((folder / "run.json").read_text())["tracker_id"]
    files = sorted((folder / "wandb").glob(f"offline-run-*-{identifier}/*.wandb"))
    assert len(files) == 2
    with (folder / "split.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names = {row[column] for row in rows for column in ("path", "video", "patient")} - {""}
    sent = b"".join(
        path.read_bytes() for path in [*files, *(tmp_path / "mlruns").rglob("*")] if path.is_file()
    )
    assert b"test/view/balanced_accuracy_per_video" in sent
    assert len(names) > 50 and not [name for name in names if name.encode() in sent]
    assert str(folder).encode() not in sent


@pytest.mark.slow
def test_a_server_that_is_away_refuses_a_new_run_and_does_not_end_one_that_is_continued(
    tmp_path, monkeypatch, capfd
):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # another test may have imported it before
    words = arguments(tmp_path / "cache", tmp_path / "run", *QUICK)
    for _ in range(2):
        assert run_small([*words, "--tracker", "mlflow"]) == 2
        printed = capfd.readouterr()
        assert "Training has not started" in printed.err and "split by" not in printed.out
        assert not (tmp_path / "run" / "run.json").exists()
    assert run_small(words) == 0
    assert run_small([*words, "--evaluate-again", "--linear-epochs", "3", "--tracker", "mlflow"]) == 0
    printed = capfd.readouterr().out
    assert printed.count("WARNING --tracker mlflow:") == 2 and "some figures were not sent" in printed
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_pretrainings_of_folds_that_are_done_are_sent_to_a_tracker_that_lacks_them(tmp_path):
    pytest.importorskip("tensorboard")
    words = arguments(tmp_path / "cache", tmp_path / "run", *QUICK, "--folds", "2", "--pretrain-per-fold")
    assert run_small(words) == 0
    assert run_small([*words, "--evaluate-again", "--linear-epochs", "3", "--tensorboard"]) == 0
    for folder in ("", "fold-1", "fold-2"):
        assert list((tmp_path / "run" / "tensorboard" / folder).glob("events.out.*"))


def test_a_missing_tensorboard_is_named_at_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main.main(arguments(tmp_path / "cache", tmp_path / "run", "--tensorboard")) == 2
    printed = capfd.readouterr()
    assert "pip install tensorboard" in printed.err and "epoch 1/1" not in printed.out
