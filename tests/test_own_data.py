"""The main job on a user's own files: a folder, a bucket, and what goes wrong with them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main
from simclr_rhd import demo

ROOT = Path(__file__).resolve().parents[1]
SMALL = "--no-figures --image-size 32 --epochs 1 --linear-epochs 2 --batch-size 32".split()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    demo.write_demo(folder, patients=12)
    return folder


@pytest.fixture
def data(drawn, tmp_path):
    """A copy of the demo's files as a user's own folder, to spoil."""
    folder = tmp_path / "data"
    for path in drawn.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(drawn)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    return folder


def arguments(data, cache, save_dir, *more):
    return [*SMALL, "--data", str(data), "--cache-dir", str(cache), "--save-dir", str(save_dir), *more]


def test_a_frame_split_is_marked_as_leaky_wherever_it_shows(data, tmp_path):
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out", "--group-by", "frame")) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["split"] | {"parts": None} == {"by": "frame", "leaky": True, "folds": 1, "parts": None}
    assert found["synthetic"] is False
    for name in ("simclr_rhd.log", "report.html"):
        assert "leaky" in (tmp_path / "out" / name).read_text().lower()


def test_too_many_unreadable_frames_stop_the_run_and_are_listed(data, tmp_path, capfd):
    frames = sorted((data / "supervised" / "annotated-final").iterdir())
    spoilt = frames[: len(frames) // 2]
    for path in spoilt:
        path.unlink()
        path.write_text("not a picture")
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out")) == 2
    assert "--max-rejected" in capfd.readouterr().err
    with (tmp_path / "out" / "rejected.csv").open(newline="", encoding="utf-8") as stream:
        listed = {row["path"]: row["reason"] for row in csv.DictReader(stream)}
    assert set(listed) == {path.relative_to(data).as_posix() for path in spoilt}
    assert set(listed.values()) == {"not an image"}


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (["--data", "{tmp}/nowhere"], ["nowhere", "--data"]),
        (["--labelled-prefix", "wrong"], ["wrong", "--labelled-prefix"]),
        (["--unlabelled-prefix", "wrong"], ["wrong", "--unlabelled-prefix"]),
        (["--labels-csv", "wrong.csv"], ["wrong.csv", "--labels-csv"]),
        (["--labels-csv", "supervised/empty.csv"], ["empty.csv", "FILENAME"]),
        (["--device", "cuda"], ["--device cuda"]),
        (["--epochs", "0"], ["--epochs 0"]),
    ],
)
def test_a_users_mistake_is_one_message_without_a_traceback(data, tmp_path, capfd, mistake, words):
    (data / "supervised" / "empty.csv").touch()
    if "--device" in mistake and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    more = [argument.format(tmp=tmp_path) for argument in mistake]
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out", *more)) == 2
    said = capfd.readouterr().err
    assert all(word in said for word in words) and "Traceback" not in said


def test_folder_and_bucket_of_the_same_content_give_the_same_run(data, tmp_path, gcs):
    (data / "supervised" / "annotated-final" / "bad_frame1.png").write_text("not a picture")
    gcs.upload("echo-bucket", data, prefix="study 1/")
    environment = os.environ | {"STORAGE_EMULATOR_HOST": gcs.url}
    for name, source in (("folder", data), ("bucket", "gs://echo-bucket/study 1")):
        command = [sys.executable, "main.py", *arguments(source, tmp_path / f"cache {name}", tmp_path / name)]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    for name in ("split.csv", "rejected.csv", "metrics.json", "predictions.csv"):
        assert (tmp_path / "bucket" / name).read_bytes() == (tmp_path / "folder" / name).read_bytes(), name
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("folder", "bucket")]
    assert records[0]["data"]["fingerprint"] == records[1]["data"]["fingerprint"]


def test_a_first_attempt_that_failed_does_not_stand_in_the_way(data, tmp_path):
    places = tmp_path / "cache", tmp_path / "out"
    assert main.main(arguments(tmp_path / "nowhere", *places)) == 2
    assert main.main(arguments(data, *places, "--init", str(data / "supervised" / "sorted_file.csv"))) == 2
    assert [path.name for path in places[1].iterdir()] == [".lock"]


def test_overwrite_destroys_nothing_before_the_new_run_is_possible(data, tmp_path, capfd):
    places = tmp_path / "cache", tmp_path / "out"
    places[1].mkdir()
    for name in ("model.pt", "simclr_last.pt", "run.json", "simclr_rhd.log", "split.csv"):
        (places[1] / name).write_text("of an earlier run")
    for wrong in (["--init", str(places[1] / "model.pt")], ["--labelled-prefix", "wrong"]):
        assert main.main(arguments(data, *places, "--overwrite", *wrong)) == 2
    assert {path.read_text() for path in places[1].iterdir() if path.name != ".lock"} == {"of an earlier run"}


def test_pictures_that_were_left_out_are_drawn_by_the_same_command_without_the_flag(
    data, tmp_path, monkeypatch
):
    drawn = []
    monkeypatch.setattr("simclr_rhd.figures.draw", lambda *_, **__: drawn.append(1) or {})
    argv = arguments(data, tmp_path / "cache", tmp_path / "out")
    assert main.main(argv) == 0 and not drawn
    model = (tmp_path / "out" / "model.pt").read_bytes()
    assert main.main(argv) == 0 and not drawn
    argv.remove("--no-figures")
    assert main.main(argv) == 0 and drawn
    assert (tmp_path / "out" / "model.pt").read_bytes() == model


def test_a_table_with_one_class_in_each_task_is_a_users_error(data, tmp_path, capfd):
    table = data / "supervised" / "sorted_file.csv"
    with table.open(newline="", encoding="utf-8") as stream:
        found = [row["FILENAME"] for row in csv.DictReader(stream)]
    table.unlink()
    rows = [f"{name},PLAX,['Healthy'],Normal" for name in found]
    table.write_text("\n".join(["FILENAME,VIEW-APP,CONDITION,SEVERITY", *rows]))
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out")) == 2
    assert "nothing to learn" in capfd.readouterr().err


def test_names_that_tell_no_videos_are_warned_of(data, tmp_path, capfd):
    frames = data / "supervised" / "annotated-final"
    for path in sorted(frames.iterdir()):
        path.rename(frames / path.name.replace("_frame", "-"))
    for path in sorted((data / "unsupervised-videos" / "unlabelled-frames").iterdir()):
        path.rename(path.with_name(path.name.replace("_frame", "-")))
    table = data / "supervised" / "sorted_file.csv"
    text = table.read_text().replace("_frame", "-")
    table.unlink()
    table.write_text(text)
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out", "--group-by", "video")) == 0
    assert "have a single frame" in capfd.readouterr().out
