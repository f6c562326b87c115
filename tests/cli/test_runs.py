"""The command `runs`, on folders as runs leave them."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import main

ROOT = Path(__file__).resolve().parents[2]
NONE = {"balanced_accuracy": None, "ci95": {"balanced_accuracy": None}}


def target(value, low, high):
    video = {"balanced_accuracy": value, "ci95": {"balanced_accuracy": [low, high]}}
    return {"test": {"video": video, "frame": NONE}}


METRICS = {
    "split": {"by": "patient", "leaky": False, "folds": 1},
    "tasks": {"view": target(0.934, 0.88, 0.97), "severity": {"skipped": "no labels"}},
}


def leave(folder, *, metrics=METRICS, epochs=0, **facts):
    """A folder of a run."""
    folder.mkdir(parents=True)
    record = {"status": "finished", "finished": "2026-11-27 20:10:00", "data": {"location": "gs://bucket"}}
    (folder / "run.json").write_text(json.dumps(record | {"config": {"epochs": 300}} | facts))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "model.pt").touch()
    rows = [{"phase": "simclr", "epoch": epoch} for epoch in range(1, epochs + 1)]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def listed(capsys, monkeypatch, tmp_path):
    """The output of `runs`, with the current folder the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def listed(*argv):
        assert main.main(["runs", *argv]) == 0
        printed = capsys.readouterr()
        assert not printed.err
        return printed.out

    return listed


def test_a_finished_run_has_its_data_split_scores_and_model(listed, tmp_path):
    leave(tmp_path / "models")
    assert listed() == (
        "2026-11-27 20:10  models\n"
        "    finished\n"
        "    gs://bucket\n"
        "    split by patient\n"
        "    balanced accuracy view 0.93 [0.88, 0.97] per video\n"
        "    --model models/model.pt\n"
    )


def test_scores_in_the_record_spare_the_long_file(listed, tmp_path):
    scores = {"view": {"level": "frame", "value": 0.5, "low": None, "high": None}}
    folder = leave(tmp_path / "models", scores=scores, split=METRICS["split"] | {"by": "video"})
    (folder / "metrics.json").unlink()
    assert "split by video\n    balanced accuracy view 0.50 per frame\n" in listed()


def test_the_newest_comes_first_wherever_it_lies(listed, tmp_path):
    for day, place in enumerate(("models", "models/quick", "runs/a/b/c", "my runs"), start=1):
        leave(tmp_path / place, finished=f"2026-11-{day:02} 20:10:00")
    lines = [line for line in listed().splitlines() if not line.startswith(" ")]
    assert [line[18:] for line in lines if line] == ["'my runs'", "runs/a/b/c", "models/quick", "models"]
    assert "--model 'my runs/model.pt'" in listed("my runs") and "quick" not in listed("my runs", "runs")


def test_folders_that_hold_no_runs_of_their_own_are_not_searched(listed, tmp_path):
    for place in (".hidden", "1/2/3/4/5"):
        leave(tmp_path / place)
    assert listed() == "no runs in this folder, up to four levels deep\n"
    assert "2026" in listed(".hidden") and "2026" in listed("1")


def test_parts_of_a_run_are_no_runs_and_runs_of_such_names_are(listed, tmp_path):
    for place in ("a", "a/fold-1", "a/wandb/x", "a/tensorboard", "fold-2", "exported"):
        leave(tmp_path / place)
    lines = [line for line in listed().splitlines() if not line.startswith(" ")]
    assert sorted(line[18:] for line in lines if line) == ["a", "exported", "fold-2"]


def test_links_in_a_circle_hide_no_run(listed, tmp_path):
    leave(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "loop").symlink_to("loop")
    (tmp_path / "loop").symlink_to("loop")
    assert "runs/a" in listed() and "cannot be read" not in listed()


def test_a_folder_is_listed_once_whatever_leads_to_it(listed, tmp_path):
    leave(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "models").symlink_to(tmp_path / "runs" / "a")
    assert listed(".", "runs", "models").count("2026") == 1


def test_the_state_of_a_run_that_has_not_ended(listed, tmp_path):
    stopped = leave(tmp_path / "stopped", status="unfinished", epochs=12)
    os.utime(stopped / "run.json", (0, 0))
    leave(tmp_path / "early", status="unfinished")
    running = leave(tmp_path / "running", status="unfinished", epochs=3)
    (running / "history.jsonl").open("a").write('{"phase": "view", "epoch": 60}\n')
    (tmp_path / "reading").mkdir()
    with (running / ".lock").open("w") as one, (tmp_path / "reading" / ".lock").open("w") as two:
        for stream in (one, two):
            fcntl.flock(stream, fcntl.LOCK_EX)
        text = listed()
    assert "stopped\n    stopped after epoch 12 of 300\n" in text and "1970" not in text
    assert "early\n    stopped before the end of the first epoch\n" in text
    assert "running\n    running now after epoch 3 of 300\n" in text
    assert "reading\n    running now before the end of the first epoch\n" in text and "balanced" not in text
    assert "running now" not in listed()


def test_an_evaluation_is_listed_as_one(listed, tmp_path):
    leave(tmp_path / "evaluation", command="evaluate", config={"model": "models/model.pt"})
    text = listed()
    assert "evaluation\n    evaluation, finished\n" in text and "    of --model models/model.pt\n" in text


def test_splits_and_lesions_in_words(listed, tmp_path):
    split = {"by": "video", "leaky": True, "folds": 3, "folds_by": "SITE", "own": True}
    lesions = {"MR": target(0.5, None, None), "AR": {"test": {"video": NONE, "frame": NONE}}}
    leave(tmp_path / "a", metrics={"split": split, "tasks": {"condition": {"lesions": lesions}}})
    text = listed()
    assert "split by video, 3 folds by SITE, your own, LEAKY" in text
    assert "balanced accuracy condition: MR 0.50 per video\n" in text


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("run.json", b"{half", "a/run.json: is cut off, or no JSON"),
        ("run.json", b"[" * 100_000, "a/run.json: is cut off, or no JSON"),
        ("run.json", b"[]", "a/run.json: found a list, wanted an object"),
        ("run.json", b"\xff", "a/run.json: is no text in UTF-8"),
        ("run.json", b'{"name": "of another program"}', "a/run.json: config: found null, wanted an object"),
        ("run.json", b'{"config": {}, "status": "unfinished"}', "a/run.json: config: epochs: found nothing"),
        ("metrics.json", b"{half", "a/metrics.json: is cut off, or no JSON"),
        ("metrics.json", b'{"split": 3, "tasks": {}}', "a/metrics.json: split: found 3, wanted an object"),
    ],
)
def test_a_damaged_file_is_named_in_a_line_and_hides_no_other_run(listed, tmp_path, name, content, problem):
    (leave(tmp_path / "a") / name).write_bytes(content)
    leave(tmp_path / "b")
    text = listed()
    assert problem in text and "Traceback" not in text and "--overwrite" not in text
    assert ("--model a/model.pt" in text) == (name == "metrics.json") and "--model b/model.pt" in text
    assert json.loads(listed("--json"))["problems"][0].startswith(f"a/{name}: ")


def test_a_file_that_would_fill_the_memory_is_not_read(listed, tmp_path, monkeypatch):
    monkeypatch.setattr("simclr_rhd.runs.listing.MAX_BYTES", 1000)
    (leave(tmp_path / "a") / "run.json").write_bytes(b" " * 1001)
    assert "a/run.json: has more than 1,000 bytes" in listed()


def test_a_pipe_is_not_waited_for(listed, tmp_path):
    for place, name in (("a", "run.json"), ("b", "metrics.json"), ("c", "history.jsonl"), ("d", ".lock")):
        folder = leave(tmp_path / place, status="unfinished" if place in "cd" else "finished")
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    text = listed()
    assert "b/metrics.json: is not there" in text and text.count("2026-") == 3


def test_a_folder_of_frames_is_not_searched_to_its_end(listed, tmp_path, monkeypatch):
    monkeypatch.setattr("simclr_rhd.runs.listing.MAX_ENTRIES", 3)
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(4):
        (frames / f"{number}.png").touch()
    assert "frames: not all of it was looked through" in listed()


def test_no_text_of_a_record_commands_the_terminal(listed, tmp_path):
    bad = "\x1b[2J\x07\u202egs://x\nb"
    leave(tmp_path / "a\x1b]0;title\x07b", data={"location": bad}, config={"epochs": 3})
    leave(tmp_path / "e", command="evaluate", config={"model": bad})
    text = listed()
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]
    assert "\x1b" not in listed("--json")


def test_the_width_of_the_terminal_is_kept_but_for_paths(listed, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    place = "a_long_name_of_a_folder_that_is_to_be_copied_as_a_whole"
    tasks = {f"task{number}": target(0.5, 0.25, 0.75) for number in range(5)}
    leave(tmp_path / place, metrics=METRICS | {"tasks": tasks}, data={"location": "/a/" * 40})
    lines = listed().splitlines()
    assert all(len(line) <= 50 or place in line for line in lines) and len(lines) > 8
    assert f"    --model {place}/model.pt" in lines


def test_json_is_for_scripts(listed, tmp_path):
    leave(tmp_path / "models")
    (run,) = json.loads(listed("--json"))["runs"]
    assert (run["folder"], run["state"], run["model"]) == ("models", "finished", "models/model.pt")
    assert run["scores"]["view"] == {"level": "video", "value": 0.934, "low": 0.88, "high": 0.97}


def test_a_folder_that_is_not_there_is_refused(capsys, tmp_path):
    (tmp_path / "file").touch()
    assert main.main(["runs", str(tmp_path / "nowhere"), str(tmp_path / "file")]) == 2
    printed = capsys.readouterr().err
    assert "nowhere: no such folder" in printed and "file: is no folder" in printed


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    for number in range(300):
        leave(tmp_path / f"run{number}")
    command = f"{sys.executable} main.py runs {tmp_path} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0" and not done.stderr


def test_the_list_imports_nothing_heavy(tmp_path):
    code = (
        f"import sys, main; main.main(['runs', {str(tmp_path)!r}]); "
        "print([m for m in ('torch', 'numpy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
