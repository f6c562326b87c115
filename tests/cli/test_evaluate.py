"""The command `evaluate` without a run: what it refuses before it reads anything."""

import json

import pytest
from echo_files import encode_image, picture
from random_model import write_model

import main
from simclr_rhd.cli.command_line import parse

pytestmark = pytest.mark.usefixtures("small_network")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "wanted --data with another labelled data set"),
        (["--data", "s3://there"], "--data s3://there: wanted a folder"),
        (["--data", "here", "--model", "no/such.pt"], "--model no/such.pt: no such file"),
        (["--data", "here", "--demo-seed", "7"], "--demo-seed 7: only --data demo"),
        (
            ["--data", "demo", "--save-dir", "gs://bucket/x"],
            "--save-dir gs://bucket/x: wanted a folder of this",
        ),
        (["--data", "here", "--group-by", "frame"], "--group-by: invalid choice: 'frame'"),
        (["--data", "here", "--billing-project", "p"], "--billing-project p: only gs://BUCKET"),
    ],
)
def test_flags_that_do_not_fit_are_refused(model, capsys, flags, message):
    with pytest.raises(SystemExit) as leaving:
        parse(["evaluate", "--model", str(model), *flags])
    assert leaving.value.code == 2 and message in capsys.readouterr().err


def evaluate(tmp_path, model, *flags):
    words = [
        "--model",
        str(model),
        "--cache-dir",
        str(tmp_path / "cache"),
        "--save-dir",
        str(tmp_path / "out"),
    ]
    return main.main(["evaluate", *words, *flags])


@pytest.mark.parametrize(
    ("name", "content"),
    [("metrics.json", "{}"), ("run.json", json.dumps({"status": "finished"})), ("simclr_best.pt", "x")],
)
def test_a_run_of_the_main_job_is_never_replaced(tmp_path, model, capsys, name, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(content)
    assert evaluate(tmp_path, model, "--data", str(tmp_path), "--overwrite") == 2
    assert "holds a run of the main job" in capsys.readouterr().err
    assert (tmp_path / "out" / name).read_text() == content


def test_data_that_are_not_there_are_named(tmp_path, model, capsys):
    assert evaluate(tmp_path, model, "--data", str(tmp_path / "nowhere")) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.fixture
def hospital(tmp_path):
    """A folder of 8 patients with two frames each; of the last one the second is of an unknown view."""
    folder, rows = tmp_path / "hospital", ["FILENAME,PATIENT,VIEW-APP,CONDITION"]
    (folder / "annotated").mkdir(parents=True)
    for number in range(16):
        name = f"e{number // 2}_frame{number % 2}.png"
        (folder / "annotated" / name).write_bytes(encode_image(picture(seed=100 + number)))
        view = "Subcostal" if number == 15 else ("A4C", "PLAX")[number // 2 % 2]
        rows.append(f"{name},P{number // 2},{view},MR")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_an_evaluation_is_counted_by_its_pictures_and_kept_from_other_tasks(
    tmp_path, hospital, capsys, monkeypatch
):
    views = ["Apical Four Chamber (A4C)", "Parasternal Long Axis (PLAX)"]
    monkeypatch.setattr("random_model.CLASSES", {"view": views, "condition": ["MR", "AR"]})
    model = write_model(tmp_path / "model.pt")
    flags = ["--data", str(hospital), "--labels-csv", "labels.csv", "--labelled-prefix", "annotated"]
    flags.append("--no-figures")
    assert evaluate(tmp_path, model, *flags) == 2
    assert "no column SEVERITY" in (message := capsys.readouterr().err)
    assert '--tasks "view=VIEW-APP,condition=CONDITION"' in message
    assert evaluate(tmp_path, model, *flags, "--tasks", "view") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["external"]["targets"]["view"]["unscored"] == {"video": 1, "patient": 1}
    assert metrics["external"]["evaluations"] == 1
    assert "The model has no screening tests" in (tmp_path / "out" / "report.html").read_text()
    assert evaluate(tmp_path, model, *flags, "--tasks", "condition") == 2
    assert "holds an evaluation with other --tasks (view)" in capsys.readouterr().err
    table = hospital / "labels.csv"
    table.write_text(table.read_text() + "\n")
    (tmp_path / "out" / "confusion_matrix_condition.png").write_bytes(b"of another evaluation")
    assert evaluate(tmp_path, model, *flags, "--tasks", "view", "--overwrite") == 0
    assert not list((tmp_path / "out").glob("*.png"))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["external"]["evaluations"] == 2
