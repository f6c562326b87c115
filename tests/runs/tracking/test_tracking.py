import dataclasses
import logging
import os
import pty
import socket
import subprocess
import sys
import threading

import pytest

from simclr_rhd.config import Config
from simclr_rhd.core.config import BELOW_DATA, FILE
from simclr_rhd.core.errors import UserError
from simclr_rhd.runs.config import TRACKER_NAMES
from simclr_rhd.runs.record import HeadlineScore
from simclr_rhd.runs.tracking import sender
from simclr_rhd.runs.tracking.trackers import TRACKERS, Point, TrackedRun
from simclr_rhd.runs.tracking.tracking import PRIVATE_FLAGS, Tracking, tracker_id

ID = "0123456789abcdef"
EPOCHS = [
    {"phase": "simclr", "epoch": epoch, "loss": 1 / epoch, "knn": {"view": 0.5}, "best": True}
    for epoch in (1, 2)
]
RESULTS = [
    {"phase": "view", "epoch": 1, "loss": 0.5, "val_loss": None},
    {"phase": "finetune", "way": 2, "epoch": 0, "loss": float("nan"), "val_loss": 0.25},
]


class Server:
    """A tracker that fails as often as it should, and keeps what comes through."""

    advice = "start it"

    def __init__(self, failures=0, message="away", knows_run=False):
        self.knows_run = knows_run
        self.failures, self.message, self.received, self.n_calls = failures, message, [], 0
        self.is_back = threading.Event()

    def _answer(self, *what):
        self.n_calls += 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError(self.message)
        self.received += what
        self.is_back.set()

    def start(self, run):
        self._answer(run.id)
        return self.knows_run

    def log_config(self, config):
        self._answer(config)

    def log(self, points):
        self._answer(*points)

    def close(self, *, failed):
        self._answer(failed)


@pytest.fixture
def track(monkeypatch, tmp_path, caplog):
    """Track a run of two epochs with a server; its warnings."""
    monkeypatch.setattr(sender, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(logging.getLogger("simclr_rhd"), "propagate", True)

    def track(server, *, stopped=False, is_new=False):
        monkeypatch.setitem(TRACKERS, "json", lambda: server)  # a package that is there
        comes_back = 0 < server.failures < 10
        try:
            with Tracking(["json"]) as trackers:
                trackers.start(TrackedRun(ID, "models", tmp_path), is_new=is_new)
                trackers.log_config({"epochs": 2, "data": "/data/P001", "folds": None})
                for n_epochs in (1, 2):
                    trackers.log_epochs("simclr", EPOCHS[:n_epochs])
                if comes_back:  # at the end it is not waited for
                    server.is_back.wait()
                if stopped:
                    raise KeyboardInterrupt
                trackers.log_results(RESULTS, {"condition: a,b": HeadlineScore("video", 0.75, 0.5, None)})
        except KeyboardInterrupt:
            assert stopped
        return [record.getMessage() for record in caplog.records]

    return track


SENT = [
    ID,
    {"epochs": 2},
    Point("simclr", 1, "loss", 1.0),
    Point("simclr", 1, "knn/view", 0.5),
    Point("simclr", 2, "loss", 0.5),
    Point("simclr", 2, "knn/view", 0.5),
    Point("view", 1, "loss", 0.5),
    Point("finetune-2", 0, "val_loss", 0.25),
    Point("test", 0, "condition: a_b/balanced_accuracy_per_video", 0.75),
    Point("test", 0, "condition: a_b/balanced_accuracy_per_video_low", 0.5),
    False,
]


def test_a_tracker_gets_the_epochs_and_the_scores_in_their_order(track):
    server = Server()
    assert track(server) == [] and server.received == SENT


def test_what_a_server_missed_while_it_was_away_is_sent_later_with_one_warning(track):
    server = Server(failures=3)
    (warning,) = track(server)
    assert server.received == SENT and "WARNING --tracker json: away. The run continues" in warning


def test_a_server_that_stays_away_costs_a_warning_and_not_the_run(track):
    server = Server(failures=10**9)
    warnings = track(server)
    assert len(warnings) == 2 and "some figures were not sent; history.jsonl has every epoch" in warnings[1]


@pytest.mark.parametrize("hangs", [False, True])
def test_a_new_run_is_refused_where_there_is_no_first_contact(track, monkeypatch, hangs):
    monkeypatch.setattr(sender, "MAX_CONTACT_S", 0.1)
    server, never = Server(failures=10**9, message="no key for https://me:secret@host"), threading.Event()
    if hangs:
        server.start = lambda run: never.wait()
    reason = "no answer" if hangs else "no key for https://host"
    with pytest.raises(
        UserError, match=f"--tracker json: {reason}. Training has not started: start it; or leave"
    ):
        track(server, is_new=True)
    never.set()
    assert server.n_calls == (0 if hangs else 1), "not tried again"


@pytest.mark.parametrize("order", [["json", "csv"], ["csv", "json"]])
def test_of_two_trackers_the_one_that_answers_is_closed_where_the_other_does_not(
    monkeypatch, tmp_path, order
):
    servers = {"json": Server(), "csv": Server(failures=10**9)}
    for name, server in servers.items():
        monkeypatch.setitem(TRACKERS, name, lambda server=server: server)
    with pytest.raises(UserError, match="--tracker csv: away"), Tracking(order) as trackers:
        trackers.start(TrackedRun(ID, "models", tmp_path), is_new=True)
    assert servers["json"].received == [ID, True]


def test_epochs_from_before_a_stop_that_a_server_missed_are_sent_when_the_run_goes_on(track, tmp_path):
    away, back = Server(failures=10**9), Server()
    assert "some figures were not sent" in track(away, stopped=True)[-1] and away.received == []
    track(back)
    assert back.received == SENT


def test_epochs_that_a_server_has_are_not_sent_again_when_the_run_goes_on(track, tmp_path):
    track(Server(), stopped=True)
    server = Server(knows_run=True)
    track(server)
    assert server.received == [*SENT[:2], *SENT[6:]]
    again = Server(knows_run=True)
    track(again)
    assert again.received == [*SENT[:2], False], "the same results are not sent again either"


@pytest.mark.parametrize("change", [lambda text: "{", lambda text: text.replace(ID, "another run")])
def test_a_record_of_what_was_sent_that_is_damaged_or_of_another_run_does_not_count(track, tmp_path, change):
    track(Server())
    record = tmp_path / "trackers.json"
    record.write_text(change(record.read_text()))
    server = Server(knows_run=True)
    track(server)
    assert server.received == SENT


def test_another_server_gets_all_epochs_of_a_run_that_goes_on(track):
    track(Server(), stopped=True)
    server = Server(knows_run=False)
    track(server)
    assert server.received == SENT


def test_an_epoch_is_sent_in_one_message(monkeypatch, tmp_path):
    monkeypatch.setattr(sender, "MAX_POINTS", 3)
    messages, server = [], Server()
    server.log = lambda points: messages.append([point.epoch for point in points])
    monkeypatch.setitem(TRACKERS, "json", lambda: server)
    with Tracking(["json"]) as trackers:
        trackers.start(TrackedRun(ID, "models", tmp_path), is_new=True)
        trackers.log_epochs("simclr", EPOCHS)
    assert messages == [[1, 1], [2, 2]]


def test_a_run_that_is_stopped_is_marked_so(track):
    server = Server()
    assert track(server, stopped=True) == [] and server.received == [*SENT[:6], True]


def test_a_run_that_is_stopped_does_not_wait_for_a_server_that_hangs(track, monkeypatch):
    monkeypatch.setattr(sender, "MAX_STOP_S", 0.1)
    server, never = Server(), threading.Event()
    server.start = lambda run: never.wait()
    (warning,) = track(server, stopped=True)
    never.set()
    assert "some figures were not sent" in warning


def test_no_password_of_an_address_is_logged(track):
    (warning,) = track(Server(failures=1, message="request to https://me:secret@host/api failed"))
    assert "https://host/api" in warning and "secret" not in warning


@pytest.mark.parametrize("name", TRACKER_NAMES)
def test_a_missing_package_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"--tracker {name} needs a package .* pip install {name}"):
        Tracking([name])


def test_flags_that_name_a_place_are_not_sent(monkeypatch, tmp_path):
    of_places = {
        field.name
        for field in dataclasses.fields(Config)
        if field.metadata
        and (
            field.metadata["options"].get("metavar") in ("FILE", "DIR", "PROJECT")
            or field.metadata["check"] in (BELOW_DATA, FILE)
        )
    }
    assert of_places | {"data", "save_dir", "init"} == PRIVATE_FLAGS
    config = vars(Config(data="/data/P001", init="random", epochs=100, split="mine.csv", cache_dir="/tmp"))
    server = Server()
    monkeypatch.setitem(TRACKERS, "json", lambda: server)
    with Tracking(["json"]) as trackers:
        trackers.start(TrackedRun(ID, "models", tmp_path), is_new=True)
        trackers.log_config(config)
    sent = server.received[1]
    assert not PRIVATE_FLAGS - {"init"} & sent.keys() and sent["init"] == "random" and sent["epochs"] == 100
    assert "crop_min" not in sent  # not set


def test_a_run_that_is_continued_keeps_its_identifier_if_it_is_one():
    assert tracker_id(ID) == ID
    for odd in (None, 3, "", "x' OR name != '", ID.upper(), [ID]):
        assert tracker_id(odd) not in (odd, tracker_id(odd))


@pytest.fixture
def mlflow_client(monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    return mlflow.MlflowClient()


def write(name, folder, epochs, *, config):
    """Track some epochs of a run."""
    with Tracking([name]) as trackers:
        trackers.start(TrackedRun(ID, "models", folder), is_new=True)
        trackers.log_config(config)
        trackers.log_epochs("simclr", [{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, epochs + 1)])
        trackers.log_results([], {"view": HeadlineScore("frame", 0.75, None, None)})


def test_mlflow_continues_the_run(mlflow_client, tmp_path):
    write("mlflow", tmp_path, 2, config={"epochs": 3, "num_workers": 1})
    write("mlflow", tmp_path, 3, config={"epochs": 3, "num_workers": 2})
    experiment = mlflow_client.get_experiment_by_name("simclr-rhd")
    (run,) = mlflow_client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "models" and run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "3", "num_workers": "1"}
    assert run.data.metrics == {"simclr/loss": 1 / 3, "test/view/balanced_accuracy_per_frame": 0.75}
    points = mlflow_client.get_metric_history(run.info.run_id, "simclr/loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_weights_and_biases_asks_no_question_in_a_terminal(tmp_path):
    pytest.importorskip("wandb")
    program = (
        "import sys; from pathlib import Path\n"
        "from simclr_rhd.runs.tracking.tracking import Tracking\n"
        "from simclr_rhd.runs.tracking.trackers import TrackedRun\n"
        "with Tracking(['wandb']) as trackers:\n"
        f"    trackers.start(TrackedRun('{ID}', 'models', Path(sys.argv[1])), is_new=True)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"WANDB_MODE": "online", "HOME": str(tmp_path), "WANDB_CONFIG_DIR": str(tmp_path)}
    leader, terminal = pty.openpty()
    with os.fdopen(leader), os.fdopen(terminal) as screen:
        command = [sys.executable, "-c", program, str(tmp_path)]
        run = subprocess.run(command, stdin=screen, stderr=screen, env=environment, timeout=60, check=False)
        printed = os.read(leader, 100_000).decode()
    assert run.returncode == 1 and "UserError: --tracker wandb" in printed and "wandb login" in printed


def test_weights_and_biases_gets_nothing_of_the_machine(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setattr(sys, "stdin", sys.stdin)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for epochs in (2, 3):
        write("wandb", tmp_path, epochs, config={"epochs": 3})
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2 and {file.stem for file in files} == {f"run-{ID}"}
    content = b"".join(file.read_bytes() for file in files)
    for part in ("epochs", "models", "simclr/loss", "test/view/balanced_accuracy", "simclr-rhd"):
        assert part.encode() in content
    machine = [f"\n{socket.gethostname()}".encode(), str(tmp_path).encode(), sys.executable.encode()]
    assert not [part for part in [*machine, b"pytest"] if part in content]
    assert not list((tmp_path / "wandb").glob("offline-run-*/files/*"))


def test_a_damaged_package_of_a_tracker_is_no_traceback(tmp_path, monkeypatch):
    (tmp_path / "mlflow.py").write_text("raise RuntimeError('its protobuf is older')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    with pytest.raises(UserError, match=r"mlflow: its package is damaged \(its protobuf is older\)"):
        Tracking(["mlflow"])
