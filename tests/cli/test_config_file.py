"""Flags from a file, through the command line."""

import dataclasses
import json
import tomllib

import pytest

from simclr_rhd.cli.command_line import parse
from simclr_rhd.config import Config
from simclr_rhd.runs.record import write_config


@pytest.fixture
def write(tmp_path):
    def write(content, name="run.toml"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as leaving:
        parse(argv)
    assert leaving.value.code == 2
    return capsys.readouterr().err


def record(config, **facts):
    return json.dumps({"config": json.loads(json.dumps(vars(config))), **facts})


def test_flags_of_a_file_are_those_of_the_command_line(write):
    path = write(
        "epochs = 3\nbatch-size = 'auto'\nmin_delta = 1\nprevalence = [0.02, 0.01]\nfinetune = true\n"
        "positive = ['severity=Definite RHD']\nsubgroups = 'SITE,AGE=10/15'\nno_figures = false\n"
    )
    words = "--epochs 3 --batch-size auto --min-delta 1 --prevalence 0.01,0.02 --finetune".split()
    words += ["--positive", "severity=Definite RHD", "--subgroups", "SITE,AGE=10/15"]
    for command in ("train", "estimate"):
        assert parse([command, "--config", path]) == parse([command, *words])


def test_the_command_line_wins_over_the_file_and_the_file_over_the_environment(write, monkeypatch):
    monkeypatch.setenv("SIMCLR_RHD_DATA", "gs://bucket")
    path = write("epochs = 0\ndata = 'demo'\npositive = ['severity=Definite RHD']\nlinear_epochs = 7\n")
    config = parse(["--epochs", "100", "--config", path, "--positive", "condition=MR"])
    assert (config.epochs, config.linear_epochs, config.data) == (100, 7, "demo")  # the 0 does not count
    assert config.positive == ("condition=MR",)  # not one more


def test_other_commands_take_flags_from_a_file(write, tmp_path):
    model = tmp_path / "model.pt"
    model.touch()
    path = write(f"model = '{model}'\nframes_per_clip = 5\nprevalence = ['Normal=0.5']\n")
    config = parse(["predict", "frames", "--config", path])
    assert (config.model, config.frames_per_clip, config.prevalence) == (str(model), 5, ("Normal=0.5",))
    config = parse(["evaluate", "--config", write(f"model = '{model}'\ndata = 'demo'\ndemo_seed = 7\n")])
    assert (config.model, config.demo_seed) == (str(model), 7)


def test_a_tilde_in_a_file_is_the_home_folder(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("save_dir = '~/runs'\n")
    assert parse(["--config=~/run.toml"]).save_dir == str(tmp_path / "runs")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epoch = 3", "epoch: no such flag; the nearest is epochs"),
        ("EPOCHS = 3", "EPOCHS: no such flag; the nearest is epochs"),
        ("q = 3", "q: no such flag\n"),
        ("epochs = 'many'", "epochs: wanted a number, without quotation marks"),
        ("epochs = '3'", "epochs: wanted a number, without quotation marks"),
        (f"epochs = {'9' * 400}", "epochs 999"),
        ("epochs = 3.5", "epochs: invalid int value: '3.5'"),
        ("epochs = true", "epochs: invalid int value: 'true'"),
        ("epochs = [3]", "epochs: invalid int value: '[3]'"),
        ("epochs = 2026-11-27", "epochs: invalid int value: '2026-11-27'"),
        ("epochs = {a = 1}", "epochs: is a table; wanted flags without"),
        ("batch_size = 'few'", "batch_size: invalid int or 'auto' value: 'few'"),
        ("prevalence = ['a']", "prevalence: invalid list of numbers value: 'a'"),
        ("group_by = 'hospital'", "group_by: invalid choice: 'hospital'"),
        ("finetune = 'yes'", "finetune: wanted true or false"),
        ("save_dir = 3", "save_dir: wanted text in quotation marks"),
        ("positive = 'a=b'", "positive: wanted a list of texts"),
        ("epochs = 0", "epochs 0: wanted from 1 to 100,000"),
        ("flip = 1.5", "flip 1.5: wanted between 0 and 1"),
        ("init = 'nowhere.pt'", "init nowhere.pt: wanted 'random', 'imagenet', or a file that exists"),
        ("overwrite = true", "overwrite: is for the command line alone"),
        ("evaluate_again = true", "evaluate_again: is for the command line alone"),
        ("batch-size = 8\nbatch_size = 8", "batch_size: is set twice, with - and with _"),
        ("[heads]\nlinear_epochs = 3", "heads: is a table; wanted flags without"),
        ('"\\u001b[31mx" = 3', "x: no such flag"),
        ('split = "\\u001b[31mx"', "split x: wanted 'auto'"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_file_and_key(write, capsys, line, message):
    path = write(line + "\n")
    printed = refused(capsys, "--config", path)
    assert f"{path}: {message}" in printed and "Traceback" not in printed and "\x1b" not in printed


def test_no_value_of_a_file_commands_the_terminal(write, capsys):
    printed = refused(capsys, "--config", write('tasks = "\\u001b[31mx="\n'))
    assert "--tasks x=: " in printed and "\x1b" not in printed


def test_all_that_is_wrong_in_a_file_comes_in_one_message(write, capsys):
    printed = refused(capsys, "--config", write("epoch = 3\nbatch_size = 'few'\nfinetune = 1\n"))
    assert all(part in printed for part in ("epoch:", "batch_size:", "finetune:"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epochs = = 3", "is not valid TOML (Invalid value"),
        (b"epochs = 3\nepochs = 4", "is not valid TOML (Cannot overwrite a value"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (b"a = " + b"[\n" * 5000, "is nested too deep"),
        (b"a" + b".a" * 40_000 + b" = 1", "a line has more than 2,000 characters"),
        (b"\n".join(b"k%d = 1" % number for number in range(50)), "and 30 more"),
        (b"# long\n" * 20_000, "has more than 100,000 bytes"),
    ],
)
def test_a_file_that_is_no_file_of_flags_is_refused_in_few_words(write, capsys, content, message):
    printed = refused(capsys, "--config", write(content))
    assert message in printed and "Traceback" not in printed


def test_a_file_that_cannot_be_read_is_refused(tmp_path, capsys):
    assert "nowhere.toml: no such file" in refused(capsys, "--config", str(tmp_path / "nowhere.toml"))
    assert "is no file" in refused(capsys, "--config", str(tmp_path))
    assert "--config is empty; wanted a file of flags" in refused(capsys, "--config", "")
    assert "--config: found 2 files, wanted one" in refused(capsys, "--config", "a", "--config", "b")


def test_the_record_of_a_run_gives_its_flags_but_not_its_folder(write):
    before = parse("--epochs 3 --save-dir elsewhere --resume never --overwrite --positive view=PLAX".split())
    path = write(record(before, status="finished"), "run.json")
    config = parse(["--config", path])
    assert config.signature() == before.signature()
    assert (config.save_dir, config.resume, config.overwrite) == ("models", "auto", False)
    assert parse(["--config", path, "--seed", "7"]).seed == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "has no configuration"),
        ("[]", "has no configuration"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON (nested too deep)"),
        ('{"config": {}, "command": "evaluate"}', "is a record of evaluate, wanted one of the main job"),
        ('{"config": {"old_flag": 3}}', "old_flag: no such flag"),
        ('{"config": {"epochs": "many"}}', "epochs: wanted a number, without quotation marks"),
    ],
)
def test_what_is_no_record_of_the_main_job_is_refused(write, capsys, content, message):
    assert message in refused(capsys, "--config", write(content, "run.json"))


def test_what_a_run_writes_can_be_read_again(tmp_path):
    words = "--prevalence 0.01 --learning-rate 1e-7 --checkpoint-minutes inf --finetune --folds 3".split()
    odd = 'severity=a"b\\c\x7f\x07ü,#'
    config = parse([*words, "--positive", odd, "--save-dir", "elsewhere", "--overwrite"])
    write_config(tmp_path / "config.toml", config)
    again = parse(["--config", str(tmp_path / "config.toml"), "--save-dir", "elsewhere", "--overwrite"])
    assert again == config
    text = (tmp_path / "config.toml").read_text()
    assert (
        "# pretraining epochs at most (default: 100; with --minutes " in text and "\nepochs = 100\n" in text
    )
    given = {field.name for field in dataclasses.fields(Config) if getattr(config, field.name) is not None}
    assert given - set(tomllib.loads(text)) == {
        "save_dir",
        "resume",
        "overwrite",
        "evaluate_again",
        "command",
    }


def test_a_file_of_ones_own_is_not_replaced_by_the_run_that_reads_it(write, tmp_path, capsys):
    path = write("epochs = 3\n", "config.toml")
    message = refused(capsys, "--config", path, "--save-dir", str(tmp_path))
    assert "the run writes that file anew" in message
    write_config(tmp_path / "config.toml", parse(["--epochs", "3"]))
    assert parse(["--config", path, "--save-dir", str(tmp_path)]).epochs == 3


def test_a_run_from_its_own_files_is_the_same_run(tmp_path, capfd):
    from small_run import arguments, run_small  # imports torch, which no other test here needs

    flags = ["--no-figures", "--no-rehearsal"]
    folder = tmp_path / "run"
    assert run_small(arguments(tmp_path / "cache", folder, *flags)) == 0
    for name in ("config.toml", "run.json"):
        capfd.readouterr()
        assert run_small(["--config", str(folder / name), "--save-dir", str(folder)]) == 0
        assert "This run was finished on" in capfd.readouterr().out
