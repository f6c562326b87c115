import json
import subprocess
import sys
from pathlib import Path

import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.planning.auto_settings import settings_from_record
from simclr_rhd.runs.outputs import clear
from simclr_rhd.runs.record import RunRecord
from simclr_rhd.runs.run_dir import lock_run_dir, resume_or_refuse
from simclr_rhd.ssl.config import TrainingSettings

SIGNATURE = {"epochs": 3, "seed": 42}
RECORD = {
    "signature": SIGNATURE,
    "status": "unfinished",
    "data": {"fingerprint": "0"},
    "wall_s": {"data": 1.5},
    "finished": "2026-11-26 12:00:00",
    "summary": "said",
    "figures": True,
}

ROOT = Path(__file__).resolve().parents[2]


def leave(folder, **facts):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(RECORD | facts))
    (folder / "simclr_last.pt").touch()


def test_an_empty_folder_is_free(tmp_path):
    (tmp_path / ".gitkeep").touch()
    (tmp_path / "my_notes.txt").write_text("kept")
    assert resume_or_refuse(tmp_path, SIGNATURE, resume="auto", overwrite=False) is None


def test_a_run_that_left_no_checkpoint_holds_nothing_back(tmp_path):
    leave(tmp_path)
    (tmp_path / "simclr_last.pt").unlink()
    assert resume_or_refuse(tmp_path, SIGNATURE | {"seed": 7}, resume="auto", overwrite=False) is None


@pytest.mark.parametrize("status", ["unfinished", "finished"])
def test_a_run_of_the_same_signature_is_found_again(tmp_path, status):
    leave(tmp_path, status=status)
    assert resume_or_refuse(tmp_path, SIGNATURE, resume="auto", overwrite=False)["status"] == status


def test_another_run_is_refused_with_what_differs(tmp_path):
    leave(tmp_path)
    with pytest.raises(UserError, match=r"--seed was 42, is 7.*--overwrite"):
        resume_or_refuse(tmp_path, SIGNATURE | {"seed": 7}, resume="auto", overwrite=False)


def test_a_run_of_another_version_is_called_so(tmp_path):
    leave(tmp_path)
    with pytest.raises(UserError, match="of another version of this program, which knew no --ema-decay"):
        resume_or_refuse(tmp_path, SIGNATURE | {"ema_decay": 0.99}, resume="auto", overwrite=False)


def test_resume_never_refuses_rather_than_destroys(tmp_path):
    leave(tmp_path)
    with pytest.raises(UserError, match="--resume never"):
        resume_or_refuse(tmp_path, SIGNATURE, resume="never", overwrite=False)
    assert (tmp_path / "run.json").exists()


def test_results_whose_record_is_lost_are_not_replaced(tmp_path):
    (tmp_path / "model.pt").write_text("somebody's model")
    with pytest.raises(UserError, match="model.pt"):
        resume_or_refuse(tmp_path, SIGNATURE, resume="auto", overwrite=False)
    for spoilt in ("{half", "[]", "{}", '{"signature": 3}'):
        (tmp_path / "run.json").write_text(spoilt)
        with pytest.raises(UserError, match="no record"):
            resume_or_refuse(tmp_path, SIGNATURE, resume="auto", overwrite=False)


ODD = [None, 3, "", "text", True, [], ["text"], {}, {"a": []}, [[[]]]]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("status", lambda x: False),
        ("signature", lambda x: False),  # a table that is another one is another run
        ("data", lambda x: False),
        ("wall_s", lambda x: x == {}),
        ("finished", lambda x: isinstance(x, str)),
        ("summary", lambda x: isinstance(x, str)),
        ("figures", lambda x: isinstance(x, bool)),
    ],
)
def test_a_record_of_another_shape_is_refused_in_one_sentence(tmp_path, name, good):
    for value in ODD:
        leave(tmp_path, **{"status": "finished", name: value})
        if good(value):
            assert resume_or_refuse(tmp_path, SIGNATURE, resume="auto", overwrite=False)[name] == value
            continue
        for again in (False, True):
            with pytest.raises(UserError, match="no record of its run|another run") as refused:
                resume_or_refuse(tmp_path, SIGNATURE, resume="auto", overwrite=False, reevaluate=again)
            assert "\n" not in str(refused.value) and "--overwrite" in str(refused.value)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "\0", "\ud800", "1e999", ""])
def test_a_record_that_is_none_is_refused_in_one_sentence(tmp_path, content):
    leave(tmp_path)
    (tmp_path / "run.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(UserError, match="no record of its run") as refused:
        resume_or_refuse(tmp_path, SIGNATURE, resume="auto", overwrite=False)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


SETTLED = TrainingSettings(64, None, 0.001, 0.01, 10.0, "video", "float32")


def test_what_a_run_settled_comes_back():
    assert settings_from_record(json.loads(json.dumps(vars(SETTLED))), "run.json") == SETTLED
    assert settings_from_record(vars(SETTLED) | {"micro_batch": 8}, "run.json").micro_batch == 8


@pytest.mark.parametrize("name", list(vars(SETTLED)))
def test_what_a_run_settled_is_refused_in_another_shape(name):
    without = {key: value for key, value in vars(SETTLED).items() if key != name}
    odd = ["nonsense", -1, True, [], {}, float("nan"), float("inf")]
    missing = [without] * (name != "micro_batch")  # which may be none
    for value in [*missing, *(vars(SETTLED) | {name: x} for x in odd), [], 3, None]:
        with pytest.raises(UserError, match="run.json: .*found|run.json: found"):
            settings_from_record(value, "run.json")


def test_overwrite_takes_the_folder_and_leaves_the_removing_to_later(tmp_path):
    leave(tmp_path)
    assert resume_or_refuse(tmp_path, SIGNATURE | {"seed": 7}, resume="auto", overwrite=True) is None
    assert (tmp_path / "run.json").exists() and (tmp_path / "simclr_last.pt").exists()


def test_clearing_removes_what_a_run_left_and_nothing_else(tmp_path):
    leave(tmp_path)
    kept = [".gitkeep", ".lock", "my_notes.txt", "tsne_of_my_own.png"]
    for name in ("model.pt", "tsne_view.png", *kept):
        (tmp_path / name).touch()
    (tmp_path / "fold-2").mkdir()
    (tmp_path / "fold-2" / "simclr_best.pt").touch()
    (tmp_path / "fold-of-mine").mkdir()
    clear(tmp_path)
    assert not (tmp_path / "fold-2").exists() and (tmp_path / "fold-of-mine").is_dir()
    (tmp_path / "fold-of-mine").rmdir()
    (tmp_path / "fold-1").mkdir()
    for name in ("simclr_last.pt", "my_patients.csv"):
        (tmp_path / "fold-1" / name).touch()
    clear(tmp_path)
    assert [path.name for path in (tmp_path / "fold-1").iterdir()] == ["my_patients.csv"]
    (tmp_path / "fold-1" / "my_patients.csv").unlink()
    (tmp_path / "fold-1").rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


HOLD = """
import sys
from pathlib import Path
from simclr_rhd.runs.run_dir import lock_run_dir
with lock_run_dir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_do_not_write_to_one_folder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another run"), lock_run_dir(tmp_path):
            pass
        other.stdin.close()
    with lock_run_dir(tmp_path):
        pass


def test_what_a_killed_run_left_half_saved_goes_with_the_next_lock(tmp_path):
    (tmp_path / ".simclr_last.pt.123-4.part").touch()
    with lock_run_dir(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_made_is_a_users_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--save-dir"), lock_run_dir(tmp_path / "file" / "below"):
        pass


def test_the_record_times_stages_and_says_what_ran(tmp_path):
    record = RunRecord({"data": "kept", "wall_s": {"data": 60}}, signature=SIGNATURE)
    with record.stage("data"):
        pass
    assert list(tmp_path.iterdir()) == []
    record.write_to(tmp_path / "run.json")
    with pytest.raises(ValueError), record.stage("heads"):
        raise ValueError
    saved = json.loads((tmp_path / "run.json").read_text())
    assert set(saved["wall_s"]) == {"data", "heads"} and 60 <= saved["wall_s"]["data"] < 61
    assert saved["status"] == "unfinished" and saved["data"] == "kept"
    assert saved["versions"]["torch"] != "missing" and saved["signature"] == SIGNATURE
