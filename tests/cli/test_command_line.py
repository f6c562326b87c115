import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simclr_rhd.cli.command_line import parse
from simclr_rhd.config import Config
from simclr_rhd.ssl.config import AugmentConfig

ROOT = Path(__file__).resolve().parents[2]


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as leaving:
        parse(argv)
    assert leaving.value.code == 2
    return capsys.readouterr().err


def test_the_missions_command_parses():
    config = parse("--epochs 300 --linear-epochs 60 --seed 42".split())
    assert (config.epochs, config.linear_epochs, config.seed, config.data) == (300, 60, 42, "demo")
    assert (config.batch_size, config.temperature, config.patience) == (64, 0.5, 5)


def test_train_is_the_default_command():
    assert parse(["train", "--epochs", "3"]) == parse(["--epochs", "3"])


def test_image_size_is_224_for_own_data_and_small_for_the_demo():
    assert parse(["--data", "somewhere"]).image_size == 224
    assert parse([]).image_size == 64
    assert parse(["--image-size", "96"]).image_size == 96


def test_epochs_are_as_many_as_there_is_time_for_unless_they_are_bound():
    assert parse([]).epochs == 100
    assert parse(["--minutes", "5"]).epochs == 10_000
    assert parse(["--minutes", "5", "--epochs", "100"]).epochs == 100


def test_a_short_run_has_no_rehearsal():
    rehearses = {
        minutes: parse(["--minutes", minutes]).has_rehearsal for minutes in ("0.5", "9.9", "10", "600")
    }
    assert rehearses == {"0.5": False, "9.9": False, "10": True, "600": True}
    assert parse([]).has_rehearsal and not parse(["--no-rehearsal"]).has_rehearsal


def test_the_environment_sets_another_source(monkeypatch):
    monkeypatch.setenv("SIMCLR_RHD_DATA", "gs://bucket/prefix")
    assert parse([]).data == "gs://bucket/prefix"
    assert parse(["--data", "demo"]).data == "demo"
    monkeypatch.setenv("SIMCLR_RHD_DATA", "")
    assert parse([]).data == "demo"


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = parse(["--save-dir=~/runs", "--cache-dir=~/cache"])
    assert config.save_dir == str(tmp_path / "runs") and config.cache_dir == str(tmp_path / "cache")


def test_all_contradictions_come_in_one_message(capsys):
    message = refused(
        capsys,
        "--epochs",
        "0",
        "--temperature",
        "nan",
        "--data",
        "s3://x",
        "--init",
        "nowhere.pt",
        "--labels-csv",
        "../secret.csv",
        "--flip",
        "1.5",
        "--ema-decay",
        "1",
    )
    for flag in (
        "--epochs 0",
        "--temperature nan",
        "--data s3://x",
        "--init nowhere.pt",
        "--labels-csv",
        "--flip 1.5",
        "--ema-decay 1",
    ):
        assert flag in message


@pytest.mark.parametrize(
    "argv",
    [
        ["--epo", "3"],
        ["--unknown"],
        ["predict-nothing"],
        ["--epochs", "many"],
        ["--group-by", "hospital"],
        ["stray", "words"],
        ["--epochs"],
    ],
)
def test_unknown_and_abbreviated_arguments_are_refused(capsys, argv):
    assert "error" in refused(capsys, *argv)


def test_every_field_is_a_flag_that_says_what_it_is(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    for field in filter(lambda field: field.metadata, dataclasses.fields(Config)):
        assert f"--{field.name.replace('_', '-')}" in text


def test_every_flag_is_read_somewhere():
    code = "".join(
        path.read_text() for path in (ROOT / "simclr_rhd").rglob("*.py") if path.parent.name != "cli"
    )
    views = {field.name for field in dataclasses.fields(AugmentConfig)}  # read by `augment.strengths`
    for field in filter(lambda field: field.metadata, dataclasses.fields(Config)):
        read = re.search(rf"\b(config|self)\.{field.name}\b", code) or field.name in views
        assert read, f"nothing reads --{field.name}"


def test_the_signature_ignores_where_and_how_but_not_what():
    base = parse([]).signature()
    aside = "--save-dir elsewhere --num-workers 3 --no-figures --max-rejected 0.5".split()
    assert parse(aside).signature() == base
    assert parse(["--seed", "7"]).signature() != base


def test_help_imports_nothing_heavy():
    code = (
        "import sys, main; main.main(['--help']); print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_a_table_of_patients_must_be_there(tmp_path, capsys):
    table = tmp_path / "patients.csv"
    with pytest.raises(SystemExit):
        parse(["--patients-csv", str(table)])
    assert f"--patients-csv {table}: wanted a file that exists" in capsys.readouterr().err
    table.touch()
    assert parse(["--patients-csv", str(table)]).patients_csv == str(table)


def test_a_source_that_cannot_be_written_to_is_no_save_dir(capsys, monkeypatch):
    monkeypatch.setattr("simclr_rhd.data.sources.remote.SCHEMES", ("gs://", "s3://"))
    assert parse(["--data", "s3://bucket"]).data == "s3://bucket"
    assert "--save-dir s3://bucket" in refused(capsys, "--save-dir", "s3://bucket")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--folds 3 --folds-by SITE", "the folds are the values of --folds-by SITE; drop one"),
        ("--split {file} --folds 3", "is one split; drop it, or --folds"),
        ("--split {file} --folds-by SITE", "is one split; drop it, or --folds"),
        ("--split {file} --save-dir {file.parent}", "the run writes that file anew"),
        ("--split nowhere.csv", "--split nowhere.csv: wanted 'auto', 'none' or a file that exists"),
        ("--allow-leak --folds 3", "--allow-leak: is for a split of your own"),
        ("--subgroups AGE=20/10", "--subgroups AGE=20/10: wanted columns"),
        ("--folds-by SITE,SEX", "--folds-by SITE,SEX: wanted a column"),
    ],
)
def test_splits_of_ones_own_and_folds_that_do_not_fit(capsys, tmp_path, argv, message):
    (tmp_path / "split.csv").write_text("path,part")
    assert message in refused(capsys, *argv.format(file=tmp_path / "split.csv").split())


def test_folds_by_a_column_may_have_encoders_of_their_own():
    config = parse("--folds-by SITE --pretrain-per-fold".split())
    assert config.has_folds and config.folds == 1 and not parse([]).has_folds


def test_names_that_are_not_utf8_are_refused_in_a_sentence(capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(["--data", "caf\udce9"])
    printed = capsys.readouterr().err
    assert "not in UTF-8, as names must be; rename it" in printed and "Traceback" not in printed
